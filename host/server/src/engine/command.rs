//! Command line and environment of an engine: those of the original I/O server, so that another
//! engine can take the place of ours (`engine_path`), plus a few long options that only ours knows.

use crate::fabric::Selection;
use crate::storage::Tier;
use anyhow::bail;
use daos_config::{Config, ServerConfig};
use daos_loader::AllowList;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Name of our engine, found beside the server's own program.
const PROGRAM: &str = "daos_io_server";

/// The engine to run: `engine_path`, else `daos_io_server` beside this program.
///
/// # Errors
/// When this program's own path cannot be found out.
pub(crate) fn program(config: &Config) -> anyhow::Result<PathBuf> {
    if let Some(path) = &config.engine_path {
        return Ok(path.clone());
    }
    own_program()
}

/// Our engine, `daos_io_server` beside this program.
///
/// # Errors
/// When this program's own path cannot be found out.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    match own.parent() {
        Some(dir) => Ok(dir.join(PROGRAM)),
        None => bail!("{} is in no directory", own.display()),
    }
}

/// Arguments and variables of a responder on that fabric for so many seconds.
pub(crate) fn responder(
    config: &Config,
    fabric: &Selection,
    plugin: Option<&Path>,
    seconds: u32,
) -> (Vec<OsString>, Vec<(String, OsString)>) {
    let mut args: Vec<OsString> = vec!["--respond".into(), seconds.to_string().into()];
    if let Some(path) = plugin {
        args.extend(["--fabric-plugin".into(), path.into()]);
    }
    if let Some(settings) = plugin_settings(config) {
        args.extend(["--plugin-settings".into(), settings.into()]);
    }
    if let Some(allowed) = config.allowed_plugins::<AllowList>() {
        // A map of texts has no way to fail.
        let allowed = serde_json::to_string(&allowed).unwrap_or_default();
        args.extend(["--allow-plugins".into(), allowed.into()]);
    }
    let server = ServerConfig {
        // Its own words belong to its end, not into a log.
        log_mask: Some("ERR".to_owned()),
        bdev_class: String::new(),
        ..ServerConfig::default()
    };
    (args, environment(&server, fabric))
}

/// How one start of an engine differs from another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Start {
    /// First start after a format: devices whose contents die with the engine are labelled by it.
    pub(crate) first: bool,
    /// Files of plugins that are not built in: kind and path.
    pub(crate) plugins: Vec<(&'static str, PathBuf)>,
    /// Number of block devices.
    pub(crate) bdevs: usize,
    /// The block devices, which have to come to rest when the engine dies.
    pub(crate) tier: Option<Box<Tier>>,
    /// Devices that no other process may open meanwhile, as `CLASS:ADDRESS`.
    pub(crate) devices: Vec<String>,
    /// SCM class, and its configuration as JSON.
    pub(crate) scm: (String, String),
    /// Provider and interface.
    pub(crate) fabric: Selection,
}

/// Arguments in the order of the original, our own last.
pub(crate) fn arguments(config: &Config, index: usize, start: &Start) -> Vec<OsString> {
    let server = &config.servers[index];
    let mut args: Vec<OsString> = Vec::new();
    let mut push = |flag: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        args.push(flag.into());
        args.push(value.as_ref().to_owned());
    };
    if let Some(modules) = &server.modules {
        push("-m", modules);
    }
    // Without -t the original takes all cores; ours is told how many that are.
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match (server.targets, &config.engine_path) {
        (0, Some(_)) => {}
        (0, None) => push("-t", &cores().to_string()),
        (targets, _) => push("-t", &targets.to_string()),
    }
    push("-x", &server.nr_xs_helpers.to_string());
    if let Some(core) = server.first_core {
        push("-f", &core.to_string());
    }
    push("-g", &server.name);
    push("-d", &server.socket_dir);
    push("-T", &if start.bdevs > 0 { "2" } else { "1" });
    if start.bdevs > 0 {
        push("-n", &device_config(server));
    }
    push("-I", &index.to_string());
    push("-r", &"0");
    push("-H", &"0");
    push("-s", &server.scm_mount);
    if config.engine_path.is_none() {
        push("--scm-class", &start.scm.0);
        push("--scm-config", &start.scm.1);
        if let Some(settings) = plugin_settings(config) {
            push("--plugin-settings", &settings);
        }
        if let Some(allowed) = config.allowed_plugins::<AllowList>() {
            // A map of texts has no way to fail.
            push(
                "--allow-plugins",
                &serde_json::to_string(&allowed).unwrap_or_default(),
            );
        }
        if !server.bdev_layers.is_empty() {
            let layers = serde_json::Value::from(server.bdev_layers.clone());
            push("--bdev-layers", &layers.to_string());
        }
        for (kind, path) in &start.plugins {
            push(&format!("--{kind}-plugin"), path);
        }
        if config.hyperthreads {
            args.push("--hyperthreads".into());
        }
        if start.first {
            args.push("--first-start".into());
        }
    }
    args
}

/// Settings of plugins by name as JSON; `None` if no plugin has any.
fn plugin_settings(config: &Config) -> Option<String> {
    let plugins = config.plugins.as_ref()?;
    let set: serde_json::Map<_, _> = plugins
        .iter()
        .filter(|(_, plugin)| !plugin.settings.is_empty())
        .map(|(name, plugin)| (name.clone(), plugin.settings.clone().into()))
        .collect();
    (!set.is_empty()).then(|| serde_json::Value::Object(set).to_string())
}

/// Where the engine's device config lies.
pub(crate) fn device_config(server: &ServerConfig) -> PathBuf {
    server.scm_mount.join("daos_nvme.conf")
}

/// Variables that the engine gets beside its `env_vars`, which they override.
pub(crate) fn environment(server: &ServerConfig, fabric: &Selection) -> Vec<(String, OsString)> {
    let mut env: Vec<(String, OsString)> = server
        .env_vars
        .iter()
        .map(|v| (v.name.clone(), v.value.clone().into()))
        .collect();
    let mut set = |name: &str, value: OsString| {
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), value));
    };
    set("D_PROVIDER", fabric.provider.clone().into());
    if let Some(iface) = &fabric.interface {
        set("D_INTERFACE", iface.into());
        set("D_DOMAIN", iface.into());
    }
    if let Some(port) = server.fabric_iface_port {
        set("D_PORT", port.to_string().into());
    }
    if let Some(mask) = &server.log_mask {
        set(MASK, mask.into());
    }
    if let Some(file) = &server.log_file {
        set("D_LOG_FILE", file.into());
    }
    match server.bdev_class.as_str() {
        "nvme" => set("VOS_BDEV_CLASS", "NVME".into()),
        "malloc" => set("VOS_BDEV_CLASS", "MALLOC".into()),
        "file" | "kdev" => set("VOS_BDEV_CLASS", "AIO".into()),
        _ => {}
    }
    env
}

/// Adds the levels of plugins to the log mask of our own engine; others do not know plugins. What the mask names
/// itself stays.
pub(crate) fn add_plugin_levels(config: &Config, environment: &mut Vec<(String, OsString)>) {
    let levels = config.plugins.iter().flatten();
    let levels: Vec<_> = levels
        .filter_map(|(name, plugin)| Some(format!("{name}={}", plugin.log_mask.as_ref()?)))
        .collect();
    if levels.is_empty() || config.engine_path.is_some() {
        return;
    }
    let levels = levels.join(",");
    // Of a name that comes twice the later level holds.
    match environment.iter_mut().find(|(name, _)| name == MASK) {
        Some((_, mask)) => *mask = format!("{levels},{}", mask.to_string_lossy()).into(),
        None => environment.push((MASK.to_owned(), levels.into())),
    }
}

/// The variable that says what an engine logs.
const MASK: &str = "D_LOG_MASK";

/// Variables of the server that an engine may see; everything else stays with the server.
pub(crate) const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
];

/// A path for messages.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_config::EnvVar;

    fn config() -> Config {
        let server = ServerConfig {
            targets: 2,
            nr_xs_helpers: 0,
            first_core: Some(0),
            name: "daos_server".to_owned(),
            socket_dir: "/run/d".into(),
            scm_mount: "/mnt/d".into(),
            bdev_class: "file".to_owned(),
            provider: Some("ofi+tcp".to_owned()),
            env_vars: vec![
                EnvVar {
                    name: "D_PROVIDER".to_owned(),
                    value: "other".to_owned(),
                },
                EnvVar {
                    name: "X".to_owned(),
                    value: "a=b".to_owned(),
                },
            ],
            ..ServerConfig::default()
        };
        let mut config = Config::default();
        config.servers.push(server);
        config
    }

    fn line(config: &Config, start: &Start) -> String {
        let args = arguments(config, 0, start);
        args.iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn arguments_are_those_of_the_original() {
        let start = Start {
            bdevs: 1,
            devices: Vec::new(),
            ..Start::default()
        };
        let mut config = config();
        config.engine_path = Some("/opt/daos_engine".into());
        assert_eq!(
            line(&config, &start),
            "-t 2 -x 0 -f 0 -g daos_server -d /run/d -T 2 -n /mnt/d/daos_nvme.conf -I 0 -r 0 -H 0 -s /mnt/d"
        );
        assert_eq!(
            line(&config, &Start::default()),
            "-t 2 -x 0 -f 0 -g daos_server -d /run/d -T 1 -I 0 -r 0 -H 0 -s /mnt/d"
        );
    }

    #[test]
    fn our_engine_loads_only_what_the_configuration_allows() {
        let mut config = config();
        let pinned = daos_config::PluginConfig {
            sha256: vec!["ab".to_owned()],
            ..Default::default()
        };
        config.plugins = Some([("bdev-acme".to_owned(), pinned)].into());
        let line = line(&config, &Start::default());
        let expected = r#"--allow-plugins {"bdev-acme":{"sha256":["ab"]}}"#;
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn a_foreign_engine_gets_no_options_of_ours() {
        let mut config = config();
        let start = Start {
            first: true,
            plugins: vec![("bdev", "/p/x.so".into())],
            bdevs: 1,
            tier: None,
            devices: Vec::new(),
            scm: ("ram".to_owned(), "{}".to_owned()),
            fabric: Selection::default(),
        };
        assert!(line(&config, &start).ends_with(
            "-s /mnt/d --scm-class ram --scm-config {} --bdev-plugin /p/x.so --first-start"
        ));
        config.engine_path = Some("/opt/daos_engine".into());
        assert!(line(&config, &start).ends_with("-s /mnt/d"));
    }

    #[test]
    fn settings_of_plugins_reach_the_engine() {
        let mut config = config();
        let mut file = daos_config::PluginConfig::default();
        file.settings
            .insert("io_engine".to_owned(), "threads".into());
        config.plugins = Some(
            [
                ("bdev-file".to_owned(), file),
                ("x".to_owned(), Default::default()),
            ]
            .into(),
        );
        let line = line(&config, &Start::default());
        assert!(
            line.contains(r#"--plugin-settings {"bdev-file":{"io_engine":"threads"}}"#),
            "{line}"
        );
    }

    #[test]
    fn levels_of_plugins_join_the_mask_of_our_engine() {
        let mut config = config();
        let plugin = daos_config::PluginConfig {
            log_mask: Some("DEBUG".to_owned()),
            ..Default::default()
        };
        config.plugins = Some([("bdev-acme".to_owned(), plugin)].into());
        let mask = |config: &Config, before: &[&str]| {
            let before = before.iter().map(|m| (MASK.to_owned(), (*m).into()));
            let mut environment = before.collect();
            add_plugin_levels(config, &mut environment);
            environment
        };
        let expected = |text: &str| vec![(MASK.to_owned(), OsString::from(text))];
        assert_eq!(mask(&config, &[]), expected("bdev-acme=DEBUG"));
        assert_eq!(
            mask(&config, &["ERR,log=INFO"]),
            expected("bdev-acme=DEBUG,ERR,log=INFO")
        );
        config.engine_path = Some("/opt/daos_engine".into());
        assert_eq!(mask(&config, &["ERR"]), expected("ERR"));
    }

    #[test]
    fn the_configuration_wins_over_env_vars() {
        let fabric = Selection {
            provider: "ofi+tcp".to_owned(),
            ..Selection::default()
        };
        let env = environment(&config().servers[0], &fabric);
        let get = |name: &str| {
            env.iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v)
                .collect::<Vec<_>>()
        };
        assert_eq!(get("D_PROVIDER"), ["ofi+tcp"]);
        assert!(get("D_INTERFACE").is_empty(), "its plugin finds its device");
        assert_eq!(get("X"), ["a=b"]);
        assert_eq!(get("VOS_BDEV_CLASS"), ["AIO"]);
    }
}
