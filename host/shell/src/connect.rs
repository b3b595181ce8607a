//! Connections to hosts.

use crate::cli::Cli;
use anyhow::{Context, bail};
use daos_proto::ctl::ctl_svc_client::CtlSvcClient;
use daos_proto::host::burn_in_svc_client::BurnInSvcClient;
use daos_proto::host::firmware_svc_client::FirmwareSvcClient;
use daos_proto::host::host_svc_client::HostSvcClient;
use daos_proto::host::layer_svc_client::LayerSvcClient;
use daos_proto::host::plugin_svc_client::PluginSvcClient;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use daos_proto::{COMPONENT_HEADER, VERSION_HEADER};
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Port of the control plane when none is given.
const DEFAULT_PORT: u16 = 10001;

/// Most bytes of a burn-in's record: 64 devices with all their points and errors stay below.
const MAX_RECORD: usize = 64 << 20;

/// A client of one host's own service.
pub(crate) type HostClient = HostSvcClient<InterceptedService<Channel, Identify>>;

/// A client of a host's layers over block devices.
pub(crate) type LayerClient = LayerSvcClient<InterceptedService<Channel, Identify>>;

/// A client of a host's plugins, one by one.
pub(crate) type PluginClient = PluginSvcClient<InterceptedService<Channel, Identify>>;

/// A client of what the DAOS control plane asks of one host.
pub(crate) type CtlClient = CtlSvcClient<InterceptedService<Channel, Identify>>;

/// A client of one host's firmware.
pub(crate) type FirmwareClient = FirmwareSvcClient<InterceptedService<Channel, Identify>>;

/// A client of one host's burn-ins.
pub(crate) type BurnInClient = BurnInSvcClient<InterceptedService<Channel, Identify>>;

/// A client of a system's management service.
pub(crate) type MgmtClient = MgmtSvcClient<InterceptedService<Channel, Identify>>;

/// Adds the headers that name the caller to each call.
#[derive(Clone)]
pub(crate) struct Identify;

impl Interceptor for Identify {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let headers = request.metadata_mut();
        headers.insert(COMPONENT_HEADER, MetadataValue::from_static("admin"));
        headers.insert(
            VERSION_HEADER,
            MetadataValue::from_static(env!("CARGO_PKG_VERSION")),
        );
        Ok(request)
    }
}

/// The hosts of the command line as host:port, in order, each once.
pub(crate) fn hosts(cli: &Cli) -> anyhow::Result<Vec<String>> {
    if cli.insecure == 0 {
        bail!(
            "this version cannot authenticate servers with certificates yet; pass -i to talk without TLS \
             (only over networks you trust)"
        );
    }
    let mut hosts = Vec::new();
    for entry in &cli.host_list {
        let host = with_port(entry.trim())?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// Adds the default port to `host`, `1.2.3.4`, `[::1]`.
pub(crate) fn with_port(entry: &str) -> anyhow::Result<String> {
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
        Some(_) if !entry.starts_with('[') => (format!("[{entry}]"), DEFAULT_PORT),
        _ => (entry.to_owned(), DEFAULT_PORT),
    };
    if host.is_empty() || host == "[]" {
        bail!("{entry:?} in the host list names no host");
    }
    Ok(format!("{host}:{port}"))
}

/// Connects to one host's own service.
pub(crate) async fn connect(host: &str, timeout: Duration) -> anyhow::Result<HostClient> {
    Ok(host_client(channel(host, timeout).await?))
}

/// A client of a host's own service.
pub(crate) fn host_client(channel: Channel) -> HostClient {
    HostSvcClient::with_interceptor(channel, Identify)
}

/// A client of a host's layers over block devices.
pub(crate) fn layer_client(channel: Channel) -> LayerClient {
    LayerSvcClient::with_interceptor(channel, Identify)
}

/// A client of a host's plugins, one by one.
pub(crate) fn plugin_client(channel: Channel) -> PluginClient {
    PluginSvcClient::with_interceptor(channel, Identify)
}

/// A client of what the DAOS control plane asks of one host.
pub(crate) fn ctl_client(channel: Channel) -> CtlClient {
    CtlSvcClient::with_interceptor(channel, Identify)
}

/// A client of a host's firmware.
pub(crate) fn firmware_client(channel: Channel) -> FirmwareClient {
    FirmwareSvcClient::with_interceptor(channel, Identify)
}

/// Connects to one host's burn-ins. Their records have a point for each interval of a run.
pub(crate) async fn connect_burn_in(host: &str, timeout: Duration) -> anyhow::Result<BurnInClient> {
    let channel = channel(host, timeout).await?;
    let client = BurnInSvcClient::with_interceptor(channel, Identify);
    Ok(client.max_decoding_message_size(MAX_RECORD))
}

/// Connects to the management service of the system that a host belongs to.
pub(crate) async fn connect_mgmt(host: &str, timeout: Duration) -> anyhow::Result<MgmtClient> {
    let channel = channel(host, timeout).await?;
    Ok(MgmtSvcClient::with_interceptor(channel, Identify))
}

/// A channel to one host.
pub(crate) async fn channel(host: &str, timeout: Duration) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{host}"))
        .with_context(|| format!("{host:?} is no address"))?
        .connect_timeout(timeout)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| {
        anyhow::anyhow!(
            "failed to connect to {host}: {}; check that daos_server runs there and listens on that port",
            root_cause(&error)
        )
    })
}

/// The innermost cause, which is the one that says something ("Connection refused").
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
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
            assert_eq!(with_port(entry).unwrap(), expected);
        }
        for entry in ["", ":1", "node:0", "node:65536", "node:x", "[]"] {
            assert!(with_port(entry).is_err(), "{entry:?} was accepted");
        }
    }
}
