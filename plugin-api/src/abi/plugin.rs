//! The plugin as a whole: its root table, the control face and device administration.

use super::{BdevTable, CallPtr, FabricTable, Handle, HostServicesPtr, ScmTable, Status, Str};
use abi_stable::StableAbi;

/// A function of the control face: takes a JSON document, answers with one through
/// `Call::output`. Documents are described in the `control` module of the SDK.
pub type ControlFn = unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status;

macro_rules! pointer_to {
    ($(#[$doc:meta])* $name:ident, $table:ty) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, StableAbi)]
        pub struct $name(#[sabi(unsafe_opaque_field)] pub *const $table);

        // SAFETY: tables are immutable statics of the plugin, which is never unloaded.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}

        impl $name {
            /// "This plugin has no such table".
            pub const NULL: Self = Self(core::ptr::null());
        }
    };
}

pointer_to!(
    /// Pointer to a [`ControlTable`].
    ControlTablePtr, ControlTable);
pointer_to!(
    /// Pointer to a [`DeviceAdminTable`], null if the plugin has none.
    DeviceAdminTablePtr, DeviceAdminTable);
pointer_to!(
    /// Pointer to a [`BdevTable`], null if the plugin has no bdev class.
    BdevTablePtr, BdevTable);
pointer_to!(
    /// Pointer to a [`ScmTable`], null if the plugin has no SCM class.
    ScmTablePtr, ScmTable);
pointer_to!(
    /// Pointer to a [`FabricTable`], null if the plugin has no fabric class.
    FabricTablePtr, FabricTable);

/// Root of everything a plugin provides; both entries (Rust root module, C entry) lead here.
/// A static of the plugin: never changes, never goes away.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginTableRef, prefix_fields = PluginTablePrefix)))]
#[sabi(missing_field(option))]
pub struct PluginTable {
    /// Bytes of this struct that the plugin filled.
    pub size: u32,
    /// [`ABI_MAJOR`](super::ABI_MAJOR) the plugin was built with.
    pub abi_major: u16,
    /// [`ABI_MINOR`](super::ABI_MINOR) the plugin was built with.
    pub abi_minor: u16,
    /// The manifest (JSON), the same text as in the ELF note. Static.
    pub manifest: Str,
    /// Makes the plugin's instance (one per process). `settings` is the JSON object of
    /// `plugins: <name>: settings:` in the config, `{}` if absent. Called once, before all else.
    pub create: unsafe extern "C" fn(
        host: HostServicesPtr,
        call: CallPtr,
        settings: Str,
        plugin: *mut Handle,
    ) -> Status,
    /// Releases the instance; everything opened from it is closed before.
    pub destroy: unsafe extern "C" fn(plugin: Handle),
    /// Called on each thread that will use a queue or endpoint of this plugin, before its first
    /// call; device libraries keep per-thread state. Null = not needed.
    pub thread_attach: Option<unsafe extern "C" fn(plugin: Handle) -> Status>,
    /// Undoes `thread_attach` on the same thread, after its last call.
    pub thread_detach: Option<unsafe extern "C" fn(plugin: Handle)>,
    /// Control face; never null.
    pub control: ControlTablePtr,
    /// Administration of open devices beside the data path.
    pub device_admin: DeviceAdminTablePtr,
    /// Block devices.
    pub bdev: BdevTablePtr,
    /// Storage-class memory.
    pub scm: ScmTablePtr,
    /// Fabric.
    #[sabi(last_prefix_field)]
    pub fabric: FabricTablePtr,
}

// SAFETY: a table holds function pointers and pointers to statics, nothing that is written to.
unsafe impl Send for PluginTable {}
// SAFETY: as above.
unsafe impl Sync for PluginTable {}

/// The rich, slow face. Every member may be null ("not supported"). Calls come from one thread
/// at a time, in a helper process of the plugin's own, never in the daemon.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ControlTableRef, prefix_fields = ControlTablePrefix)))]
#[sabi(missing_field(option))]
pub struct ControlTable {
    /// Bytes of this struct that the plugin filled.
    pub size: u32,
    /// Interface minor version of the plugin.
    pub version: u32,
    /// Checks the class config beyond its schema, without touching a device.
    pub validate:
        Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// Lists devices (or interfaces) that this plugin could drive.
    pub scan: Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// Makes devices ready for use (driver binding, hugepages, namespaces).
    pub prepare:
        Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// Gives devices back to where `prepare` took them from.
    pub release:
        Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// Lists the devices of a class config, in the order in which the engine numbers them, with
    /// their state; reads only.
    pub devices:
        Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// Makes one device ready to be labelled: creates the file, wipes, mounts. Destructive.
    pub format: Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// SCM: makes formatted storage available again after a boot (mounts it). Never destructive.
    pub mount: Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// SCM: undoes `mount`.
    pub unmount:
        Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// Health of a device that no engine holds.
    pub health: Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// Reads or updates firmware of a device that no engine holds.
    #[sabi(last_prefix_field)]
    pub firmware:
        Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
    /// Brings a block device to rest whose user has died: once it succeeds, nothing that the dead process
    /// began reads or writes its memory or the device any more. Called before anybody else opens the
    /// device, as often as it takes. Changes no content. BUSY while a living process has the device.
    /// Null: the end of a process is the end of its I/O. Since 1.1.
    pub quiesce:
        Option<unsafe extern "C" fn(plugin: Handle, call: CallPtr, request: Str) -> Status>,
}

// SAFETY: function pointers only.
unsafe impl Send for ControlTable {}
// SAFETY: as above.
unsafe impl Sync for ControlTable {}

/// A function of [`DeviceAdminTable`] on an open bdev.
pub type DeviceAdminFn = unsafe extern "C" fn(bdev: Handle, call: CallPtr) -> Status;

/// Slow questions to an open device, asked by the engine that holds it, on its admin thread
/// (the one that calls `poll_admin`), never on a target thread.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = DeviceAdminTableRef, prefix_fields = DeviceAdminTablePrefix)))]
#[sabi(missing_field(option))]
pub struct DeviceAdminTable {
    /// Bytes of this struct that the plugin filled.
    pub size: u32,
    /// Interface minor version of the plugin.
    pub version: u32,
    /// Model, serial, firmware ... as a device record of `scan`.
    pub identity: Option<unsafe extern "C" fn(bdev: Handle, call: CallPtr) -> Status>,
    /// Health document.
    #[sabi(last_prefix_field)]
    pub health: Option<unsafe extern "C" fn(bdev: Handle, call: CallPtr) -> Status>,
}

// SAFETY: function pointers only.
unsafe impl Send for DeviceAdminTable {}
// SAFETY: as above.
unsafe impl Sync for DeviceAdminTable {}
