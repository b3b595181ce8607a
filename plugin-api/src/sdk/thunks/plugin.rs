//! Root table, control face, device administration.

use super::guard::{self, Object};
use crate::abi::{
    ABI_MAJOR, ABI_MINOR, CallPtr, ControlTable, ControlTablePtr, Handle, HostServicesPtr,
    PluginModule, PluginModuleRef, PluginTable, PluginTableRef, Status, Str,
};
use crate::sdk::{Faces, Host, Plugin, logging};
use abi_stable::prefix_type::{PrefixTypeTrait, WithMetadata};
use abi_stable::std_types::RNone;
use std::marker::PhantomData;

struct Root<P>(PhantomData<P>);

impl<P: Plugin> Root<P> {
    const CONTROL: &'static ControlTable = &ControlTable {
        size: size_of::<ControlTable>() as u32,
        version: ABI_MINOR as u32,
        validate: Some(validate::<P>),
        scan: Some(scan::<P>),
        prepare: Some(prepare::<P>),
        release: Some(release::<P>),
        devices: Some(devices::<P>),
        format: Some(format::<P>),
        mount: Some(mount::<P>),
        unmount: Some(unmount::<P>),
        health: Some(health::<P>),
        firmware: Some(firmware::<P>),
        quiesce: Some(quiesce::<P>),
    };

    const VALUE: PluginTable = PluginTable {
        size: size_of::<PluginTable>() as u32,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        manifest: Str::new(P::MANIFEST),
        create: create::<P>,
        destroy: destroy::<P>,
        thread_attach: Some(thread_attach::<P>),
        thread_detach: Some(thread_detach::<P>),
        control: ControlTablePtr(Self::CONTROL),
        device_admin: <P as Faces>::DEVICE_ADMIN,
        bdev: <P as Faces>::BDEV,
        scm: <P as Faces>::SCM,
        fabric: <P as Faces>::FABRIC,
    };

    const TABLE: &'static PluginTable = &Self::VALUE;

    const PREFIX: &'static WithMetadata<PluginTable> = &WithMetadata::new(Self::VALUE);
}

/// The table of plugin `P`.
pub fn table<P: Plugin>() -> &'static PluginTable {
    Root::<P>::TABLE
}

/// The root module of plugin `P`, for the Rust entry.
pub fn root_module<P: Plugin>() -> PluginModuleRef {
    PluginModule {
        plugin: PluginTableRef(Root::<P>::PREFIX.static_as_prefix()),
        control: RNone,
        device_admin: RNone,
        bdev: RNone,
        scm: RNone,
        fabric: RNone,
        call: RNone,
        host_services: RNone,
    }
    .leak_into_prefix()
}

unsafe extern "C" fn create<P: Plugin>(
    host: HostServicesPtr,
    call: CallPtr,
    settings: Str,
    plugin: *mut Handle,
) -> Status {
    // SAFETY: `call`, `settings` and `plugin` are the host's and live for this call; `host` lives
    // until `destroy`.
    unsafe {
        guard::control_free(call, "create", |context| {
            let host = Host::from_abi(host);
            logging::install(host);
            // Also when `create` panics, so not after it.
            let undo = Forget(Some(host));
            let settings = guard::document(settings)?;
            let value = P::create(host, context, settings)?;
            *plugin = Object::into_handle(value);
            undo.keep(*plugin);
            Ok(())
        })
    }
}

/// Ends the forwarding of log lines unless an instance was made.
struct Forget(Option<Host>);

impl Forget {
    fn keep(mut self, instance: Handle) {
        if let Some(host) = self.0.take() {
            logging::bind(host, instance);
        }
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        if let Some(host) = self.0.take() {
            logging::forget(host);
        }
    }
}

unsafe extern "C" fn destroy<P: Plugin>(plugin: Handle) {
    // SAFETY: the host passes the handle of `create` once, as the last call.
    unsafe { Object::<P>::drop_handle(plugin) }
    logging::release(plugin);
}

unsafe extern "C" fn thread_attach<P: Plugin>(plugin: Handle) -> Status {
    // SAFETY: the host passes the live handle of `create`.
    let result = unsafe {
        Object::<P>::with(
            plugin,
            |p| p.thread_attach().map_err(|e| e.status),
            |_| Status::PANIC,
        )
    };
    guard::status(result)
}

unsafe extern "C" fn thread_detach<P: Plugin>(plugin: Handle) {
    // SAFETY: the host passes the live handle of `create`.
    let _ = unsafe {
        Object::<P>::with(
            plugin,
            |p| {
                p.thread_detach();
                Ok::<(), Status>(())
            },
            |_| Status::PANIC,
        )
    };
}

macro_rules! control_functions {
    ($($name:ident: |$p:ident, $context:ident, $request:ident| $body:expr;)*) => {
        $(unsafe extern "C" fn $name<P: Plugin>(plugin: Handle, call: CallPtr, request: Str) -> Status {
            // SAFETY: the host passes the live handle of `create`, a live call and request.
            unsafe {
                guard::control::<P>(plugin, call, stringify!($name), |$p, $context| {
                    let $request = guard::document(request)?;
                    let result = $body?;
                    guard::answer($context, &result)
                })
            }
        })*
    };
}

control_functions! {
    validate: |p, context, request| p.validate(context, request);
    prepare: |p, context, request| p.prepare(context, request);
    release: |p, context, request| p.release(context, request);
    devices: |p, context, request| p.devices(context, request);
    format: |p, context, request| p.format(context, request);
    mount: |p, context, request| p.mount(context, request);
    unmount: |p, context, request| p.unmount(context, request);
    health: |p, context, request| p.health(context, request);
    firmware: |p, context, request| p.firmware(context, request);
    quiesce: |p, context, request| p.quiesce(context, request);
}

unsafe extern "C" fn scan<P: Plugin>(plugin: Handle, call: CallPtr, _request: Str) -> Status {
    // SAFETY: the host passes the live handle of `create` and a live call.
    unsafe {
        guard::control::<P>(plugin, call, "scan", |p, context| {
            let report = p.scan(context)?;
            guard::answer(context, &report)
        })
    }
}
