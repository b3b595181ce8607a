//! How administrators, agents and other servers reach the control plane, and what each may call.
//!
//! With certificates: TLS 1.3, both ends authenticated, the caller's role is the common name of its
//! certificate. Without (`-i`): plain text on the loopback, unless told otherwise, and no roles.

mod access;
mod incoming;
mod version;

pub(crate) use access::Access;
pub(crate) use incoming::{Peer, incoming};
pub(crate) use version::{NO_COMPATIBILITY, of_system};

use anyhow::{Context, anyhow};
use daos_certs::{Files, Problem, Renewing, Role};
use daos_config::Config;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Not known: there is no TLS.
    Anyone,
    /// A component with a certificate of the system.
    Component(Role),
}

/// The server's certificates; none in insecure mode.
///
/// # Errors
/// If they cannot be used, with what to do.
pub(crate) fn certificates(config: &Config) -> anyhow::Result<Option<Arc<Renewing>>> {
    let transport = &config.transport_config;
    if transport.allow_insecure {
        return Ok(None);
    }
    let files = Files {
        ca: transport.ca_cert.clone(),
        cert: transport.cert.clone(),
        key: transport.key.clone(),
    };
    Renewing::load(files, &transport.server_name)
        .map(|renewing| Some(Arc::new(renewing)))
        .map_err(|problem: Box<Problem>| anyhow!(problem))
        .context("the control plane cannot be secured")
}

/// How others reach what listens there: all interfaces go by the name of this host.
pub(crate) fn reached_at(listens_at: SocketAddr) -> String {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    match host {
        Some(host) if listens_at.ip().is_unspecified() => format!("{host}:{}", listens_at.port()),
        _ => listens_at.to_string(),
    }
}

/// Where the control plane listens: at the interface that the configuration names, else on all, in insecure mode on the
/// loopback.
///
/// # Errors
/// There is no such interface, or it has no IPv4 address.
pub(crate) fn address(config: &Config) -> anyhow::Result<SocketAddr> {
    let ip = match chosen(config)? {
        Some(ip) => ip,
        None if config.transport_config.allow_insecure => Ipv4Addr::LOCALHOST,
        None => Ipv4Addr::UNSPECIFIED,
    };
    Ok(SocketAddr::from((ip, config.port)))
}

/// First address of the interface that the configuration names, if it does.
///
/// # Errors
/// As [`address`].
pub(crate) fn chosen(config: &Config) -> anyhow::Result<Option<Ipv4Addr>> {
    let wanted = config.control_iface.as_deref();
    wanted
        .map(|wanted| first_address(wanted, interfaces()?))
        .transpose()
}

/// Interfaces of this host, one entry for each of their IPv4 addresses.
fn interfaces() -> anyhow::Result<Vec<(String, Ipv4Addr)>> {
    let all = nix::ifaddrs::getifaddrs().context("cannot list the network interfaces")?;
    let of = |entry: nix::ifaddrs::InterfaceAddress| {
        let ip = entry.address?.as_sockaddr_in()?.ip();
        Some((entry.interface_name, ip))
    };
    Ok(all.filter_map(of).collect())
}

fn first_address(wanted: &str, all: Vec<(String, Ipv4Addr)>) -> anyhow::Result<Ipv4Addr> {
    if let Some((_, ip)) = all.iter().find(|(name, _)| name == wanted) {
        return Ok(*ip);
    }
    let mut names: Vec<String> = all.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    Err(anyhow!(
        "the control plane cannot listen at control_iface {wanted}: no interface of that name has an IPv4 address; those that have \
         one are {}",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_listened_at_by_its_first_address() {
        let all = || {
            [
                ("lo", [127, 0, 0, 1]),
                ("ib0", [10, 1, 0, 7]),
                ("ib0", [10, 2, 0, 7]),
            ]
            .map(|(name, ip)| (name.to_owned(), Ipv4Addr::from(ip)))
            .to_vec()
        };
        assert_eq!(
            first_address("ib0", all()).unwrap(),
            Ipv4Addr::new(10, 1, 0, 7)
        );
        let told = first_address("ib1", all()).unwrap_err().to_string();
        assert!(
            told.contains("control_iface ib1") && told.ends_with("are ib0, lo"),
            "{told}"
        );
        let mut config = Config::default();
        assert!(address(&config).unwrap().ip().is_unspecified());
        config.transport_config.allow_insecure = true;
        assert!(address(&config).unwrap().ip().is_loopback());
        config.control_iface = Some("no-such-one".to_owned());
        assert!(address(&config).is_err());
    }
}
