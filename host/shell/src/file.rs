//! Files that results are written to.

use anyhow::Context;
use std::fs::File;
use std::path::Path;

/// Makes sure, before anything is measured, that a file can be written. `option` named it.
///
/// # Errors
/// It cannot.
pub(crate) fn check(path: &Path, option: &str) -> anyhow::Result<()> {
    let existed = path.exists();
    let failed = || {
        format!(
            "cannot write {}; choose another file with {option}",
            path.display()
        )
    };
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .with_context(failed)?;
    if !existed {
        // An empty one would be taken for a result if the measurement fails.
        std::fs::remove_file(path).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_refused_first() {
        let dir = std::env::temp_dir().join("no-such-directory-0");
        let error = check(&dir.join("x.svg"), "--plot").unwrap_err().to_string();
        assert!(error.contains("--plot"), "{error}");
    }
}
