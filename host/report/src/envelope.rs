//! The frame around JSON output.

use serde::Serialize;

/// What `--json` prints: the answer, or the error in words, and a status scripts can test. The
/// shape is that of the DAOS 2.8 tools: two-space indented, `status` 0 or a negative DER code.
#[derive(Serialize)]
pub struct Envelope<T> {
    /// The answer; present beside an error when part of the work succeeded.
    pub response: Option<T>,
    /// What failed, or null.
    pub error: Option<String>,
    /// 0, or a negative code.
    pub status: i32,
}

/// Code for errors that have no number of their own (DER_MISC of the DAOS error list).
const MISC: i32 = -1025;

impl<T: Serialize> Envelope<T> {
    /// Success.
    pub fn ok(response: T) -> Self {
        Self {
            response: Some(response),
            error: None,
            status: 0,
        }
    }

    /// Failure, with whatever was learned before it.
    pub fn failed(response: Option<T>, error: impl Into<String>) -> Self {
        Self {
            response,
            error: Some(error.into()),
            status: MISC,
        }
    }
}

/// Prints a document to standard output, with a newline.
///
/// # Errors
/// If the document has no form in JSON. When nobody reads the output any more the process ends, see
/// [`print_line!`](crate::print_line).
pub fn print_json(document: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    crate::print_line!("{text}");
    Ok(())
}
