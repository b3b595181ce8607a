//! Forwards the plugin's `tracing` events to the host.
//!
//! A shared object has its own copy of tracing's statics, so its events would go nowhere
//! without a subscriber of its own. Built-in plugins share the host's dispatcher and need none.

use super::Host;
use crate::abi::{Handle, LogLevel};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Hosts of the instances that exist, oldest first, each with the address of its instance (0 until
/// `create` has succeeded). A host's services are gone once `destroy` has returned, so an entry
/// must not outlive it.
static HOSTS: RwLock<Vec<(Host, usize)>> = RwLock::new(Vec::new());

/// Forwards to `host` from now on. The subscriber and a panic hook that logs are installed with the
/// first instance, once per shared object.
pub(super) fn install(host: Host) {
    if host.is_built_in() {
        return;
    }
    let mut hosts = HOSTS.write().unwrap_or_else(PoisonError::into_inner);
    hosts.push((host, 0));
    drop(hosts);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only if the plugin installed a subscriber itself, which is its right.
        let _ = tracing::subscriber::set_global_default(Forwarder {
            next_span: AtomicU64::new(1),
        });
        std::panic::set_hook(Box::new(|info| {
            with_host(|host| host.log(LogLevel::ERROR, "panic", &info.to_string()));
        }));
    });
}

/// Ties the entry of `host` to its instance, so that [`release`] finds it.
pub(super) fn bind(host: Host, instance: Handle) {
    let mut hosts = HOSTS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = hosts.iter_mut().find(|(h, i)| h.is(&host) && *i == 0) {
        entry.1 = instance as usize;
    }
}

/// Forgets `host` after a `create` that failed.
pub(super) fn forget(host: Host) {
    let mut hosts = HOSTS.write().unwrap_or_else(PoisonError::into_inner);
    hosts.retain(|(h, i)| !(h.is(&host) && *i == 0));
}

/// Forgets the host of an instance; waits for lines that are being forwarded to it.
pub(super) fn release(instance: Handle) {
    let mut hosts = HOSTS.write().unwrap_or_else(PoisonError::into_inner);
    hosts.retain(|(_, i)| *i != instance as usize);
}

/// Calls `f` with the host of the newest instance, which lives until `f` has returned.
fn with_host(f: impl FnOnce(&Host)) {
    // Not waiting: a line that comes while an instance is made or destroyed may be lost, but a
    // panic or log line from inside that must not block it.
    if let Ok(hosts) = HOSTS.try_read()
        && let Some((host, _)) = hosts.last()
    {
        f(host);
    }
}

struct Forwarder {
    next_span: AtomicU64,
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::ERROR,
        Level::WARN => LogLevel::WARN,
        Level::INFO => LogLevel::INFO,
        Level::DEBUG => LogLevel::DEBUG,
        Level::TRACE => LogLevel::TRACE,
    }
}

impl Subscriber for Forwarder {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Asked each time: the host may want other levels later, and has no way to tell.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let mut enabled = false;
        with_host(|host| enabled = level_of(metadata.level()).0 <= host.log_level().0);
        enabled
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.next_span.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = line.message + &line.fields;
        with_host(|host| {
            host.log(
                level_of(event.metadata().level()),
                event.metadata().target(),
                &text,
            );
        });
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
