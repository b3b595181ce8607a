//! Calls to other servers of the system, as the component that this one is.

use daos_certs::{Files, Identity, Role, client_config};
use daos_config::Config;
use daos_proto::{COMPONENT_HEADER, PROTOCOL_VERSION, VERSION_HEADER};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::ClientConfig;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// How long another server may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection at rest is pinged, and how long the answer may take: one whose server has vanished is gone before
/// somebody needs it.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(5);
/// A connection that nobody has used for so long is closed.
const KEPT: Duration = Duration::from_secs(600);

/// A connection to another server.
pub(crate) type Peer = InterceptedService<Channel, Identify>;

/// Adds to each call the headers that name the caller, and how long it may take.
#[derive(Clone)]
pub(crate) struct Identify {
    within: Duration,
}

impl Interceptor for Identify {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.set_timeout(self.within);
        let headers = request.metadata_mut();
        headers.insert(COMPONENT_HEADER, MetadataValue::from_static("server"));
        headers.insert(VERSION_HEADER, MetadataValue::from_static(PROTOCOL_VERSION));
        Ok(request)
    }
}

/// How other servers are reached. Copies share the connections.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    /// None in plain text.
    secured: Option<Secured>,
    kept: Mutex<BTreeMap<String, Kept>>,
}

/// What this server shows to others.
struct Secured {
    files: Files,
    /// The name in servers' certificates.
    name: String,
    /// As it was loaded last.
    loaded: Mutex<Option<(Identity, Arc<ClientConfig>)>>,
}

/// A connection that is kept, so that a call costs no handshake.
struct Kept {
    channel: Channel,
    /// What it was made with.
    tls: Option<Arc<ClientConfig>>,
    used: Instant,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("secured", &self.0.secured.is_some())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Secured {
    /// By the files as they are now. Files that are no good - half replaced, say - leave the last good ones in use, as where
    /// this server listens, which also says so.
    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut loaded = lock(&self.loaded);
        if let Some((identity, config)) = &*loaded
            && identity.is_current(&self.files)
        {
            return Ok(Arc::clone(config));
        }
        let fresh = Identity::load(&self.files, Role::Server, &self.name)
            .map_err(|problem| problem.to_string())
            .and_then(|identity| {
                let config = client_config(&identity, &self.name).map_err(|e| e.to_string())?;
                Ok((identity, config))
            });
        match (fresh, &*loaded) {
            (Ok((identity, config)), _) => {
                *loaded = Some((identity, Arc::clone(&config)));
                Ok(config)
            }
            (Err(_), Some((_, config))) => Ok(Arc::clone(config)),
            (Err(why), None) => Err(why),
        }
    }
}

/// Whether two connections show the same.
fn is_same(one: Option<&Arc<ClientConfig>>, other: Option<&Arc<ClientConfig>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// Whether an answer says that the connection is of no use, rather than what the server thinks of the request.
fn is_lost(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

impl Peers {
    pub(crate) fn new(config: &Config) -> Self {
        let transport = &config.transport_config;
        let files = Files {
            ca: transport.ca_cert.clone(),
            cert: transport.cert.clone(),
            key: transport.key.clone(),
        };
        let secured = (!transport.allow_insecure).then(|| Secured {
            files,
            name: transport.server_name.clone(),
            loaded: Mutex::default(),
        });
        Self(Arc::new(Inner {
            secured,
            kept: Mutex::default(),
        }))
    }

    fn tls(&self) -> Result<Option<Arc<ClientConfig>>, String> {
        self.0.secured.as_ref().map(Secured::config).transpose()
    }

    /// Makes a connection for one purpose; a call may take `within`.
    ///
    /// # Errors
    /// Why the server cannot be reached, in words.
    pub(crate) async fn connect(&self, address: &str, within: Duration) -> Result<Peer, String> {
        let channel = open(address, self.tls()?).await?;
        Ok(InterceptedService::new(channel, Identify { within }))
    }

    /// Asks a server, over the connection that is kept to it where there is one. Where that turns out to be lost a new one is
    /// made, so `call` may be carried out twice. What this server shows has changed, the other one has moved or has been
    /// restarted: each makes a new connection as well.
    ///
    /// # Errors
    /// What the server answers, or, as unavailable, why it cannot be reached.
    pub(crate) async fn ask<T, F>(
        &self,
        address: &str,
        within: Duration,
        call: impl Fn(Peer) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let tls = self.tls().map_err(Status::unavailable)?;
        if let Some(channel) = self.kept(address, tls.as_ref()) {
            let begun = Instant::now();
            match call(InterceptedService::new(channel, Identify { within })).await {
                Err(status) if is_lost(&status) => {
                    self.forget(address);
                    // Who took as long as he may would do so again.
                    if begun.elapsed() >= within {
                        return Err(status);
                    }
                }
                answer => return answer,
            }
        }
        let channel = open(address, tls.clone())
            .await
            .map_err(Status::unavailable)?;
        self.keep(address, channel.clone(), tls);
        let answer = call(InterceptedService::new(channel, Identify { within })).await;
        if answer.as_ref().err().is_some_and(is_lost) {
            self.forget(address);
        }
        answer
    }

    fn kept(&self, address: &str, tls: Option<&Arc<ClientConfig>>) -> Option<Channel> {
        let mut all = lock(&self.0.kept);
        all.retain(|_, kept| kept.used.elapsed() < KEPT && is_same(kept.tls.as_ref(), tls));
        let kept = all.get_mut(address)?;
        kept.used = Instant::now();
        Some(kept.channel.clone())
    }

    fn keep(&self, address: &str, channel: Channel, tls: Option<Arc<ClientConfig>>) {
        let kept = Kept {
            channel,
            tls,
            used: Instant::now(),
        };
        lock(&self.0.kept).insert(address.to_owned(), kept);
    }

    fn forget(&self, address: &str) {
        lock(&self.0.kept).remove(address);
    }
}

async fn open(address: &str, tls: Option<Arc<ClientConfig>>) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("{address:?} is no address: {error}"))?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .keep_alive_while_idle(true);
    daos_certs::connect(endpoint, address, tls).await
}

#[cfg(test)]
mod tests;
