//! Logging as the environment wants it: D_LOG_FILE and D_LOG_MASK of the original. The mask can be changed while the
//! engine serves, and knows plugins by their names.

use crate::error::StartError;
use daos_telemetry::{Mask, Masks};
use std::fs::File;
use std::sync::OnceLock;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// The mask of this process, which has one log.
static MASKS: OnceLock<Masks> = OnceLock::new();

/// Sets the log up: to D_LOG_FILE, else to standard error, at D_LOG_MASK (`INFO`, `ERR,mgmt=DEBUG,bdev-acme=DEBUG`).
///
/// # Errors
/// If the file cannot be opened or the mask is no mask.
pub fn init() -> Result<(), StartError> {
    let text = std::env::var("D_LOG_MASK").unwrap_or_default();
    let mask = Mask::parse(&text)
        .map_err(|what| StartError::config(format_args!("D_LOG_MASK={text}: {what}")))?;
    let masks = MASKS.get_or_init(|| Masks::new(mask));
    let path = std::env::var_os("D_LOG_FILE").filter(|path| !path.is_empty());
    let writer = match path {
        Some(path) => {
            let file = File::options()
                .append(true)
                .create(true)
                .open(&path)
                .map_err(|e| {
                    StartError::config(format_args!("D_LOG_FILE={}: {e}", path.display()))
                })?;
            BoxMakeWriter::new(file)
        }
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    tracing_subscriber::registry()
        .with(layer.with_filter(masks.filter()))
        .init();
    Ok(())
}

/// The mask of this process: without [`init`] one that nothing applies.
pub fn masks() -> &'static Masks {
    MASKS.get_or_init(|| Masks::new(Mask::new(tracing::level_filters::LevelFilter::INFO)))
}
