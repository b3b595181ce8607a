//! Which hosts are talked to, and how they are reached: options, configuration file, certificates.

use crate::cli::Cli;
use anyhow::{Context, anyhow, bail};
use daos_certs::{Files, Identity, Role, client_config};
use daos_hostlist::with_port;
use rustls::ClientConfig;
use serde::Deserialize;
use std::collections::HashSet;
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
    /// How long the management service may take for a call.
    pub(crate) call: Duration,
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
    let mut lists = cli.host_list.clone();
    if let Some(path) = &cli.host_file {
        lists.push(host_file(path)?);
    }
    if lists.is_empty() {
        lists = match &control.hostlist {
            Some(HostList::Many(lists)) => lists.clone(),
            Some(HostList::One(list)) => vec![list.clone()],
            None => vec!["localhost".to_owned()],
        };
    }
    let port = control.port.unwrap_or(DEFAULT_PORT);
    let mut known = HashSet::new();
    let mut hosts = Vec::new();
    for entry in daos_hostlist::hosts(&lists.join(","))? {
        let host = with_port(&entry, port)?;
        if known.insert(host.clone()) {
            hosts.push(host);
        }
    }
    if hosts.is_empty() {
        bail!("the host list is empty; name hosts with -l, --host-file or the key hostlist");
    }
    let reach = Reach {
        timeout: Duration::from_secs(cli.connect_timeout),
        call: Duration::from_secs(cli.timeout),
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

/// The hosts of a file as one list.
fn host_file(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the hosts from {}", path.display()))?;
    let lines = text.lines().map(|line| line.split('#').next());
    let hosts = lines.flatten().collect::<Vec<_>>().join("\n");
    if hosts.trim().is_empty() {
        bail!("{} names no host", path.display());
    }
    // So that a mistake is told with the file it is in.
    daos_hostlist::hosts(&hosts).with_context(|| path.display().to_string())?;
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::host_file;

    #[test]
    fn files_of_hosts_have_comments() {
        let path = std::env::temp_dir().join(format!("hosts-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            host_file(&path)
        };
        let hosts = read("# rack 1\nn[1-2]:5, m # spare\n\nk\n").unwrap();
        assert_eq!(
            daos_hostlist::hosts(&hosts).unwrap(),
            ["n1:5", "n2:5", "m", "k"]
        );
        let told = |text| format!("{:#}", read(text).unwrap_err());
        assert!(told("# nobody\n").ends_with("names no host"));
        let wrong = told("n[1-\n");
        assert!(
            wrong.contains("hosts-") && wrong.contains("without"),
            "{wrong}"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(host_file(&path).is_err());
    }
}
