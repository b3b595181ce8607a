//! How administrators, agents and other servers reach the control plane, and what each may call.
//!
//! With certificates: TLS 1.3, both ends authenticated, the caller's role is the common name of its
//! certificate. Without (`-i`): plain text on the loopback, no roles.

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

/// Where the control plane listens: on all interfaces, in insecure mode on the loopback.
pub(crate) fn address(config: &Config) -> SocketAddr {
    let ip = if config.transport_config.allow_insecure {
        Ipv4Addr::LOCALHOST
    } else {
        Ipv4Addr::UNSPECIFIED
    };
    SocketAddr::from((ip, config.port))
}
