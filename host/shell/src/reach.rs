//! Which hosts are talked to, and how they are reached: options, configuration file, certificates.

use crate::cli::Cli;
use anyhow::{Context, anyhow, bail};
use daos_certs::{Files, Identity, Role, client_config};
use rustls::ClientConfig;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Configuration file when none is named, as in the DAOS 2.8 control plane.
const CONFIG: &str = "/etc/daos/daos_control.yml";

/// Where certificates are when nothing names them.
const CERTIFICATES: &str = "/etc/daos/certs";

/// Port of the control plane when none is given.
pub(crate) const DEFAULT_PORT: u16 = 10001;

/// How hosts are reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// How long a host may take to accept a connection.
    pub(crate) timeout: Duration,
    /// What we prove ourselves with; none to talk in plain text.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// The configuration file of administrators' tools.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    /// Name of the system. Taken, since files of the DAOS 2.8 control plane have it; hosts know theirs.
    #[serde(rename = "name")]
    _name: Option<String>,
    port: Option<u16>,
    hostlist: Option<HostList>,
    #[serde(default)]
    transport_config: Transport,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum HostList {
    Many(Vec<String>),
    One(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transport {
    #[serde(default)]
    allow_insecure: bool,
    ca_cert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
}

/// The hosts as host:port, in order, each once, and how to reach them.
///
/// # Errors
/// If the file or the host list is wrong, or certificates are missing or cannot be used.
pub(crate) fn of(cli: &Cli) -> anyhow::Result<(Vec<String>, Reach)> {
    let control = control(cli)?;
    let listed = match &control.hostlist {
        Some(HostList::Many(hosts)) => hosts.clone(),
        Some(HostList::One(hosts)) => hosts.split(',').map(str::to_owned).collect(),
        None => vec!["localhost".to_owned()],
    };
    let entries = if cli.host_list.is_empty() {
        &listed
    } else {
        &cli.host_list
    };
    let port = control.port.unwrap_or(DEFAULT_PORT);
    let mut hosts = Vec::new();
    for entry in entries {
        let host = with_port(entry.trim(), port)?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    let reach = Reach {
        timeout: Duration::from_secs(cli.connect_timeout),
        tls: tls(cli, &control.transport_config)?,
    };
    Ok((hosts, reach))
}

fn control(cli: &Cli) -> anyhow::Result<Control> {
    let (path, named) = match &cli.config_path {
        Some(path) => (path.as_path(), true),
        None => (Path::new(CONFIG), false),
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => {
            return Ok(Control::default());
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read the configuration {}", path.display()));
        }
    };
    // A file of comments says nothing, which is fine.
    serde_yaml::from_str::<Option<Control>>(&text)
        .map(Option::unwrap_or_default)
        .map_err(|error| {
            anyhow!(
                "{}: {error}; the keys are name, hostlist, port and transport_config with allow_insecure, ca_cert, cert, \
                 key and server_name",
                path.display()
            )
        })
}

fn tls(cli: &Cli, transport: &Transport) -> anyhow::Result<Option<Arc<ClientConfig>>> {
    if cli.insecure > 0 || (transport.allow_insecure && cli.cert_dir.is_none()) {
        return Ok(None);
    }
    let dir = cli.cert_dir.as_deref();
    let usual = Files::in_dir(dir.unwrap_or(Path::new(CERTIFICATES)), Role::Admin);
    let or = |named: &Option<PathBuf>, usual: PathBuf| match named {
        Some(named) if dir.is_none() => named.clone(),
        _ => usual,
    };
    let files = Files {
        ca: or(&transport.ca_cert, usual.ca),
        cert: or(&transport.cert, usual.cert),
        key: or(&transport.key, usual.key),
    };
    let identity = Identity::load(&files, Role::Admin, Role::Admin.name())
        .map_err(|problem| anyhow!(problem))
        .context("no secure connection is possible")?;
    let server = transport
        .server_name
        .as_deref()
        .unwrap_or(Role::Server.name());
    let config = client_config(&identity, server).context("the certificates cannot be used")?;
    Ok(Some(config))
}

/// Adds the default port to `host`, `1.2.3.4`, `[::1]`.
pub(crate) fn with_port(entry: &str, port: u16) -> anyhow::Result<String> {
    let (host, port) = match entry.rsplit_once(':') {
        // Colons inside brackets, or several without them, belong to an IPv6 address.
        Some((host, port))
            if !port.contains(']') && (!host.contains(':') || host.starts_with('[')) =>
        {
            let port: u16 = port.parse().ok().filter(|p| *p != 0).with_context(|| {
                format!("{entry:?} in the host list: {port:?} is no port (1-65535)")
            })?;
            (host.to_owned(), port)
        }
        Some(_) if !entry.starts_with('[') => (format!("[{entry}]"), port),
        _ => (entry.to_owned(), port),
    };
    if host.is_empty() || host == "[]" {
        bail!("{entry:?} in the host list names no host");
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn the_default_port_is_added_where_none_is_given() {
        for (entry, expected) in [
            ("node1", "node1:10001"),
            ("node1:5", "node1:5"),
            ("10.0.0.1", "10.0.0.1:10001"),
            ("[::1]", "[::1]:10001"),
            ("[::1]:77", "[::1]:77"),
            ("fe80::1", "[fe80::1]:10001"),
        ] {
            assert_eq!(with_port(entry, 10001).unwrap(), expected);
        }
        for entry in ["", ":1", "node:0", "node:65536", "node:x", "[]"] {
            assert!(with_port(entry, 10001).is_err(), "{entry:?} was accepted");
        }
    }
}
