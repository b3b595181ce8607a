//! Forwards the plugin's `tracing` events to the host.
//!
//! A shared object has its own copy of tracing's statics, so its events would go nowhere
//! without a subscriber of its own. Built-in plugins share the host's dispatcher and need none.

use super::Host;
use crate::abi::LogLevel;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

static HOST: OnceLock<Host> = OnceLock::new();

/// Installs the forwarder and a panic hook that logs; once per shared object.
pub(super) fn install(host: Host) {
    if host.is_built_in() || HOST.set(host).is_err() {
        return;
    }
    // Fails only if the plugin installed a subscriber itself, which is its right.
    let _ = tracing::subscriber::set_global_default(Forwarder {
        next_span: AtomicU64::new(1),
    });
    std::panic::set_hook(Box::new(|info| {
        if let Some(host) = HOST.get() {
            host.log(LogLevel::ERROR, "panic", &info.to_string());
        }
    }));
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
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        HOST.get()
            .is_some_and(|host| level_of(metadata.level()).0 <= host.log_level().0)
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
        if let Some(host) = HOST.get() {
            let text = line.message + &line.fields;
            host.log(
                level_of(event.metadata().level()),
                event.metadata().target(),
                &text,
            );
        }
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
