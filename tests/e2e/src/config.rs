//! Configurations of sites.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Block device of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bdev {
    /// A regular file, which the format makes.
    File(PathBuf),
    /// A kernel block device.
    Kdev(PathBuf),
    /// Memory.
    Malloc,
    /// Several regular files.
    Files(Vec<PathBuf>),
}

impl Bdev {
    /// Its class in the config.
    pub fn class(&self) -> &'static str {
        match self {
            Self::File(_) | Self::Files(_) => "file",
            Self::Kdev(_) => "kdev",
            Self::Malloc => "malloc",
        }
    }

    fn keys(&self) -> String {
        match self {
            Self::File(path) => format!(
                "  bdev_class: file\n  bdev_list: ['{}']\n  bdev_size_mib: 512\n",
                path.display()
            ),
            Self::Kdev(path) => {
                format!("  bdev_class: kdev\n  bdev_list: ['{}']\n", path.display())
            }
            Self::Files(paths) => {
                let list: Vec<String> =
                    paths.iter().map(|p| format!("'{}'", p.display())).collect();
                format!(
                    "  bdev_class: file\n  bdev_list: [{}]\n  bdev_size_mib: 256\n",
                    list.join(", ")
                )
            }
            Self::Malloc => {
                "  bdev_class: malloc\n  bdev_number: 1\n  bdev_size_mib: 512\n".to_owned()
            }
        }
    }
}

/// One entry of `servers:`.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Where its SCM is.
    pub scm_mount: PathBuf,
    /// Its block device.
    pub bdev: Bdev,
    /// Its targets.
    pub targets: u32,
    /// Further lines of the entry, each with two blanks in front.
    pub extra: String,
}

/// Where plugins come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugins {
    /// Linked into the programs.
    BuiltIn,
    /// Files in the site's `plugins` directory.
    Dir,
}

/// What goes into a configuration file besides engines.
pub(crate) struct Top<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) certificates: Option<&'a Path>,
    pub(crate) port: u16,
    pub(crate) plugins: Plugins,
    pub(crate) provider: &'a str,
    pub(crate) iface: &'a str,
    pub(crate) extra: &'a str,
}

pub(crate) fn render(top: &Top<'_>, engines: &[Engine]) -> String {
    let dir = top.dir.display();
    let transport = match top.certificates {
        None => "{allow_insecure: true}".to_owned(),
        Some(certs) => {
            let certs = certs.display();
            format!(
                "{{ca_cert: '{certs}/daosCA.crt', cert: '{certs}/server.crt', key: '{certs}/server.key'}}"
            )
        }
    };
    let mut text = format!(
        "name: daos_server\nport: {}\ntransport_config: {transport}\nsocket_dir: '{dir}/sockets'\n\
         state_dir: '{dir}/state'\n",
        top.port
    );
    // Writing into a string cannot fail.
    if !top.provider.is_empty() {
        let _ = writeln!(text, "provider: '{}'", top.provider);
    }
    if !top.iface.is_empty() {
        let _ = writeln!(text, "fabric_iface: {}", top.iface);
    }
    if top.plugins == Plugins::Dir {
        let _ = writeln!(text, "plugins_dir: '{dir}/plugins'");
    }
    text += top.extra;
    if !engines.is_empty() {
        text += "servers:\n";
    }
    for engine in engines {
        let _ = write!(
            text,
            "- targets: {}\n  nr_xs_helpers: 0\n  scm_class: ram\n  scm_mount: '{}'\n  scm_size_mib: 128\n{}{}",
            engine.targets,
            engine.scm_mount.display(),
            engine.bdev.keys(),
            engine.extra
        );
    }
    text
}
