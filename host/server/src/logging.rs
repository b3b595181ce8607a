//! Where the server's own log goes.

use anyhow::Context;
use daos_config::{Config, ControlLogMask};
use std::fs::OpenOptions;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Starts logging as the configuration says. The guard flushes what is buffered when dropped.
///
/// # Errors
/// When `control_log_file` cannot be opened.
pub(crate) fn start(
    config: &Config,
    debug: bool,
    json: bool,
) -> anyhow::Result<Option<WorkerGuard>> {
    let level = match &config.control_log_mask {
        _ if debug => "debug",
        ControlLogMask::Disabled => "off",
        ControlLogMask::Error => "error",
        ControlLogMask::Warn => "warn",
        ControlLogMask::Info => "info",
        ControlLogMask::Debug => "debug",
        ControlLogMask::Trace => "trace",
    };
    // Libraries below the control plane say little of use before `debug`, and far too much then.
    let filter = EnvFilter::new(format!("{level},h2=warn,hyper=warn,tower=warn"));
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
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(writer);
    if json || config.control_log_json {
        builder.json().init();
    } else {
        builder.with_ansi(false).init();
    }
    Ok(guard)
}
