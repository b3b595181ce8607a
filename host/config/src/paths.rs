//! Where things are when nobody says where.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Code, ConfigErrors, Diagnostic};

/// Where the configuration of a host is, in this order: what `daos_server_privileged` reads, and no other.
pub const SYSTEM_PATHS: [&str; 2] = ["/etc/daos_server.conf", "/etc/daos/daos_server.yml"];

/// Where the configuration is looked for without `-o/--config`, in this order:
/// `/etc/daos_server.conf`, `/etc/daos/daos_server.yml`, and `../etc/daos_server.yml` seen
/// from the directory of the program `exe`.
#[must_use]
pub fn search_paths(exe: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = SYSTEM_PATHS.iter().map(PathBuf::from).collect();
    paths.extend(beside_bin(exe, "etc/daos_server.yml"));
    paths
}

/// The configuration file to load: `explicit` (`-o/--config`) as it is, else the first of
/// [`search_paths`] that exists.
///
/// # Errors
/// When there is none; the finding lists where it was looked for. Commands that can do
/// without a configuration (scan, plugin list) then go on with [`Config::default`](crate::Config).
pub fn locate(explicit: Option<&Path>, exe: &Path) -> Result<PathBuf, ConfigErrors> {
    locate_among(explicit, &search_paths(exe))
}

pub(crate) fn locate_among(
    explicit: Option<&Path>,
    paths: &[PathBuf],
) -> Result<PathBuf, ConfigErrors> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    // A dangling link is a mistake to report when loading, not a file to pass over.
    if let Some(found) = paths.iter().find(|p| p.symlink_metadata().is_ok()) {
        return Ok(found.clone());
    }
    let tried: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    let d = Diagnostic::error(
        Code::NotFound,
        format!(
            "no configuration file was found; tried {}",
            tried.join(", ")
        ),
    )
    .hint("name one with -o/--config, or copy the commented example daos_server.yml there");
    Err(ConfigErrors::one("the default paths", d))
}

/// The plugin directory when `plugins_dir` is absent: `../lib/daos/plugins` seen from the
/// directory of the program `exe`. It need not exist; built-in plugins do without.
#[must_use]
pub fn default_plugins_dir(exe: &Path) -> Option<PathBuf> {
    beside_bin(exe, "lib/daos/plugins")
}

/// The state directory when `state_dir` is absent: `/var/lib/daos_server` for root, else
/// `daos_server` below `$XDG_STATE_HOME` or `$HOME/.local/state`. `None` when an unprivileged
/// user has neither.
#[must_use]
pub fn default_state_dir(root: bool, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/daos_server"));
    }
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|dir| dir.join("daos_server"))
}

fn beside_bin(exe: &Path, rest: &str) -> Option<PathBuf> {
    Some(exe.parent()?.parent()?.join(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_order_and_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("bin/daos_server");
        let paths = search_paths(&exe);
        assert_eq!(paths[0], Path::new("/etc/daos_server.conf"));
        assert_eq!(paths[1], Path::new("/etc/daos/daos_server.yml"));
        assert_eq!(paths[2], dir.path().join("etc/daos_server.yml"));
        let own = &paths[2..];
        let error = locate_among(None, own).unwrap_err();
        assert_eq!(error.diagnostics[0].code, Code::NotFound);
        assert!(error.to_string().contains("etc/daos_server.yml"));
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(&paths[2], "").unwrap();
        assert_eq!(locate_among(None, own).unwrap(), paths[2]);
        let given = Path::new("/does/not/exist.yml");
        assert_eq!(locate_among(Some(given), own).unwrap(), given);
    }

    #[test]
    fn state_directories() {
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home/a"));
        let xdg = |name: &str| (name == "XDG_STATE_HOME").then(|| OsString::from("/s"));
        let expect = |p: &str| Some(PathBuf::from(p));
        assert_eq!(
            default_state_dir(true, home),
            expect("/var/lib/daos_server")
        );
        assert_eq!(
            default_state_dir(false, home),
            expect("/home/a/.local/state/daos_server")
        );
        assert_eq!(default_state_dir(false, xdg), expect("/s/daos_server"));
        assert_eq!(default_state_dir(false, |_| None), None);
    }
}
