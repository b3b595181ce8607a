//! Logging as the environment wants it: D_LOG_FILE and D_LOG_MASK of the original.

use crate::error::StartError;
use std::fs::File;
use tracing_subscriber::EnvFilter;

/// Sets the log up: to D_LOG_FILE, else to standard error, at D_LOG_MASK (`INFO`, `ERR,mgmt=DEBUG`).
///
/// # Errors
/// If the file cannot be opened or the mask is no mask.
pub fn init() -> Result<(), StartError> {
    let mask = std::env::var("D_LOG_MASK").unwrap_or_default();
    let directives = filter_of(&mask)
        .map_err(|what| StartError::config(format_args!("D_LOG_MASK={mask}: {what}")))?;
    let filter = EnvFilter::new(directives);
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match std::env::var_os("D_LOG_FILE").filter(|path| !path.is_empty()) {
        Some(path) => {
            let file = File::options()
                .append(true)
                .create(true)
                .open(&path)
                .map_err(|e| {
                    StartError::config(format_args!("D_LOG_FILE={}: {e}", path.display()))
                })?;
            builder.with_ansi(false).with_writer(file).init();
        }
        None => builder.with_ansi(false).with_writer(std::io::stderr).init(),
    }
    Ok(())
}

/// Translates a mask: a base level and `subsystem=LEVEL` items, in any order.
fn filter_of(mask: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let mut base = "info";
    for item in mask.split(',').map(str::trim).filter(|i| !i.is_empty()) {
        match item.split_once('=') {
            None => base = level(item)?,
            Some((name, value)) => {
                let value = level(value)?;
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                {
                    return Err(format!("\"{name}\" is no subsystem"));
                }
                out.push(format!("daos_engine::{}={value}", name.to_lowercase()));
            }
        }
    }
    out.insert(0, base.to_owned());
    Ok(out.join(","))
}

fn level(name: &str) -> Result<&'static str, String> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "DEBUG" | "DBUG" => "debug",
        "TRACE" => "trace",
        "INFO" | "NOTE" => "info",
        "WARN" | "WARNING" => "warn",
        "ERR" | "ERROR" | "CRIT" | "ALRT" | "EMRG" | "EMIT" | "FATAL" => "error",
        _ => {
            return Err(format!(
                "\"{name}\" is no level; use DEBUG, INFO, WARN or ERR"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::filter_of;

    #[test]
    fn masks_of_the_original_are_understood() {
        assert_eq!(filter_of("").unwrap(), "info");
        assert_eq!(filter_of("WARN").unwrap(), "warn");
        assert_eq!(
            filter_of("ERR,mgmt=DEBUG, LOG=INFO").unwrap(),
            "error,daos_engine::mgmt=debug,daos_engine::log=info"
        );
        assert!(filter_of("LOUD").is_err());
        assert!(filter_of("INFO,a b=DEBUG").is_err());
    }
}
