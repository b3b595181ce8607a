//! How a host finds the tables: ELF note, Rust root module, C entry.

use super::{
    BdevTableRef, CallRef, ControlTableRef, DeviceAdminTableRef, FabricTableRef, HostServicesRef,
    PluginTable, PluginTableRef, ScmTableRef,
};
use abi_stable::{
    StableAbi, library::RootModule, package_version_strings, sabi_types::VersionStrings,
    std_types::ROption,
};

/// Root module of Rust plugins. Only `plugin` carries a value; the other members exist so that
/// the layout of every table and context is compared at load.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    /// The plugin's table.
    pub plugin: PluginTableRef,
    /// Layout witness, always `RNone`.
    pub control: ROption<ControlTableRef>,
    /// Layout witness, always `RNone`.
    pub device_admin: ROption<DeviceAdminTableRef>,
    /// Layout witness, always `RNone`.
    pub bdev: ROption<BdevTableRef>,
    /// Layout witness, always `RNone`.
    pub scm: ROption<ScmTableRef>,
    /// Layout witness, always `RNone`.
    pub fabric: ROption<FabricTableRef>,
    /// Layout witness, always `RNone`.
    pub call: ROption<CallRef>,
    /// Layout witness, always `RNone`.
    #[sabi(last_prefix_field)]
    pub host_services: ROption<HostServicesRef>,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "daos_plugin";
    const NAME: &'static str = "daos_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// Symbol under which abi_stable expects the library header of a Rust plugin.
pub const RUST_ENTRY: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// Symbol of the C entry, a function of type [`CEntry`].
pub const C_ENTRY: &str = "daos_plugin_entry_v1";

/// The C entry: returns the plugin's static table, or null if the plugin cannot serve a host of
/// that version. Called once, before everything else.
pub type CEntry = unsafe extern "C" fn(host_major: u16, host_minor: u16) -> *const PluginTable;

/// Name of the ELF section that carries the manifest note.
pub const NOTE_SECTION: &str = ".note.daos.plugin";
/// Owner name of the note.
pub const NOTE_OWNER: &[u8; 5] = b"DAOS\0";
/// Type of the note.
pub const NOTE_TYPE: u32 = 0x504c_5547;

/// Flag in [`NoteHeader::flags`]: built with panic=abort, so panics cannot be contained.
pub const NOTE_PANIC_ABORT: u32 = 1;
/// Flag in [`NoteHeader::flags`]: has a Rust root module (else only the C entry).
pub const NOTE_RUST: u32 = 2;

/// Start of the note's descriptor; the manifest JSON follows directly.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NoteHeader {
    /// [`ABI_MAJOR`](super::ABI_MAJOR) of the plugin.
    pub abi_major: u16,
    /// [`ABI_MINOR`](super::ABI_MINOR) of the plugin.
    pub abi_minor: u16,
    /// `NOTE_*` flags.
    pub flags: u32,
    /// Bytes of manifest JSON that follow.
    pub json_len: u32,
}

/// A complete ELF note (System V ABI, "Note Section": namesz, descsz, type, name and descriptor
/// each padded to 4 bytes). `N` is the length of the manifest.
#[repr(C, align(4))]
pub struct Note<const N: usize> {
    namesz: u32,
    descsz: u32,
    kind: u32,
    name: [u8; 8],
    header: NoteHeader,
    json: [u8; N],
}

impl<const N: usize> Note<N> {
    /// Builds the note of a plugin with this manifest (`manifest.len() == N`).
    pub const fn new(manifest: &str, flags: u32) -> Self {
        let bytes = manifest.as_bytes();
        assert!(bytes.len() == N, "manifest length differs from the note's");
        let mut json = [0u8; N];
        let mut at = 0;
        while at < N {
            json[at] = bytes[at];
            at += 1;
        }
        Self {
            namesz: NOTE_OWNER.len() as u32,
            descsz: (core::mem::size_of::<NoteHeader>() + N) as u32,
            kind: NOTE_TYPE,
            name: *b"DAOS\0\0\0\0",
            header: NoteHeader {
                abi_major: super::ABI_MAJOR,
                abi_minor: super::ABI_MINOR,
                flags,
                json_len: N as u32,
            },
            json,
        }
    }
}
