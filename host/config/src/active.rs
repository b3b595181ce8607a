//! The configuration in effect, written out for reference.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::model::Config;

/// Name of the file with the configuration in effect.
pub const ACTIVE_FILE: &str = ".daos_server.active.yml";

impl Config {
    /// The whole configuration as YAML: defaults filled in, old names replaced, options of
    /// the command line applied. Loading it gives an equal configuration.
    ///
    /// # Errors
    /// Only when a path is not UTF-8, which loading never lets through.
    pub fn to_yaml(&self) -> io::Result<String> {
        let options = serde_yaml::ser_options! { prefer_block_scalars: false };
        serde_yaml::to_string_with_options(self, options).map_err(io::Error::other)
    }

    /// Writes [`Config::to_yaml`] as [`ACTIVE_FILE`] beside `config_file`, or failing that
    /// into `temp_dir`, and returns the path. The file appears whole or not at all.
    ///
    /// It is never readable by more people than the file it came from, and never writable by
    /// any but its owner. In `temp_dir` a file of that name that belongs to somebody else is
    /// left alone: the process id goes into the name then.
    ///
    /// # Errors
    /// When neither place can be written; the error names the last one.
    pub fn write_active(&self, config_file: Option<&Path>, temp_dir: &Path) -> io::Result<PathBuf> {
        let text = format!(
            "# Configuration in effect, written by daos_server for reference. Changes have no \
             effect.\n{}",
            self.to_yaml()?
        );
        let source_mode = config_file
            .and_then(|file| fs::metadata(file).ok())
            .map_or(0o600, |m| m.permissions().mode());
        let mode = 0o600 | (source_mode & 0o644);
        if let Some(file) = config_file {
            let dir = match file.parent() {
                Some(dir) if !dir.as_os_str().is_empty() => dir,
                _ => Path::new("."),
            };
            let target = dir.join(ACTIVE_FILE);
            if replace(&target, &text, mode).is_ok() {
                return Ok(target);
            }
        }
        let target = temp_dir.join(ACTIVE_FILE);
        if replace(&target, &text, mode).is_ok() {
            return Ok(target);
        }
        let target = temp_dir.join(format!(".daos_server.active.{}.yml", std::process::id()));
        replace(&target, &text, mode)
            .map(|()| target.clone())
            .map_err(|e| {
                io::Error::new(
                    e.kind(),
                    format!("cannot save the active config to {}: {e}", target.display()),
                )
            })
    }
}

/// Writes to a new file (never through a link that somebody placed) and renames it.
fn replace(target: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let _ = fs::remove_file(&temporary);
    let written = write_new(&temporary, text, mode).and_then(|()| fs::rename(&temporary, target));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    // The umask may have narrowed the mode; what the administrator may read must not depend on it.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}
