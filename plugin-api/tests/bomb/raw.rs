//! Calls every function of every table by name, as a host in C would: no wrapper in between.

use super::Bomb;
use daos_plugin_api::abi::*;
use daos_plugin_api::sdk::thunks;
use std::ffi::c_void;
use std::ptr::null_mut;

/// What a function returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Status(Status),
    /// It returns nothing that could tell; what matters is that it returned.
    Returned,
}

const DEVICE: &str = r#"{"class": "x", "index": 0, "address": "x", "state": "present"}"#;
const REQUEST: &str = r#"{"class": "x", "device": {"class": "x", "index": 0, "address": "x",
    "state": "present"}, "index": 0, "address": "x", "state": "present", "provider": "x"}"#;

unsafe extern "C" fn no_progress(_: *mut c_void, _: u64, _: u64, _: Str) {}

unsafe extern "C" fn never(_: *mut c_void) -> u8 {
    0
}

unsafe extern "C" fn keep(ctx: *mut c_void, error: *const ErrorInfo) {
    // SAFETY: `ctx` is the `failures` of a caller, `error` lives for the call with its texts.
    unsafe {
        let info = &*error;
        let text =
            |s: Str| String::from_utf8_lossy(std::slice::from_raw_parts(s.ptr, s.len)).into_owned();
        let failures = &mut *ctx.cast::<Vec<String>>();
        failures.push(format!("{}: {}", text(info.what), text(info.cause)));
    }
}

unsafe extern "C" fn discard(_: *mut c_void, _: *const u8, _: usize) {}

unsafe extern "C" fn no_level(_: *mut c_void) -> LogLevel {
    LogLevel(0)
}

unsafe extern "C" fn no_log(_: *mut c_void, _: LogLevel, _: Str, _: Str) {}

unsafe extern "C" fn no_metric(_: *mut c_void, _: MetricKind, _: Str, _: Str, _: Str) -> u64 {
    0
}

unsafe extern "C" fn no_record(_: *mut c_void, _: u64, _: f64) {}

unsafe extern "C" fn no_number(_: *mut c_void, _: Str, _: Str, _: *mut u64) -> Status {
    Status::NOT_FOUND
}

unsafe extern "C" fn no_text(_: *mut c_void, _: Str, _: Str, _: Sink) -> Status {
    Status::NOT_FOUND
}

/// An instance with one object of each kind opened from it; those that the fuse kept from
/// opening are null.
pub(crate) struct Caller {
    table: &'static PluginTable,
    _host: Box<HostServices>,
    call: Box<Call>,
    /// What was reported through `Call::fail`.
    failures: *mut Vec<String>,
    pub(crate) created: Status,
    plugin: Handle,
    bdev: Handle,
    queue: Handle,
    scm: Handle,
    region: Handle,
    domain: Handle,
    registration: Handle,
    endpoint: Handle,
}

impl Caller {
    /// Makes an instance with this fuse and opens everything whose opening does not go off.
    pub(crate) fn new(fuse: &str) -> Self {
        let failures = Box::into_raw(Box::<Vec<String>>::default());
        let host = Box::new(HostServices {
            size: size_of::<HostServices>() as u32,
            version: 0,
            ctx: null_mut(),
            flags: HostServices::BUILT_IN,
            log_level: no_level,
            log: no_log,
            metric_register: no_metric,
            metric_record: no_record,
            json_u64: no_number,
            json_str: no_text,
        });
        let call = Box::new(Call {
            size: size_of::<Call>() as u32,
            version: 0,
            ctx: failures.cast(),
            deadline_ms: 0,
            progress: no_progress,
            cancelled: never,
            fail: keep,
            output: discard,
        });
        let table = thunks::table::<Bomb>();
        let settings = format!(r#"{{"fuse": "{fuse}"}}"#);
        let mut plugin = null_mut();
        // SAFETY: all pointers live for the call, the host table as long as the caller.
        let created = unsafe {
            (table.create)(
                HostServicesPtr(&*host),
                CallPtr(&*call),
                Str::new(&settings),
                &mut plugin,
            )
        };
        let mut caller = Self {
            table,
            _host: host,
            call,
            failures,
            created,
            plugin,
            bdev: null_mut(),
            queue: null_mut(),
            scm: null_mut(),
            region: null_mut(),
            domain: null_mut(),
            registration: null_mut(),
            endpoint: null_mut(),
        };
        if created.is_ok() {
            for open in [
                "bdev.open",
                "bdev.open_queue",
                "scm.open",
                "scm.create_region",
                "fabric.open",
                "fabric.register",
                "fabric.open_endpoint",
            ] {
                // What belongs to something that does not open cannot be opened either.
                let face = open.split('.').next().unwrap_or_default();
                if open != fuse && fuse != format!("{face}.open") {
                    assert_eq!(caller.call(open), Outcome::Status(Status::OK), "{open}");
                }
            }
        }
        caller
    }

    /// The last failure reported.
    pub(crate) fn failure(&self) -> String {
        // SAFETY: `failures` is ours until drop and nobody is in a call.
        let failures = unsafe { &*self.failures };
        failures.last().cloned().unwrap_or_default()
    }

    /// Calls the function of that name.
    #[allow(clippy::too_many_lines)] // one arm per function of the interface
    pub(crate) fn call(&mut self, name: &str) -> Outcome {
        let call = CallPtr(&*self.call);
        let (request, device) = (Str::new(REQUEST), Str::new(DEVICE));
        let p = self.plugin;
        let t = self.table;
        let mut wait = Wait::BUSY;
        let counted = |n: i32| Status(n.min(0).saturating_neg());
        let sink = Sink {
            ctx: null_mut(),
            write: discard,
        };
        // SAFETY: tables are statics; handles are those that the open functions gave; pointers
        // live for the call; records of integers may be zero.
        let status = unsafe {
            let control = &*t.control.0;
            let admin = &*t.device_admin.0;
            let bdev = &*t.bdev.0;
            let scm = &*t.scm.0;
            let fabric = &*t.fabric.0;
            let io: Request = std::mem::zeroed();
            let message: FabricRequest = std::mem::zeroed();
            match name {
                "thread_attach" => t.thread_attach.unwrap()(p),
                "thread_detach" => {
                    t.thread_detach.unwrap()(p);
                    return Outcome::Returned;
                }
                "validate" => control.validate.unwrap()(p, call, request),
                "scan" => control.scan.unwrap()(p, call, request),
                "prepare" => control.prepare.unwrap()(p, call, request),
                "release" => control.release.unwrap()(p, call, request),
                "devices" => control.devices.unwrap()(p, call, request),
                "format" => control.format.unwrap()(p, call, request),
                "mount" => control.mount.unwrap()(p, call, request),
                "unmount" => control.unmount.unwrap()(p, call, request),
                "health" => control.health.unwrap()(p, call, request),
                "firmware" => control.firmware.unwrap()(p, call, request),
                "quiesce" => control.quiesce.unwrap()(p, call, request),
                "device_admin.identity" => admin.identity.unwrap()(self.bdev, call),
                "device_admin.health" => admin.health.unwrap()(self.bdev, call),
                "bdev.open" => (bdev.open)(p, call, device, &mut self.bdev),
                "bdev.geometry" => {
                    let mut out: BdevGeometry = std::mem::zeroed();
                    (bdev.geometry)(self.bdev, &mut out)
                }
                "bdev.poll_admin" => bdev.poll_admin.unwrap()(self.bdev),
                "bdev.next_event" => {
                    let mut out: BdevEvent = std::mem::zeroed();
                    let there = bdev.next_event.unwrap()(self.bdev, &mut out);
                    assert_eq!(there, 0, "a broken device has no events");
                    return Outcome::Returned;
                }
                "bdev.reset" => bdev.reset.unwrap()(self.bdev, call),
                "bdev.open_queue" => (bdev.open_queue)(self.bdev, call, 1, &mut self.queue),
                "bdev.submit" => counted((bdev.submit)(self.queue, &io, 1)),
                "bdev.poll" => {
                    let mut out: Completion = std::mem::zeroed();
                    counted((bdev.poll)(self.queue, &mut out, 1))
                }
                "bdev.abort" => bdev.abort.unwrap()(self.queue, 1),
                "bdev.reconnect" => bdev.reconnect.unwrap()(self.queue),
                "bdev.arm_wait" => (bdev.arm_wait)(self.queue, &mut wait),
                "bdev.memory_alloc" => {
                    bdev.memory_alloc.unwrap()(p, call, 1, -1, &mut std::ptr::null_mut())
                }
                "bdev.memory_free" => {
                    bdev.memory_free.unwrap()(p, null_mut(), 1);
                    return Outcome::Returned;
                }
                "bdev.memory_register" => bdev.memory_register.unwrap()(p, call, null_mut(), 1),
                "bdev.memory_unregister" => bdev.memory_unregister.unwrap()(p, null_mut(), 1),
                "scm.open" => (scm.open)(p, call, device, &mut self.scm),
                "scm.info" => (scm.info)(self.scm, &mut std::mem::zeroed()),
                "scm.mount_point" => (scm.mount_point)(self.scm, sink),
                "scm.create_region" | "scm.open_region" => {
                    let mut out: ScmRegion = std::mem::zeroed();
                    let flags = if name == "scm.open_region" {
                        0
                    } else {
                        SCM_CREATE
                    };
                    let status =
                        (scm.open_region)(self.scm, call, Str::new("r"), 1, flags, &mut out);
                    if status.is_ok() {
                        self.region = out.handle;
                    }
                    status
                }
                "scm.remove_region" => (scm.remove_region)(self.scm, call, Str::new("r")),
                "scm.persist" => (scm.persist)(self.scm, std::ptr::null(), 0),
                "scm.flush" => (scm.flush)(self.scm, std::ptr::null(), 0),
                "scm.drain" => (scm.drain)(self.scm),
                "fabric.open" => (fabric.open)(p, call, request, &mut self.domain),
                "fabric.info" => (fabric.info)(self.domain, &mut std::mem::zeroed()),
                "fabric.register" => {
                    let mut out: MemoryRegion = std::mem::zeroed();
                    let status = (fabric.register)(self.domain, call, null_mut(), 0, 1, &mut out);
                    if status.is_ok() {
                        self.registration = out.handle;
                    }
                    status
                }
                "fabric.open_endpoint" => {
                    (fabric.open_endpoint)(self.domain, call, &mut self.endpoint)
                }
                "fabric.address" => (fabric.address)(self.endpoint, sink),
                "fabric.resolve" => (fabric.resolve)(self.endpoint, &1, 1, &mut 0),
                "fabric.release" => (fabric.release)(self.endpoint, 1),
                "fabric.submit" => counted((fabric.submit)(self.endpoint, &message, 1)),
                "fabric.poll" => {
                    let mut out: FabricCompletion = std::mem::zeroed();
                    counted((fabric.poll)(self.endpoint, &mut out, 1))
                }
                "fabric.cancel" => (fabric.cancel)(self.endpoint, 1),
                "fabric.arm_wait" => (fabric.arm_wait)(self.endpoint, &mut wait),
                other => panic!("no function {other}"),
            }
        };
        Outcome::Status(status)
    }
}

impl Drop for Caller {
    /// Closes everything in order; a destructor that goes off must return all the same.
    fn drop(&mut self) {
        let t = self.table;
        // SAFETY: live handles, each closed once, children before parents.
        unsafe {
            let (bdev, scm, fabric) = (&*t.bdev.0, &*t.scm.0, &*t.fabric.0);
            let close = |handle: Handle, f: &dyn Fn(Handle)| {
                if !handle.is_null() {
                    f(handle);
                }
            };
            close(self.endpoint, &|h| (fabric.close_endpoint)(h));
            close(self.registration, &|h| {
                (fabric.unregister)(self.domain, h);
            });
            close(self.domain, &|h| (fabric.close)(h));
            close(self.region, &|h| (scm.close_region)(self.scm, h));
            close(self.scm, &|h| (scm.close)(h));
            close(self.queue, &|h| (bdev.close_queue)(h));
            close(self.bdev, &|h| (bdev.close)(h));
            close(self.plugin, &|h| (t.destroy)(h));
            drop(Box::from_raw(self.failures));
        }
    }
}
