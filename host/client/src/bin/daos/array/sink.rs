//! Where records go.

use crate::{output, parse};
use anyhow::Context;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where records go.
pub(crate) enum Sink {
    /// To standard output, as they come.
    Stdout,
    /// Into the document that is printed.
    Memory(Vec<u8>),
    /// Into a file.
    File(Target),
}

/// A file that is being written.
pub(crate) struct Target {
    file: File,
    path: PathBuf,
    /// Its name until it is complete; `None` for what exists and is no ordinary file.
    partial: Option<PathBuf>,
}

impl Sink {
    /// A file that appears under its name once it is complete.
    pub(crate) fn file(path: &Path) -> anyhow::Result<Self> {
        let special = std::fs::metadata(path).is_ok_and(|m| !m.is_file());
        let partial = (!special).then(|| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{}.partial", std::process::id()));
            path.with_file_name(name)
        });
        let opened = partial.as_deref().unwrap_or(path);
        let mut options = File::options();
        options.write(true).create(!special).truncate(!special);
        let file = options
            .open(opened)
            .with_context(|| format!("cannot write {}", opened.display()))?;
        Ok(Self::File(Target {
            file,
            path: path.to_owned(),
            partial,
        }))
    }

    pub(crate) fn write(&mut self, block: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout => output::raw(block).context("cannot write standard output"),
            Self::Memory(all) => {
                all.extend_from_slice(block);
                Ok(())
            }
            Self::File(target) => target
                .file
                .write_all(block)
                .with_context(|| format!("cannot write {}", target.path.display())),
        }
    }

    /// All records are written; returns them in hexadecimal if they went nowhere.
    pub(crate) fn finish(self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Stdout => Ok(None),
            Self::Memory(all) => Ok(Some(parse::show(&all, true))),
            Self::File(mut target) => {
                if let Some(partial) = target.partial.take()
                    && let Err(error) = std::fs::rename(&partial, &target.path)
                {
                    target.partial = Some(partial);
                    return Err(error)
                        .with_context(|| format!("cannot write {}", target.path.display()));
                }
                Ok(None)
            }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Nothing better can be done about a file that cannot be removed.
            let _ = std::fs::remove_file(partial);
        }
    }
}
