//! From a file to a checked configuration.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::{self, Code, ConfigErrors, Diagnostic};
use crate::model::Config;
use crate::overrides::Overrides;
use crate::section::Reader;
use crate::source::{Origin, Source};
use crate::tree::MAX_FILE_BYTES;
use crate::{parse, tree, validate};

/// More findings than anybody reads; the rest is only counted.
const MAX_FINDINGS: usize = 100;

/// A configuration that can be used, and what was noticed on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration. Its classes are still to be checked, see [`Config::check_classes`].
    pub config: Config,
    /// Old names, ignored values and the like, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

impl Config {
    /// Reads and checks a file, with the options of the command line on top.
    ///
    /// # Errors
    /// Every error of the file at once, see [`ConfigErrors`].
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
        let name = path.display().to_string();
        let bytes = read(path).map_err(|why| {
            let d = Diagnostic::error(Code::Unreadable, format!("cannot read {name}: {why}"))
                .in_file(name.clone())
                .hint("check that the file exists and that this user may read it");
            ConfigErrors::one(&name, d)
        })?;
        Self::parse_bytes(&bytes, &name, overrides)
    }

    /// Whether it was read from where the configuration of a host is, see [`SYSTEM_PATHS`](crate::SYSTEM_PATHS).
    #[must_use]
    pub fn is_the_systems(&self) -> bool {
        crate::SYSTEM_PATHS.contains(&self.origin.source.name())
    }

    /// The plugins that may be used, each with the accepted SHA-256 digests of its file (none = any file); `None` = there
    /// is no list, and all may.
    #[must_use]
    pub fn allowed_plugins<L: FromIterator<(String, Vec<String>)>>(&self) -> Option<L> {
        let plugins = self.plugins.as_ref()?;
        let entries = plugins.iter();
        Some(
            entries
                .map(|(name, p)| (name.clone(), p.sha256.clone()))
                .collect(),
        )
    }

    /// Checks the bytes of a file; `name` is what findings call it.
    ///
    /// # Errors
    /// As [`Config::load`]; bytes that are not UTF-8 are an error with their place.
    pub fn parse_bytes(
        bytes: &[u8],
        name: &str,
        overrides: &Overrides,
    ) -> Result<Loaded, ConfigErrors> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text, name, overrides),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
                let line = good.matches('\n').count() + 1;
                let d = Diagnostic::error(
                    Code::Syntax,
                    format!("the file is not UTF-8 text (bad byte in line {line})"),
                )
                .hint("save it as UTF-8")
                .in_file(name);
                let mut d = d;
                d.line = u32::try_from(line).ok();
                let column = good.rsplit('\n').next().unwrap_or("").chars().count() + 1;
                d.column = u32::try_from(column).ok();
                Err(ConfigErrors::one(name, d))
            }
        }
    }

    /// Checks the text of a file; `name` is what findings call it. Never panics, whatever the
    /// text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, name: &str, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Arc::new(Source::new(name, text.to_owned()));
        let root = tree::parse(&source, text).map_err(|d| ConfigErrors::one(name, *d))?;
        let mut reader = Reader {
            origin: Origin::new(source),
            out: Vec::new(),
        };
        let mut config = parse::config(&mut reader, &root);
        overrides.apply(&mut reader, &mut config);
        config.origin = reader.origin;
        let mut found = reader.out;
        validate::finish(&mut config, &mut found);
        diagnostic::sort(&mut found);
        limit(&mut found);
        if found.iter().any(Diagnostic::is_error) {
            return Err(ConfigErrors {
                file: name.to_owned(),
                diagnostics: found,
            });
        }
        Ok(Loaded {
            config,
            warnings: found,
        })
    }
}

/// Keeps the first findings, errors before warnings.
fn limit(found: &mut Vec<Diagnostic>) {
    if found.len() <= MAX_FINDINGS {
        return;
    }
    let total = found.len();
    found.sort_by_key(|d| !d.is_error());
    found.truncate(MAX_FINDINGS);
    diagnostic::sort(found);
    let severity = found[0].severity;
    found.push(Diagnostic::new(
        severity,
        Code::Syntax,
        format!("and {} more findings", total - MAX_FINDINGS),
    ));
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    // Refuses pipes and devices before opening them, which could block or never end.
    let kind = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !kind.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}
