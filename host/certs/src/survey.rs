//! Certificate files as they are, for people: nothing is refused, everything is said.

use crate::facts::{Facts, facts};
use crate::identity::{certificates, in_time};
use crate::role::Role;
use crate::secret;
use serde::Serialize;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// A certificate file.
#[derive(Clone, Debug, Serialize)]
pub struct Surveyed {
    /// The file.
    pub file: PathBuf,
    /// What its first certificate says; none if it cannot be read, or is a key.
    #[serde(skip)]
    pub facts: Option<Facts>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Looks at the certificates and keys in a directory, or at one file. Files that end otherwise than
/// in `.crt` and `.key` are left out of a directory.
///
/// # Errors
/// If the directory cannot be read.
pub fn survey(path: &Path) -> std::io::Result<Vec<Surveyed>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![look(path)]);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| {
        file.is_file() && matches!(file.extension(), Some(end) if end == "crt" || end == "key")
    });
    files.sort();
    Ok(files.iter().map(|file| look(file)).collect())
}

fn look(file: &Path) -> Surveyed {
    let mut surveyed = Surveyed {
        file: file.to_owned(),
        facts: None,
        findings: Vec::new(),
    };
    let find = |problem: Box<crate::Problem>| Finding {
        what: problem.what,
        remedy: problem.remedy,
    };
    if file.extension().is_some_and(|end| end == "key") {
        let role: Option<Role> = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse().ok());
        // A key that is nobody's in particular is kept as tightly as the authority's.
        let widest = role.map_or(0o400, Role::key_mode);
        if let Err(problem) = secret::read(file, widest, "") {
            surveyed.findings.push(find(problem));
        }
        return surveyed;
    }
    match certificates(file) {
        Err(problem) => surveyed.findings.push(find(problem)),
        Ok((chain, _)) => match facts(&chain[0]) {
            Err(what) => surveyed.findings.push(Finding {
                what: format!("holds a certificate that cannot be read: {what}"),
                remedy: "issue a new one with `daos_server cert issue`".to_owned(),
            }),
            Ok(said) => {
                if let Err(problem) = in_time(file, &said, OffsetDateTime::now_utc()) {
                    surveyed.findings.push(find(problem));
                }
                surveyed.facts = Some(said);
            }
        },
    }
    surveyed
}
