//! The configuration as the rest of the daemon sees it: plain values, defaults filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::source::Origin;

/// A checked configuration.
///
/// Equality compares values, not where they were written. It is plain data without interior
/// mutability: it may be shared between threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Name of the system.
    pub name: String,
    /// Hosts that keep the membership; empty means this host alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_points: Vec<AccessPoint>,
    /// TCP port of the control plane, 1-65535.
    pub port: u16,
    /// Certificates of the control plane.
    pub transport_config: TransportConfig,
    /// Fault domain of this host; starts with '/'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault_path: Option<String>,
    /// Program that prints the fault domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault_cb: Option<PathBuf>,
    /// Fabric interfaces: none, one for all servers, or one per server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fabric_ifaces: Vec<String>,
    /// Fabric provider for servers without one; absent means detected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Fabric interface for servers without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fabric_iface: Option<String>,
    /// Fabric port for servers without one, 1-65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fabric_iface_port: Option<u16>,
    /// Directory under which SCM mount points are planned; absolute.
    pub scm_mount_path: PathBuf,
    /// PCI addresses to restrict NVMe to, normalised; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bdev_include: Vec<String>,
    /// PCI addresses never to use, normalised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bdev_exclude: Vec<String>,
    /// Bind to hyperthreads instead of physical cores only.
    pub hyperthreads: bool,
    /// Directory of unix sockets.
    pub socket_dir: PathBuf,
    /// Number of hugepages to prepare, for all servers together.
    pub nr_hugepages: u32,
    /// Least important message of the control plane's log.
    pub control_log_mask: ControlLogMask,
    /// Log file of the control plane; absent means standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_log_file: Option<PathBuf>,
    /// Log JSON, one object per line.
    pub control_log_json: bool,
    /// User that runs the data plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Group that goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// Engine modules, comma-separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules: Option<String>,
    /// Attach information file for engines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach: Option<PathBuf>,
    /// Directory of plugins, absolute; absent means the default, see
    /// [`default_plugins_dir`](crate::default_plugins_dir).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins_dir: Option<PathBuf>,
    /// Allowed plugins by name; absent means that all are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins: Option<BTreeMap<String, PluginConfig>>,
    /// Engine program, absolute; absent means the built-in engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_path: Option<PathBuf>,
    /// Form of the device configuration that the engine of `engine_path` reads.
    pub engine_conf_format: EngineConfFormat,
    /// Directory of state, absolute; absent means the default, see
    /// [`default_state_dir`](crate::default_state_dir).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
    /// TCP port of the Prometheus endpoint; absent means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry_port: Option<u16>,
    /// Interface that the control plane listens at alone; absent means all, or the loopback in insecure mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_iface: Option<String>,
    /// One entry per engine; empty means planned automatically.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerConfig>,
    #[serde(skip)]
    pub(crate) origin: Origin,
}

impl Default for Config {
    /// What an empty file means: every default, no servers.
    fn default() -> Self {
        Self {
            name: "daos_server".to_owned(),
            access_points: Vec::new(),
            port: 10001,
            transport_config: TransportConfig::default(),
            fault_path: None,
            fault_cb: None,
            fabric_ifaces: Vec::new(),
            provider: None,
            fabric_iface: None,
            fabric_iface_port: None,
            scm_mount_path: PathBuf::from("/mnt/daos"),
            bdev_include: Vec::new(),
            bdev_exclude: Vec::new(),
            hyperthreads: false,
            socket_dir: PathBuf::from("/var/run/daos_server"),
            nr_hugepages: 1024,
            control_log_mask: ControlLogMask::Info,
            control_log_file: None,
            control_log_json: false,
            user_name: None,
            group_name: None,
            modules: None,
            attach: None,
            plugins_dir: None,
            plugins: None,
            engine_path: None,
            engine_conf_format: EngineConfFormat::Json,
            state_dir: None,
            telemetry_port: None,
            control_iface: None,
            servers: Vec::new(),
            origin: Origin::default(),
        }
    }
}

impl Config {
    /// The access points as `host:port`, with [`Config::port`] where none was given, and
    /// `localhost` when none is configured.
    #[must_use]
    pub fn access_point_addresses(&self) -> Vec<String> {
        if self.access_points.is_empty() {
            return vec![format!("localhost:{}", self.port)];
        }
        self.access_points
            .iter()
            .map(|a| format!("{}:{}", a.host, a.port.unwrap_or(self.port)))
            .collect()
    }

    /// Whether the file or the command line says something about a key, given as a path like `nr_hugepages`: its value may
    /// still be that of the default.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.origin.has(key)
    }

    /// Whether the allow list permits a plugin of this name. Without a list all are permitted.
    #[must_use]
    pub fn allows_plugin(&self, name: &str) -> bool {
        self.plugins.as_ref().is_none_or(|p| p.contains_key(name))
    }

    /// Makes the paths that may be relative absolute, taking them as relative to `base`
    /// (the working directory of the daemon, in practice).
    pub fn resolve_paths(&mut self, base: &Path) {
        let resolve = |path: &mut PathBuf| {
            if path.is_relative() {
                *path = base.join(&*path);
            }
        };
        let transport = &mut self.transport_config;
        for path in [
            &mut transport.client_cert_dir,
            &mut transport.ca_cert,
            &mut transport.cert,
            &mut transport.key,
            &mut self.socket_dir,
        ] {
            resolve(path);
        }
        for path in [
            &mut self.fault_cb,
            &mut self.control_log_file,
            &mut self.attach,
        ] {
            path.as_mut().map(resolve);
        }
        for server in &mut self.servers {
            resolve(&mut server.socket_dir);
            server.log_file.as_mut().map(resolve);
        }
    }
}

/// Certificates of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransportConfig {
    /// Talk without TLS.
    pub allow_insecure: bool,
    /// Directory of agents' certificates.
    pub client_cert_dir: PathBuf,
    /// Certificate of the authority.
    pub ca_cert: PathBuf,
    /// Certificate of this server.
    pub cert: PathBuf,
    /// Private key of this server.
    pub key: PathBuf,
    /// Common name that a server's certificate must carry.
    pub server_name: String,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            allow_insecure: false,
            client_cert_dir: PathBuf::from("/etc/daos/certs/clients"),
            ca_cert: PathBuf::from("/etc/daos/certs/daosCA.crt"),
            cert: PathBuf::from("/etc/daos/certs/server.crt"),
            key: PathBuf::from("/etc/daos/certs/server.key"),
            server_name: "server".to_owned(),
        }
    }
}

/// What the configuration says about one plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PluginConfig {
    /// Accepted SHA-256 digests of its file, lower-case hexadecimal; empty accepts any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sha256: Vec<String>,
    /// Free settings, handed to the plugin.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Level of its log lines, in server, helpers and engines; absent means that of the log they go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_mask: Option<String>,
}

/// One engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerConfig {
    /// Rank, 0-4294967294; absent means assigned when joining.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Number of targets; 0 means one per core.
    pub targets: u32,
    /// Offload threads per target, 0-2.
    pub nr_xs_helpers: u8,
    /// Core of the first target; absent means 0, or as planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_core: Option<u32>,
    /// System name, inherited from the file.
    pub name: String,
    /// Directory of unix sockets, inherited from the file.
    pub socket_dir: PathBuf,
    /// Engine modules, inherited from the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules: Option<String>,
    /// Log mask; absent means the engine's default, INFO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_mask: Option<String>,
    /// Log file; absent means the log of the control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<PathBuf>,
    /// Environment variables, in the order of the file, names unique.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_vars: Vec<EnvVar>,
    /// Fabric provider, inherited; absent means detected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Fabric interface, inherited; absent means detected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fabric_iface: Option<String>,
    /// Fabric port, inherited; absent means chosen at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fabric_iface_port: Option<u16>,
    /// Mount point of SCM; absolute.
    pub scm_mount: PathBuf,
    /// Class of the SCM plugin.
    pub scm_class: String,
    /// SCM devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scm_list: Vec<String>,
    /// SCM size in GB, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scm_size: Option<u64>,
    /// Class of the block device plugin.
    pub bdev_class: String,
    /// Devices; PCI addresses are normalised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bdev_list: Vec<String>,
    /// Number of devices, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bdev_number: Option<u32>,
    /// Size of each device in GB, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bdev_size: Option<u64>,
    /// Layers over the block devices, each as `daos_layers::parse_one` takes it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bdev_layers: Vec<serde_json::Value>,
    /// Keys outside the standard list. They belong to the plugins of this server's classes;
    /// until [`Config::check_classes`] has found no error they are unconfirmed.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            rank: None,
            targets: 0,
            nr_xs_helpers: 2,
            first_core: None,
            name: String::new(),
            socket_dir: PathBuf::new(),
            modules: None,
            log_mask: None,
            log_file: None,
            env_vars: Vec::new(),
            provider: None,
            fabric_iface: None,
            fabric_iface_port: None,
            scm_mount: PathBuf::new(),
            scm_class: "dcpm".to_owned(),
            scm_list: Vec::new(),
            scm_size: None,
            bdev_class: "nvme".to_owned(),
            bdev_list: Vec::new(),
            bdev_number: None,
            bdev_size: None,
            bdev_layers: Vec::new(),
            extra: BTreeMap::new(),
        }
    }
}

/// One environment variable of an engine; written `NAME=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// A letter or '_', then letters, digits and '_'.
    pub name: String,
    /// Anything on one line, '=' included; may be empty.
    pub value: String,
}

impl fmt::Display for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl Serialize for EnvVar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A host that keeps the membership, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPoint {
    /// Host name or address; IPv6 addresses keep their brackets.
    pub host: String,
    /// Its port, when one was given.
    pub port: Option<u16>,
}

impl FromStr for AccessPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            Some((inner, "")) => (format!("[{inner}]"), None),
            Some((inner, rest)) => {
                let port = rest
                    .strip_prefix(':')
                    .ok_or("text after ']' is not a port")?;
                (format!("[{inner}]"), Some(port))
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (text.to_owned(), None),
            },
        };
        if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| format!("\"{address}\" is not an IPv6 address"))?;
        } else if host.is_empty()
            || host.len() > 253
            || host.starts_with(['-', '.'])
            || !host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        {
            return Err(format!("\"{host}\" is not a host name"));
        }
        let port = match port {
            None => None,
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number > 0 => Some(number),
                _ => return Err(format!("\"{port}\" is not a port from 1 to 65535")),
            },
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for AccessPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Serialize for AccessPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Form of the list of block devices that an engine reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineConfFormat {
    /// JSON: our engine, and DAOS 2.x.
    Json,
    /// Sections of text: I/O servers of 2019.
    Text,
}

impl EngineConfFormat {
    /// The form with this name; names are those of the key table.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "json" => Self::Json,
            "text" => Self::Text,
            _ => return None,
        })
    }
}

/// Least important message of the control plane's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ControlLogMask {
    /// Nothing.
    Disabled,
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And what happened.
    Info,
    /// And why.
    Debug,
    /// And everything else.
    Trace,
}

impl ControlLogMask {
    /// The mask with this name; names are those of the key table.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "DISABLED" => Self::Disabled,
            "ERROR" => Self::Error,
            "WARN" => Self::Warn,
            "INFO" => Self::Info,
            "DEBUG" => Self::Debug,
            "TRACE" => Self::Trace,
            _ => return None,
        })
    }
}
