//! Connections to hosts.

use crate::reach::Reach;
use anyhow::{Context, anyhow};
use daos_proto::ctl::ctl_svc_client::CtlSvcClient;
use daos_proto::host::burn_in_svc_client::BurnInSvcClient;
use daos_proto::host::firmware_svc_client::FirmwareSvcClient;
use daos_proto::host::host_svc_client::HostSvcClient;
use daos_proto::host::layer_svc_client::LayerSvcClient;
use daos_proto::host::plugin_svc_client::PluginSvcClient;
use daos_proto::host::preflight_svc_client::PreflightSvcClient;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use daos_proto::{COMPONENT_HEADER, PROTOCOL_VERSION, VERSION_HEADER};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Most bytes of a burn-in's record: 64 devices with all their points and errors stay below.
const MAX_RECORD: usize = 64 << 20;

/// A client of one host's own service.
pub(crate) type HostClient = HostSvcClient<InterceptedService<Channel, Identify>>;

/// A client of a host's layers over block devices.
pub(crate) type LayerClient = LayerSvcClient<InterceptedService<Channel, Identify>>;

/// A client of a host's plugins, one by one.
pub(crate) type PluginClient = PluginSvcClient<InterceptedService<Channel, Identify>>;

/// A client of what nodes must have in common.
pub(crate) type PreflightClient = PreflightSvcClient<InterceptedService<Channel, Identify>>;

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
        headers.insert(VERSION_HEADER, MetadataValue::from_static(PROTOCOL_VERSION));
        Ok(request)
    }
}

/// Connects to one host's own service.
pub(crate) async fn connect(host: &str, reach: &Reach) -> anyhow::Result<HostClient> {
    Ok(host_client(channel(host, reach).await?))
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

/// A client of what nodes must have in common.
pub(crate) fn preflight_client(channel: Channel) -> PreflightClient {
    PreflightSvcClient::with_interceptor(channel, Identify)
}

/// A client of what the DAOS control plane asks of one host.
pub(crate) fn ctl_client(channel: Channel) -> CtlClient {
    CtlSvcClient::with_interceptor(channel, Identify)
}

/// A client of a host's firmware.
pub(crate) fn firmware_client(channel: Channel) -> FirmwareClient {
    FirmwareSvcClient::with_interceptor(channel, Identify)
}

/// A client of a host's burn-ins. Their records have a point for each interval of a run.
pub(crate) fn burn_in_client(channel: Channel) -> BurnInClient {
    BurnInSvcClient::with_interceptor(channel, Identify).max_decoding_message_size(MAX_RECORD)
}

/// Connects to the management service of the system that a host belongs to.
pub(crate) async fn connect_mgmt(host: &str, reach: &Reach) -> anyhow::Result<MgmtClient> {
    let channel = dial(host, reach, |endpoint| endpoint.timeout(reach.call)).await?;
    Ok(MgmtSvcClient::with_interceptor(channel, Identify))
}

/// Names the hosts that do not talk in plain text, after a command in plain text has failed.
pub(crate) async fn hint_at_tls(hosts: &[String]) {
    /// As many as anybody reads.
    const HOSTS: usize = 8;
    let mut asked = JoinSet::new();
    for host in hosts.iter().take(HOSTS).cloned() {
        asked.spawn(async move { daos_certs::speaks_tls(&host).await.then_some(host) });
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Some(host)) = answer {
            eprintln!(
                "hint: {host} does not talk in plain text; come without -i, with certificates (--cert-dir)"
            );
        }
    }
}

/// A channel to one host.
pub(crate) async fn channel(host: &str, reach: &Reach) -> anyhow::Result<Channel> {
    dial(host, reach, |endpoint| endpoint).await
}

async fn dial(
    host: &str,
    reach: &Reach,
    more: impl FnOnce(Endpoint) -> Endpoint,
) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{host}"))
        .with_context(|| format!("{host:?} is no address"))?
        .connect_timeout(reach.timeout)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    let secured = reach.tls.is_some();
    daos_certs::connect(more(endpoint), host, reach.tls.clone())
        .await
        .map_err(|error| match error.ends_with("does not speak TLS") {
            true if secured => anyhow!("{error}; if it was started with -i, say -i here, too"),
            _ => anyhow!(error),
        })
}
