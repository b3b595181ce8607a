//! The host's side of [`HostServices`]: logging, metrics, JSON look-ups for C plugins.

use crate::abi::{HostServices, HostServicesPtr, LogLevel, MetricKind, Sink, Status, Str};
use core::ffi::c_void;
use serde_json::Value;
use std::sync::Arc;

/// Where a plugin's log lines go. Called from any thread.
pub trait HostLog: Send + Sync {
    /// Most detailed level that anybody listens to.
    fn level(&self) -> LogLevel;
    /// Takes a line.
    fn log(&self, level: LogLevel, target: &str, message: &str);
}

/// Where a plugin's metrics go. Called from any thread.
pub trait HostMetrics: Send + Sync {
    /// Registers a metric, returns its id; 0 = not kept.
    fn register(&self, kind: MetricKind, name: &str, unit: &str, help: &str) -> u64;
    /// Records a value.
    fn record(&self, id: u64, value: f64);
}

/// Keeps no metrics.
pub struct NoMetrics;

impl HostMetrics for NoMetrics {
    fn register(&self, _: MetricKind, _: &str, _: &str, _: &str) -> u64 {
        0
    }
    fn record(&self, _: u64, _: f64) {}
}

/// Turns log lines into `tracing` events with the plugin's name.
pub struct TracingLog {
    /// Name shown as `plugin=`.
    pub plugin: String,
}

impl HostLog for TracingLog {
    fn level(&self) -> LogLevel {
        match tracing::level_filters::LevelFilter::current().into_level() {
            None => LogLevel(0),
            Some(tracing::Level::ERROR) => LogLevel::ERROR,
            Some(tracing::Level::WARN) => LogLevel::WARN,
            Some(tracing::Level::INFO) => LogLevel::INFO,
            Some(tracing::Level::DEBUG) => LogLevel::DEBUG,
            Some(tracing::Level::TRACE) => LogLevel::TRACE,
        }
    }

    fn log(&self, level: LogLevel, target: &str, message: &str) {
        let plugin = self.plugin.as_str();
        match level {
            LogLevel::ERROR => tracing::error!(plugin, place = target, "{message}"),
            LogLevel::WARN => tracing::warn!(plugin, place = target, "{message}"),
            LogLevel::INFO => tracing::info!(plugin, place = target, "{message}"),
            LogLevel::DEBUG => tracing::debug!(plugin, place = target, "{message}"),
            _ => tracing::trace!(plugin, place = target, "{message}"),
        }
    }
}

struct Context {
    log: Arc<dyn HostLog>,
    metrics: Arc<dyn HostMetrics>,
}

/// A `HostServices` table with its context, at a fixed address for as long as the plugin lives.
pub(super) struct Services {
    table: Box<HostServices>,
    // Owned by `table.ctx`; dropped with it.
    _context: Box<Context>,
}

impl Services {
    pub(super) fn new(
        built_in: bool,
        log: Arc<dyn HostLog>,
        metrics: Arc<dyn HostMetrics>,
    ) -> Self {
        let context = Box::new(Context { log, metrics });
        let table = Box::new(HostServices {
            size: size_of::<HostServices>() as u32,
            version: u32::from(crate::abi::ABI_MINOR),
            ctx: (&raw const *context).cast_mut().cast(),
            flags: if built_in { HostServices::BUILT_IN } else { 0 },
            log_level,
            log: self::log,
            metric_register,
            metric_record,
            json_u64,
            json_str,
        });
        Self {
            table,
            _context: context,
        }
    }

    pub(super) fn as_ptr(&self) -> HostServicesPtr {
        HostServicesPtr(&raw const *self.table)
    }
}

// SAFETY: the context is `Sync`, the table is never written to.
unsafe impl Send for Services {}
// SAFETY: as above.
unsafe impl Sync for Services {}

/// # Safety
/// `ctx` is the context of a live [`Services`].
unsafe fn context<'a>(ctx: *mut c_void) -> &'a Context {
    // SAFETY: the caller vouches for it.
    unsafe { &*ctx.cast::<Context>() }
}

/// Text from a plugin: wrong UTF-8 is replaced, since it only goes to logs and look-ups.
///
/// # Safety
/// `text` points to `len` readable bytes (or is empty) for the time of the call.
pub(super) unsafe fn lossy(text: Str) -> String {
    if text.len == 0 || text.ptr.is_null() {
        return String::new();
    }
    // SAFETY: the caller vouches for it.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(text.ptr, text.len) }).into_owned()
}

unsafe extern "C" fn log_level(ctx: *mut c_void) -> LogLevel {
    // SAFETY: plugins pass the context of the table.
    unsafe { context(ctx) }.log.level()
}

unsafe extern "C" fn log(ctx: *mut c_void, level: LogLevel, target: Str, message: Str) {
    // SAFETY: plugins pass the context of the table and texts that live for the call.
    unsafe { context(ctx).log.log(level, &lossy(target), &lossy(message)) }
}

unsafe extern "C" fn metric_register(
    ctx: *mut c_void,
    kind: MetricKind,
    name: Str,
    unit: Str,
    help: Str,
) -> u64 {
    // SAFETY: plugins pass the context of the table and texts that live for the call.
    unsafe {
        context(ctx)
            .metrics
            .register(kind, &lossy(name), &lossy(unit), &lossy(help))
    }
}

unsafe extern "C" fn metric_record(ctx: *mut c_void, id: u64, value: f64) {
    // SAFETY: plugins pass the context of the table.
    unsafe { context(ctx) }.metrics.record(id, value);
}

/// # Safety
/// As for [`lossy`], for both texts.
unsafe fn look_up(doc: Str, pointer: Str) -> Result<Value, Status> {
    // SAFETY: the caller vouches for the texts.
    let (doc, pointer) = unsafe { (lossy(doc), lossy(pointer)) };
    let value: Value = serde_json::from_str(&doc).map_err(|_| Status::INVALID)?;
    value.pointer(&pointer).cloned().ok_or(Status::NOT_FOUND)
}

unsafe extern "C" fn json_u64(_ctx: *mut c_void, doc: Str, pointer: Str, out: *mut u64) -> Status {
    // SAFETY: plugins pass texts that live for the call.
    match unsafe { look_up(doc, pointer) }.map(|v| v.as_u64()) {
        Ok(Some(number)) => {
            // SAFETY: plugins pass a pointer to a u64 of theirs.
            unsafe { *out = number };
            Status::OK
        }
        Ok(None) => Status::INVALID,
        Err(status) => status,
    }
}

unsafe extern "C" fn json_str(_ctx: *mut c_void, doc: Str, pointer: Str, out: Sink) -> Status {
    // SAFETY: plugins pass texts that live for the call.
    match unsafe { look_up(doc, pointer) } {
        Ok(Value::String(text)) => {
            // SAFETY: the plugin's sink with the plugin's context.
            unsafe { (out.write)(out.ctx, text.as_ptr(), text.len()) };
            Status::OK
        }
        Ok(_) => Status::INVALID,
        Err(status) => status,
    }
}
