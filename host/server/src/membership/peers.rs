//! Calls to other servers of the system, as the component that this one is.

use daos_certs::{Files, Identity, Role, client_config};
use daos_config::Config;
use daos_proto::{COMPONENT_HEADER, PROTOCOL_VERSION, VERSION_HEADER};
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// How long another server may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection to another server.
pub(crate) type Peer = InterceptedService<Channel, Identify>;

/// Adds the headers that name the caller to each call.
#[derive(Clone)]
pub(crate) struct Identify;

impl Interceptor for Identify {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let headers = request.metadata_mut();
        headers.insert(COMPONENT_HEADER, MetadataValue::from_static("server"));
        headers.insert(VERSION_HEADER, MetadataValue::from_static(PROTOCOL_VERSION));
        Ok(request)
    }
}

/// How other servers are reached.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// The server's files and the name in its certificate; none in plain text.
    secured: Option<(Files, String)>,
}

impl Peers {
    pub(crate) fn new(config: &Config) -> Self {
        let transport = &config.transport_config;
        let files = Files {
            ca: transport.ca_cert.clone(),
            cert: transport.cert.clone(),
            key: transport.key.clone(),
        };
        Self {
            secured: (!transport.allow_insecure).then(|| (files, transport.server_name.clone())),
        }
    }

    /// Connects to a server; a call may take `within`.
    ///
    /// # Errors
    /// Why it cannot be reached, in words.
    pub(crate) async fn reach(&self, address: &str, within: Duration) -> Result<Peer, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("{address:?} is no address: {error}"))?
            .connect_timeout(CONNECT)
            .timeout(within);
        let tls = match &self.secured {
            None => None,
            // By the files as they are now: certificates may have been replaced.
            Some((files, name)) => {
                let identity = Identity::load(files, Role::Server, name)
                    .map_err(|problem| problem.to_string())?;
                Some(client_config(&identity, name).map_err(|error| error.to_string())?)
            }
        };
        let channel = daos_certs::connect(endpoint, address, tls).await?;
        Ok(InterceptedService::new(channel, Identify))
    }
}
