//! What commands print.

use daos_report::{Envelope, print_json};
use serde::Serialize;
use std::io::Write as _;

/// Prints an answer: the document, or the text with a newline unless it is empty.
pub(crate) fn answer<T: Serialize>(
    json: bool,
    document: T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(&Envelope::ok(document))?);
    }
    let text = text(&document);
    if !text.is_empty() {
        raw(format!("{text}\n").as_bytes())?;
    }
    Ok(())
}

/// Prints an answer that tells of lost or changed data: the text, and the error on its own.
pub(crate) fn mismatch<T: Serialize>(
    json: bool,
    document: T,
    text: impl FnOnce(&T) -> String,
    error: &str,
) -> anyhow::Result<()> {
    if json {
        print_json(&Envelope::failed(Some(document), error))?;
    } else {
        raw(format!("{}\n", text(&document)).as_bytes())?;
    }
    eprintln!("ERROR: {error}");
    Ok(())
}

/// Writes bytes to standard output.
pub(crate) fn raw(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// A progress bar on standard error, invisible unless that is a terminal.
pub(crate) fn progress(
    json: bool,
    what: &'static str,
    total: Option<u64>,
) -> indicatif::ProgressBar {
    if json {
        return indicatif::ProgressBar::hidden();
    }
    let bar = match total {
        Some(total) => indicatif::ProgressBar::new(total),
        None => indicatif::ProgressBar::new_spinner(),
    };
    let template = match total {
        Some(_) => "{msg:8} {wide_bar} {pos}/{len} {per_sec} {eta}",
        None => "{msg:8} {spinner} {pos} {per_sec} {elapsed}",
    };
    styled(bar, template).with_message(what)
}

/// Likewise, of bytes.
pub(crate) fn progress_bytes(
    hidden: bool,
    what: &'static str,
    total: Option<u64>,
) -> indicatif::ProgressBar {
    if hidden {
        return indicatif::ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (
            indicatif::ProgressBar::new(total),
            "{msg:8} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        ),
        None => (
            indicatif::ProgressBar::new_spinner(),
            "{msg:8} {spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed}",
        ),
    };
    styled(bar, template).with_message(what)
}

fn styled(bar: indicatif::ProgressBar, template: &str) -> indicatif::ProgressBar {
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
