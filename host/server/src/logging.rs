//! Where the server's own log goes.

use anyhow::Context;
use daos_config::{Config, ControlLogMask};
use daos_telemetry::{Mask, Masks};
use std::fs::OpenOptions;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging as the configuration says. The guard flushes what is buffered when dropped; the mask can be changed
/// from then on.
///
/// # Errors
/// When `control_log_file` cannot be opened.
pub(crate) fn start(
    config: &Config,
    debug: bool,
    json: bool,
) -> anyhow::Result<(Option<WorkerGuard>, Masks)> {
    let masks = Masks::new(mask(config, debug));
    let (writer, guard) = match &config.control_log_file {
        None => (BoxMakeWriter::new(std::io::stdout), None),
        Some(path) => {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .with_context(|| format!("cannot open control_log_file {}", path.display()))?;
            let (writer, guard) = tracing_appender::non_blocking(file);
            (BoxMakeWriter::new(writer), Some(guard))
        }
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_writer(writer);
    let filtered = match json || config.control_log_json {
        true => layer.json().with_filter(masks.filter()).boxed(),
        false => layer.with_ansi(false).with_filter(masks.filter()).boxed(),
    };
    tracing_subscriber::registry().with(filtered).init();
    Ok((guard, masks))
}

/// What the configuration wants to be logged here, plugins with a level of their own included.
fn mask(config: &Config, debug: bool) -> Mask {
    let level = match &config.control_log_mask {
        _ if debug => LevelFilter::DEBUG,
        ControlLogMask::Disabled => LevelFilter::OFF,
        ControlLogMask::Error => LevelFilter::ERROR,
        ControlLogMask::Warn => LevelFilter::WARN,
        ControlLogMask::Info => LevelFilter::INFO,
        ControlLogMask::Debug => LevelFilter::DEBUG,
        ControlLogMask::Trace => LevelFilter::TRACE,
    };
    let mut mask = Mask::new(level);
    // Libraries below the control plane say little of use before `debug`, and far too much then.
    for library in ["h2", "hyper", "hyper_util", "tower"] {
        mask.set(library, level.min(LevelFilter::WARN));
    }
    for (name, plugin) in config.plugins.iter().flatten() {
        let named = plugin.log_mask.as_ref().map(|l| format!("{name}={l}"));
        // The levels of the configuration have been checked.
        if let Some(Ok(more)) = named.map(|text| mask.overlaid(&text)) {
            mask = more;
        }
    }
    mask
}
