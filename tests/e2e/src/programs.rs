//! The programs under test.

use crate::process::finish;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const PROGRAMS: &[&str] = &[
    "daos_server",
    "daos_server_helper",
    "daos_server_privileged",
    "daos_io_server",
    "daos_shell",
    "daos",
];
const PACKAGES: &[&str] = &[
    "daos-server",
    "daos-helper",
    "daos-privileged",
    "daos-engine",
    "daos-shell",
    "daos-client",
    "bdev-file-so",
    "bdev-kdev-so",
    "bdev-malloc-so",
    "fabric-ofi-so",
    "fabric-tcp-so",
    "scm-ram-so",
];
/// Files of our own plugins.
pub const PLUGIN_FILES: &[&str] = &[
    "libdaos_bdev_file.so",
    "libdaos_bdev_kdev.so",
    "libdaos_bdev_malloc.so",
    "libdaos_fabric_tcp.so",
    "libdaos_scm_ram.so",
];

/// The plugin that may be missing: it is built only where libfabric-dev is.
const OFI_FILE: &str = "libdaos_fabric_ofi.so";

/// A directory with the programs.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// The programs of the profile that the test program was built with. Builds them once if they are older
    /// than their sources, unless `DAOS_E2E_BUILT` says that this was just done.
    ///
    /// # Panics
    /// They cannot be built.
    pub fn built() -> &'static Self {
        static BUILT: OnceLock<Programs> = OnceLock::new();
        BUILT.get_or_init(|| {
            let program = std::env::current_exe().expect("a test program has a path");
            // <target>/<profile directory>/deps/<test program>
            let dir = program
                .ancestors()
                .nth(2)
                .expect("cargo's layout")
                .to_owned();
            if std::env::var_os("DAOS_E2E_BUILT").is_none() {
                build(&dir);
            }
            Self { dir }
        })
    }

    /// Hard links or copies of the programs in a directory that everybody can reach.
    ///
    /// # Panics
    /// They cannot be put there.
    pub fn copied_to(&self, dir: &Path) -> Self {
        fs::create_dir(dir).unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
        for name in PROGRAMS {
            let (from, to) = (self.path(name), dir.join(name));
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to)
                    .unwrap_or_else(|e| panic!("cannot copy {}: {e}", from.display()));
            }
        }
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Copies plugins into a directory, mode 0644.
    ///
    /// # Panics
    /// They cannot be put there.
    pub fn install_plugins(&self, dir: &Path) {
        for file in PLUGIN_FILES {
            let bytes =
                fs::read(self.dir.join(file)).unwrap_or_else(|e| panic!("cannot read {file}: {e}"));
            fixture_files::put(dir, file, &bytes);
        }
    }

    /// Copies the plugin of libfabric into a directory, mode 0644.
    ///
    /// # Errors
    /// It was not built.
    ///
    /// # Panics
    /// It cannot be put there.
    pub(crate) fn install_ofi(&self, dir: &Path) -> Result<(), String> {
        let bytes = fs::read(self.dir.join(OFI_FILE))
            .unwrap_or_else(|e| panic!("cannot read {OFI_FILE}: {e}"));
        // Without libfabric-dev the file is there, but no plugin.
        let manifest = b"\"fabric-ofi\"";
        if !bytes.windows(manifest.len()).any(|part| part == manifest) {
            return Err("fabric-ofi was built without libfabric-dev".to_owned());
        }
        fixture_files::put(dir, OFI_FILE, &bytes);
        Ok(())
    }

    /// Path of a program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn build(dir: &Path) {
    let profile = match dir.file_name().and_then(|n| n.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} has no name", dir.display()),
    };
    let target = dir.parent().expect("cargo's layout");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    finish(command, Duration::from_secs(1800)).expect(0);
}
