//! Vocabulary shared by all tables: text, sinks, status codes, call and host contexts.

use abi_stable::StableAbi;
use core::ffi::c_void;

/// Borrowed UTF-8 text: `ptr` may be null when `len` is 0. Valid for the duration of the call
/// unless the member that carries it says otherwise.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct Str {
    /// First byte; no terminating zero.
    pub ptr: *const u8,
    /// Length in bytes.
    pub len: usize,
}

impl Str {
    /// The empty text.
    pub const EMPTY: Self = Self {
        ptr: core::ptr::null(),
        len: 0,
    };

    /// Borrows `text`; the caller keeps it alive as long as the receiver may read it.
    pub const fn new(text: &str) -> Self {
        Self {
            ptr: text.as_ptr(),
            len: text.len(),
        }
    }
}

// SAFETY: a `Str` is a pair of plain values; whoever dereferences it vouches for the lifetime.
unsafe impl Send for Str {}
// SAFETY: as above; nothing is written through it.
unsafe impl Sync for Str {}

/// Result code of every table function. Fixed numbers: never renumbered, only appended.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, StableAbi)]
pub struct Status(pub i32);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Short name of the code, "unknown status" for a number of a newer interface.
            pub const fn name(self) -> &'static str {
                match self.0 { $($value => $text,)* _ => "unknown status" }
            }

            /// Every code this version knows.
            pub const ALL: &'static [Self] = &[$(Self($value)),*];
        }
    };
}

statuses! {
    /// Success.
    OK = 0, "ok";
    /// An argument, config value or request is malformed or out of range.
    INVALID = 1, "invalid argument";
    /// The named object does not exist.
    NOT_FOUND = 2, "not found";
    /// The named object exists already.
    EXISTS = 3, "already exists";
    /// No space left on the device, file system or in the region allocator.
    NO_SPACE = 4, "no space left";
    /// Not enough memory.
    NO_MEMORY = 5, "out of memory";
    /// The device or transport failed the operation.
    IO = 6, "I/O error";
    /// The medium reported an uncorrectable error at this address.
    MEDIA = 7, "media error";
    /// The device was removed; every later request fails in the same way.
    DEVICE_GONE = 8, "device gone";
    /// A deadline passed.
    TIMED_OUT = 9, "timed out";
    /// The host asked to stop, or `abort`/`cancel` hit this request.
    CANCELLED = 10, "cancelled";
    /// The object is in use.
    BUSY = 11, "busy";
    /// The plugin or device has no such function.
    NOT_SUPPORTED = 12, "not supported";
    /// Missing privilege.
    PERMISSION = 13, "permission denied";
    /// Plugin code panicked; the instance is poisoned.
    PANIC = 14, "plugin panicked";
    /// An earlier call on this object panicked; it is not called again.
    POISONED = 15, "poisoned by an earlier panic";
    /// The device was reset while the request was outstanding; its effect is unknown.
    RESET = 16, "reset while outstanding";
    /// `compare` found other data.
    MISCOMPARE = 17, "data differs";
    /// Storage holds something that we did not write.
    FOREIGN = 18, "foreign content";
    /// The peer is not reachable (any more).
    UNREACHABLE = 19, "peer unreachable";
    /// A received message was longer than the buffer.
    TRUNCATED = 20, "message truncated";
    /// A defect of the plugin: a broken invariant of its own.
    INTERNAL = 21, "internal error";
    /// The queue cannot take more now; submit again after polling.
    AGAIN = 22, "queue full";
    /// A remote memory access was refused (bad key, range or right).
    ACCESS = 23, "remote access refused";
}

impl Status {
    /// Whether this is [`Status::OK`].
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }
}

impl core::fmt::Debug for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Receiver of output of variable size. `write` may be called several times; the bytes are
/// concatenated.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct Sink {
    /// Passed back to `write`.
    pub ctx: *mut c_void,
    /// Appends `len` bytes.
    pub write: unsafe extern "C" fn(ctx: *mut c_void, data: *const u8, len: usize),
}

/// Description of a failure as [`Call::fail`] takes it. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct ErrorInfo {
    /// The code that the function is about to return.
    pub status: Status,
    /// Zero.
    pub reserved: u32,
    /// What failed, on what: "cannot open /dev/sdx".
    pub what: Str,
    /// Why: the text of the system or device error. May be empty.
    pub cause: Str,
    /// What the reader can do next. May be empty.
    pub remedy: Str,
}

/// Context of one control-face call. Made by the host, valid until the call returns; its
/// functions may be called from any thread of the plugin during that time.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = CallRef, prefix_fields = CallPrefix)))]
#[sabi(missing_field(option))]
pub struct Call {
    /// Bytes of this struct that the host filled.
    pub size: u32,
    /// Interface minor version of the host.
    pub version: u32,
    /// Passed back to the functions below.
    pub ctx: *mut c_void,
    /// Deadline of the whole call in milliseconds from its start; 0 = none. A plugin that is
    /// not back by then is killed together with the helper process it runs in.
    pub deadline_ms: u64,
    /// Reports progress: `done` of `total` (any unit; `total` 0 = unknown) of the step `what`.
    pub progress: unsafe extern "C" fn(ctx: *mut c_void, done: u64, total: u64, what: Str),
    /// Non-zero once the caller wants the operation to stop; long work asks at least every
    /// 100 ms and returns [`Status::CANCELLED`], leaving things as they were where it can.
    pub cancelled: unsafe extern "C" fn(ctx: *mut c_void) -> u8,
    /// Describes the failure that the function is about to return; the last one counts.
    pub fail: unsafe extern "C" fn(ctx: *mut c_void, error: *const ErrorInfo),
    /// Appends to the result document (JSON text) of the call.
    #[sabi(last_prefix_field)]
    pub output: unsafe extern "C" fn(ctx: *mut c_void, data: *const u8, len: usize),
}

// SAFETY: the host vouches that the functions behind a context may be called from any thread.
unsafe impl Send for CallPrefix {}
// SAFETY: as above.
unsafe impl Sync for CallPrefix {}

/// Log levels of [`HostServices::log`]: the smaller, the more urgent.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, StableAbi)]
pub struct LogLevel(pub u32);

impl LogLevel {
    /// Something failed.
    pub const ERROR: Self = Self(1);
    /// Something is wrong that did not fail (yet).
    pub const WARN: Self = Self(2);
    /// What an administrator wants to see once.
    pub const INFO: Self = Self(3);
    /// For who looks for a cause.
    pub const DEBUG: Self = Self(4);
    /// Everything.
    pub const TRACE: Self = Self(5);
}

/// Kinds of metrics a plugin can register.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, StableAbi)]
pub struct MetricKind(pub u32);

impl MetricKind {
    /// Only grows; `record` adds.
    pub const COUNTER: Self = Self(1);
    /// Goes up and down; `record` sets.
    pub const GAUGE: Self = Self(2);
    /// Distribution; `record` adds an observation.
    pub const HISTOGRAM: Self = Self(3);
}

/// What the host offers to a plugin. Handed to `create`, valid until `destroy` returns; all
/// functions are safe to call from any thread.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostServicesRef, prefix_fields = HostServicesPrefix)))]
#[sabi(missing_field(option))]
pub struct HostServices {
    /// Bytes of this struct that the host filled.
    pub size: u32,
    /// Interface minor version of the host.
    pub version: u32,
    /// Passed back to the functions below.
    pub ctx: *mut c_void,
    /// [`HostServices::BUILT_IN`] when the plugin is linked into the host's own binary.
    pub flags: u64,
    /// Most detailed level that anybody listens to; finer messages need not be formatted.
    pub log_level: unsafe extern "C" fn(ctx: *mut c_void) -> LogLevel,
    /// One log line. `target` names the place in the plugin.
    pub log: unsafe extern "C" fn(ctx: *mut c_void, level: LogLevel, target: Str, message: Str),
    /// Registers a metric (idempotent by name) and returns its id; 0 when the host keeps none.
    pub metric_register: unsafe extern "C" fn(
        ctx: *mut c_void,
        kind: MetricKind,
        name: Str,
        unit: Str,
        help: Str,
    ) -> u64,
    /// Records a value; cheap enough for once per batch, not for once per I/O.
    pub metric_record: unsafe extern "C" fn(ctx: *mut c_void, id: u64, value: f64),
    /// Reads an unsigned number from the JSON document `doc` at the JSON pointer (RFC 6901)
    /// `pointer`, so that C plugins need no parser. NOT_FOUND or INVALID leave `out` alone.
    pub json_u64:
        unsafe extern "C" fn(ctx: *mut c_void, doc: Str, pointer: Str, out: *mut u64) -> Status,
    /// Reads a string likewise and appends its text to `out`.
    #[sabi(last_prefix_field)]
    pub json_str:
        unsafe extern "C" fn(ctx: *mut c_void, doc: Str, pointer: Str, out: Sink) -> Status,
}

// SAFETY: the host vouches that the functions behind a context may be called from any thread.
unsafe impl Send for HostServicesPrefix {}
// SAFETY: as above.
unsafe impl Sync for HostServicesPrefix {}

impl HostServices {
    /// Flag: the plugin shares the host's binary, hence its `tracing` dispatcher.
    pub const BUILT_IN: u64 = 1;
}

/// Kinds of [`Wait`].
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, StableAbi)]
pub struct WaitKind(pub u32);

impl WaitKind {
    /// Do not sleep: poll again at once.
    pub const BUSY: Self = Self(0);
    /// Sleep until `fd` is readable (or `timeout_us`, when not 0), then poll.
    pub const FD: Self = Self(1);
    /// Sleep `timeout_us`, then poll.
    pub const TIMER: Self = Self(2);
}

/// How the thread that owns a queue or endpoint may sleep. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct Wait {
    /// What to do.
    pub kind: WaitKind,
    /// File descriptor, owned by the queue; valid for poll(2) until it is closed. -1 if none.
    pub fd: i32,
    /// Microseconds; 0 with [`WaitKind::FD`] = no limit.
    pub timeout_us: u64,
}

impl Wait {
    /// Poll again at once.
    pub const BUSY: Self = Self {
        kind: WaitKind::BUSY,
        fd: -1,
        timeout_us: 0,
    };

    /// Sleep until the descriptor is readable.
    pub const fn fd(fd: i32) -> Self {
        Self {
            kind: WaitKind::FD,
            fd,
            timeout_us: 0,
        }
    }

    /// Sleep this many microseconds.
    pub const fn timer(timeout_us: u64) -> Self {
        Self {
            kind: WaitKind::TIMER,
            fd: -1,
            timeout_us,
        }
    }
}

/// An object of the other side; never dereferenced here.
pub type Handle = *mut c_void;

/// Pointer to a [`Call`]; a named type because the layout checker treats it as opaque (the
/// pointee is checked on its own, as a growing type).
#[repr(transparent)]
#[derive(Clone, Copy, StableAbi)]
pub struct CallPtr(#[sabi(unsafe_opaque_field)] pub *const Call);

/// Pointer to [`HostServices`]; opaque to the layout checker like [`CallPtr`].
#[repr(transparent)]
#[derive(Clone, Copy, StableAbi)]
pub struct HostServicesPtr(#[sabi(unsafe_opaque_field)] pub *const HostServices);
