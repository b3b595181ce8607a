//! Log lines of plugin and helper go to the daemon. Those of a shared object come through the host
//! services, those of a built-in directly; both are `tracing` events of this process.

use super::link::Link;
use crate::protocol::Event;
use daos_telemetry::Masks;
use std::fmt::Write as _;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// Sends every event of this process that `masks` lets through to the daemon.
pub(super) fn forward(link: &Link, masks: &Masks) {
    let forwarder = Forwarder { link: link.clone() };
    let subscriber = tracing_subscriber::registry().with(forwarder.with_filter(masks.filter()));
    // Fails only if there is one already, and then there is nothing to do.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Forwarder {
    link: Link,
}

impl<S: tracing::Subscriber> Layer<S> for Forwarder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        self.link.send(&Event::Log {
            level: metadata.level().as_str().to_ascii_lowercase(),
            target: line.place.unwrap_or_else(|| metadata.target().to_owned()),
            message: line.message + &line.fields,
        });
    }
}

#[derive(Default)]
struct Line {
    message: String,
    place: Option<String>,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "place" => self.place = Some(value.to_owned()),
            "plugin" => {} // the daemon knows whose helper this is
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
