//! Options and environment: those of the original I/O server, and a few long options of our own.

use crate::error::StartError;
use clap::Parser;
use daos_loader::AllowList;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// I/O engine of a DAOS storage node.
///
/// Started by daos_server, which writes the storage's superblock and device list beforehand. What
/// the short options cannot carry comes from there and from the environment: D_PROVIDER,
/// D_INTERFACE and D_PORT choose the fabric, D_LOG_FILE and D_LOG_MASK the log.
///
/// Exit codes: 0 stopped, 1 a device or file failed, 2 wrong configuration, 3 the storage is not
/// what was formatted (a tier is lost), 4 a target gave up while serving.
#[derive(Clone, Debug, Parser)]
#[command(name = "daos_io_server", version)]
pub struct Options {
    /// Module list; accepted for compatibility, ours is one module.
    #[arg(short = 'm', value_name = "LIST", hide = true)]
    pub modules: Option<String>,
    /// Number of targets: threads that own a share of the storage each.
    #[arg(short = 't', short_alias = 'c', value_name = "N", default_value_t = 1)]
    pub targets: u32,
    /// Helper threads that commit the index; 0 = the targets do it themselves.
    #[arg(short = 'x', value_name = "N", default_value_t = 0)]
    pub helpers: u32,
    /// First core; target n runs on core FIRST + n.
    #[arg(short = 'f', value_name = "CORE", default_value_t = 0)]
    pub first_core: u32,
    /// Let targets share physical cores, a hyperthread each; otherwise each core is counted once.
    #[arg(long)]
    pub hyperthreads: bool,
    /// Name of the system.
    #[arg(short = 'g', value_name = "NAME", default_value = "daos_server")]
    pub system: String,
    /// Directory of the dRPC sockets.
    #[arg(
        short = 'd',
        value_name = "DIR",
        default_value = "/var/run/daos_server"
    )]
    pub socket_dir: PathBuf,
    /// Number of storage tiers; accepted for compatibility, the superblock knows.
    #[arg(short = 'T', value_name = "N", hide = true)]
    pub tiers: Option<u32>,
    /// Device list; default: daos_nvme.conf on the SCM mount.
    #[arg(short = 'n', value_name = "FILE")]
    pub device_config: Option<PathBuf>,
    /// Bypass of the health check; accepted for compatibility.
    #[arg(short = 'b', hide = true)]
    pub bypass_health: bool,
    /// NUMA node on whose cores the targets run.
    #[arg(short = 'p', value_name = "NODE")]
    pub numa_node: Option<u32>,
    /// Index of this engine on its host.
    #[arg(short = 'I', value_name = "N", default_value_t = 0)]
    pub index: u32,
    /// Hugepage memory in MiB; accepted for compatibility, plugins reserve their own.
    #[arg(short = 'r', value_name = "MIB", hide = true)]
    pub hugepages: Option<u64>,
    /// Hugepage size in MiB; accepted for compatibility.
    #[arg(short = 'H', value_name = "MIB", hide = true)]
    pub hugepage_size: Option<u64>,
    /// SCM mount point.
    #[arg(short = 's', value_name = "DIR", default_value = "/mnt/daos")]
    pub scm_mount: PathBuf,
    /// First start after a format: devices that forget with their process are labelled now.
    #[arg(long)]
    pub first_start: bool,
    /// Directory of plugins, beside the built-in ones.
    #[arg(long, value_name = "DIR")]
    pub plugins_dir: Option<PathBuf>,
    /// File of the SCM plugin, instead of looking for the class.
    #[arg(long, value_name = "FILE")]
    pub scm_plugin: Option<PathBuf>,
    /// File of the block-device plugin.
    #[arg(long, value_name = "FILE")]
    pub bdev_plugin: Option<PathBuf>,
    /// File of the fabric plugin.
    #[arg(long, value_name = "FILE")]
    pub fabric_plugin: Option<PathBuf>,
    /// SCM class.
    #[arg(long, value_name = "CLASS", default_value = "ram")]
    pub scm_class: String,
    /// Configuration of the SCM class as JSON; scm_mount and, for `ram`, the size of what is
    /// mounted there are added if missing.
    #[arg(long, value_name = "JSON")]
    pub scm_config: Option<String>,
    /// Free-form settings of plugins as JSON: an object by plugin name.
    #[arg(long, value_name = "JSON", value_parser = plugin_settings, default_value = "{}")]
    pub plugin_settings: PluginSettings,
    /// Layers over the block devices, as the JSON form of `bdev_layers`.
    #[arg(long, value_name = "JSON", default_value = "[]")]
    pub bdev_layers: crate::layers::LayerList,
    /// Plugins that may be used, as JSON: an object from the name to {"sha256": [...]}, where the
    /// hashes pin the file; default: all.
    #[arg(long, value_name = "JSON", value_parser = allow_list)]
    pub allow_plugins: Option<AllowList>,
    /// Provider, overriding D_PROVIDER.
    #[arg(long, env = "D_PROVIDER", value_name = "NAME")]
    pub provider: Option<String>,
    /// Interface, overriding D_INTERFACE; default: the plugin chooses.
    #[arg(long, env = "D_INTERFACE", value_name = "NAME", default_value = "")]
    pub interface: String,
    /// First port, overriding D_PORT; 0 = any.
    #[arg(long, env = "D_PORT", value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Run without daos_server: no dRPC, rank as in the superblock. For tests and benchmarks.
    #[arg(long)]
    pub no_server: bool,
    /// Seconds that a block device may take for a request before it is aborted; after twice as long, or when a
    /// call of a plugin does not return for four times as long, the engine ends and is started again.
    #[arg(long, env = "D_IO_PATIENCE", value_name = "SECONDS", default_value_t = 30, hide = true, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub io_patience: u32,
    /// Seconds that a request of the engine to its own targets may take, which it sends when nobody else does; then the fabric
    /// is of no use, and the engine ends and is started again. 0: none is sent.
    #[arg(long, env = "D_SELF_TEST", value_name = "SECONDS", default_value_t = 30, hide = true, value_parser = clap::value_parser!(u32).range(..=3600))]
    pub self_test: u32,
    /// Serve no storage but only pings (`daos_shell network ping`), for so many seconds at most or until
    /// standard input ends; prints its address.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub respond: Option<u64>,
    /// Descriptor of memory that the daemon shares with this process, to read there what became of it.
    #[arg(long, value_name = "FD", hide = true)]
    pub board: Option<i32>,
    /// Make a pool of all space with this label, unless there is one.
    #[arg(long, value_name = "LABEL", requires = "no_server")]
    pub pool: Option<String>,
}

/// Settings by plugin name.
pub type PluginSettings = BTreeMap<String, Map<String, Value>>;

fn plugin_settings(text: &str) -> Result<PluginSettings, serde_json::Error> {
    serde_json::from_str(text)
}

fn allow_list(text: &str) -> Result<AllowList, serde_json::Error> {
    serde_json::from_str(text)
}

/// Most targets of an engine.
const TARGETS_MAX: u32 = 1024;

impl Options {
    /// Checks what does not depend on devices.
    ///
    /// # Errors
    /// Which option is wrong, and how.
    pub fn check(&self) -> Result<(), StartError> {
        if !(1..=TARGETS_MAX).contains(&self.targets) {
            return Err(StartError::config(format_args!(
                "-t {}: an engine has 1 to {TARGETS_MAX} targets",
                self.targets
            )));
        }
        if self.helpers > TARGETS_MAX {
            return Err(StartError::config(format_args!(
                "-x {}: at most {TARGETS_MAX} helper threads",
                self.helpers
            )));
        }
        if self.provider.as_deref().is_none_or(str::is_empty) {
            return Err(StartError::config(
                "no fabric provider: set D_PROVIDER (key `provider` of the server's configuration)",
            ));
        }
        if !self.scm_mount.is_absolute() {
            return Err(StartError::config(format_args!(
                "-s {}: the SCM mount must be an absolute path",
                self.scm_mount.display()
            )));
        }
        if self.first_core > 0 && self.numa_node.is_some() {
            return Err(StartError::config(
                "-f and -p exclude each other: pin by core or by NUMA node",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words = std::iter::once("daos_io_server").chain(line.split_whitespace());
        let options = Options::try_parse_from(words).map_err(|e| e.to_string())?;
        options.check().map_err(|e| e.text)?;
        Ok(options)
    }

    #[test]
    fn the_original_command_lines_are_understood() {
        let line = "-m vos,rdb -t 2 -x 0 -f 0 -g sys -d /run/d -T 2 -n /mnt/d/x.conf -I 1 -r 0 -H 2 -s /mnt/d --provider tcp";
        let options = parse(line).unwrap();
        assert_eq!((options.targets, options.index), (2, 1));
        assert_eq!(options.scm_mount, PathBuf::from("/mnt/d"));
        assert!(parse("-t 4 -b -p 1 -s /mnt/d --provider tcp").is_ok());
        let line = r#"--provider tcp --plugin-settings {"bdev-file":{"io_engine":"threads"}}"#;
        let settings = parse(line).unwrap().plugin_settings;
        assert_eq!(settings["bdev-file"]["io_engine"], "threads");
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (line, word) in [
            ("-t 0 --provider tcp", "-t 0"),
            ("-t 9999 --provider tcp", "-t 9999"),
            ("-t x --provider tcp", "-t"),
            ("-s mnt --provider tcp", "-s mnt"),
            ("-f 2 -p 1 --provider tcp", "-f and -p"),
            ("--provider=", "D_PROVIDER"),
            ("-Z", "-Z"),
            ("--pool tank --provider tcp", "--no-server"),
            ("--plugin-settings [] --provider tcp", "--plugin-settings"),
            ("--allow-plugins [] --provider tcp", "--allow-plugins"),
            ("--bdev-layers [{\"fautl\":{}}] --provider tcp", "fautl"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
