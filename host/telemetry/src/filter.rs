//! Applies a mask to the log of this process, and changes it while the process runs.

use crate::{Mask, MaskError};
use daos_plugin_api::abi::LogLevel;
use daos_plugin_api::host::{HostLog, TracingLog};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Name of the field by which a log line says which plugin's it is.
const PLUGIN: &str = "plugin";

/// The mask of a process. Clones share it.
#[derive(Clone)]
pub struct Masks {
    inner: Arc<Inner>,
}

struct Inner {
    /// The mask of the configuration.
    first: Mask,
    now: RwLock<Mask>,
    /// Levels of plugins that log here, so that asking for one takes no lock.
    plugins: RwLock<Vec<(String, Arc<AtomicU32>)>>,
}

impl Masks {
    /// With the mask of the configuration.
    pub fn new(first: Mask) -> Self {
        Self {
            inner: Arc::new(Inner {
                now: RwLock::new(first.clone()),
                plugins: RwLock::default(),
                first,
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Mask> {
        self.inner
            .now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The mask as it is.
    pub fn current(&self) -> Mask {
        self.read().clone()
    }

    /// Puts a text over the mask of the configuration, instead of one that was put there before; an empty one leaves
    /// that mask alone.
    ///
    /// # Errors
    /// Which part of the text is wrong; nothing has changed then.
    pub fn overlay(&self, text: &str) -> Result<(), MaskError> {
        let mask = self.inner.first.overlaid(text)?;
        {
            // Held over both, so that a plugin that comes meanwhile has the level of the one or the other mask and
            // not the old one for good.
            let plugins = &self.inner.plugins;
            let plugins = plugins.read().unwrap_or_else(PoisonError::into_inner);
            for (name, level) in &*plugins {
                level.store(number(mask.of_name(name)), Ordering::Relaxed);
            }
            let mut now = self
                .inner
                .now
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *now = mask;
        }
        // Places in the code remember whether they are wanted.
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// What a layer of the subscriber is filtered by.
    pub fn filter(&self) -> MaskFilter {
        MaskFilter(self.clone())
    }

    /// Where a plugin logs to: lines of this process with the plugin's name.
    pub fn plugin_log(&self, plugin: &str) -> Arc<dyn HostLog> {
        let plugins = &self.inner.plugins;
        let mut plugins = plugins.write().unwrap_or_else(PoisonError::into_inner);
        let level = Arc::new(AtomicU32::new(number(self.read().of_name(plugin))));
        plugins.push((plugin.to_owned(), Arc::clone(&level)));
        drop(plugins);
        Arc::new(PluginLog {
            level,
            to: TracingLog {
                plugin: plugin.to_owned(),
            },
        })
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Masks")
            .field(&self.current().to_string())
            .finish()
    }
}

/// A level as plugins know it.
fn number(level: LevelFilter) -> u32 {
    match level.into_level() {
        None => 0,
        Some(tracing::Level::ERROR) => LogLevel::ERROR.0,
        Some(tracing::Level::WARN) => LogLevel::WARN.0,
        Some(tracing::Level::INFO) => LogLevel::INFO.0,
        Some(tracing::Level::DEBUG) => LogLevel::DEBUG.0,
        Some(tracing::Level::TRACE) => LogLevel::TRACE.0,
    }
}

struct PluginLog {
    level: Arc<AtomicU32>,
    to: TracingLog,
}

impl HostLog for PluginLog {
    fn level(&self) -> LogLevel {
        LogLevel(self.level.load(Ordering::Relaxed))
    }

    fn log(&self, level: LogLevel, target: &str, message: &str) {
        self.to.log(level, target, message);
    }
}

/// Lets through what the mask wants: of lines with a field `plugin` by its value, of others by the module they come
/// from.
#[derive(Clone, Debug)]
pub struct MaskFilter(Masks);

impl MaskFilter {
    /// Whether lines of that place can be wanted.
    fn may(&self, metadata: &Metadata<'_>) -> bool {
        let mask = self.0.read();
        let limit = match metadata.fields().field(PLUGIN) {
            Some(_) => mask.most(),
            None => mask.of_target(metadata.target()),
        };
        *metadata.level() <= limit
    }
}

impl<S> Filter<S> for MaskFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.may(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.may(metadata) {
            true => Interest::sometimes(),
            false => Interest::never(),
        }
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.fields().field(PLUGIN).is_none() {
            return true;
        }
        let mut name = Name(None);
        event.record(&mut name);
        let mask = self.0.read();
        let limit = match &name.0 {
            Some(plugin) => mask.of_name(plugin),
            None => mask.of_target(metadata.target()),
        };
        *metadata.level() <= limit
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.read().most())
    }
}

/// The value of the field `plugin`.
struct Name(Option<String>);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == PLUGIN {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == PLUGIN {
            // A text that came as something to be displayed.
            self.0 = Some(format!("{value:?}").trim_matches('"').to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Mutex;
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn say(log: &dyn HostLog) {
        log.log(LogLevel::DEBUG, "here", "from the plugin");
        tracing::debug!("from the program");
        tracing::debug!(target: "daos_x::part", "from a part");
        tracing::warn!(plugin = "other", "about another");
    }

    #[test]
    fn levels_change_while_the_process_runs() {
        let masks = Masks::new(Mask::parse("WARN").unwrap());
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(masks.filter()));
        let log = masks.plugin_log("acme");
        let seen = |mask: &str| {
            masks.overlay(mask).unwrap();
            lines.0.lock().unwrap().clear();
            say(&*log);
            String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
        };
        tracing::subscriber::with_default(subscriber, || {
            let text = seen("");
            assert!(text.contains("about another") && !text.contains("from"));
            assert_eq!(log.level(), LogLevel::WARN);
            let text = seen("acme=DEBUG");
            assert!(text.contains("from the plugin") && !text.contains("from the program"));
            assert!(text.contains("plugin=\"acme\"") && text.contains("place=\"here\""));
            assert_eq!(log.level(), LogLevel::DEBUG);
            let text = seen("part=TRACE,other=ERR");
            assert!(text.contains("from a part") && !text.contains("from the plugin"));
            assert!(!text.contains("about another"), "{text}");
            assert!(masks.overlay("acme=LOUD").is_err());
            assert_eq!(masks.current().to_string(), "WARN,part=TRACE,other=ERR");
            assert!(!seen("").contains("from"));
        });
    }
}
