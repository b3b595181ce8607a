//! Calls to other servers of the system, as the component that this one is.

use daos_certs::{Files, Identity, Role, client_config};
use daos_config::Config;
use daos_proto::{COMPONENT_HEADER, PROTOCOL_VERSION, VERSION_HEADER};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::ClientConfig;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, TimeoutExpired};

/// How long another server may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection is pinged, and how long the answer may take: one at rest whose server has vanished is gone before
/// somebody needs it. A server that is only slow keeps its calls: it gives its clients as long.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(20);
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
    /// Addresses to which connections are being made.
    opening: Mutex<BTreeMap<String, Turn>>,
    made: AtomicU64,
}

/// Held by who makes a connection to an address; in it, when that last failed while others waited, and why.
type Turn = Arc<tokio::sync::Mutex<Option<(Instant, String)>>>;

/// What this server shows to others.
struct Secured {
    files: Files,
    /// The name in servers' certificates.
    name: String,
    /// As it was loaded last.
    loaded: Mutex<Option<(Identity, Arc<ClientConfig>)>>,
}

/// A connection that is kept, so that a call costs no handshake.
#[derive(Clone)]
struct Kept {
    channel: Channel,
    /// Which of all that were made.
    number: u64,
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

/// Whether a call has taken as long as it may.
fn is_late(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
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
            opening: Mutex::default(),
            made: AtomicU64::new(0),
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

    /// Asks a server, over the connection that is kept to it where there is one. Where that turns out to be lost, since the
    /// server has been restarted, say, it is asked once more over a new one: only what may be carried out twice is asked for
    /// like that. All of it takes no longer than `within`.
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
        let until = Instant::now() + within;
        let tls = self.tls().map_err(Status::unavailable)?;
        let mut again = true;
        loop {
            let (kept, was_there) = self.channel(address, tls.as_ref(), until).await?;
            let identify = Identify {
                within: until.saturating_duration_since(Instant::now()),
            };
            let answer = call(InterceptedService::new(kept.channel, identify)).await;
            let Some(status) = answer.as_ref().err().filter(|status| is_lost(status)) else {
                return answer;
            };
            self.forget(address, kept.number);
            // Who took as long as he may would do so again, and a connection that was new was not lost at rest.
            if !(was_there && again) || is_late(status) || Instant::now() >= until {
                return answer;
            }
            again = false;
        }
    }

    /// The connection that is kept to a server, else a new one; whether it was there. Who wants one while it is made has the
    /// same one, or hears why there is none.
    async fn channel(
        &self,
        address: &str,
        tls: Option<&Arc<ClientConfig>>,
        until: Instant,
    ) -> Result<(Kept, bool), Status> {
        let asked = Instant::now();
        if let Some(kept) = self.kept(address, tls) {
            return Ok((kept, true));
        }
        let making = async {
            let turn = self.turn(address);
            let mut failed = turn.lock().await;
            if let Some(kept) = self.kept(address, tls) {
                return Ok((kept, false));
            }
            if let Some((when, why)) = &*failed
                && *when >= asked
            {
                return Err(why.clone());
            }
            match open(address, tls.cloned()).await {
                Ok(channel) => Ok((self.keep(address, channel, tls.cloned()), false)),
                Err(why) => {
                    *failed = Some((Instant::now(), why.clone()));
                    Err(why)
                }
            }
        };
        let late = || {
            format!(
                "failed to connect to {address}: no answer in time; check that daos_server runs there and can be reached"
            )
        };
        let made = timeout_at(until, making).await;
        made.unwrap_or_else(|_| Err(late()))
            .map_err(Status::unavailable)
    }

    fn kept(&self, address: &str, tls: Option<&Arc<ClientConfig>>) -> Option<Kept> {
        let mut all = lock(&self.0.kept);
        all.retain(|_, kept| kept.used.elapsed() < KEPT && is_same(kept.tls.as_ref(), tls));
        let kept = all.get_mut(address)?;
        kept.used = Instant::now();
        Some(kept.clone())
    }

    fn keep(&self, address: &str, channel: Channel, tls: Option<Arc<ClientConfig>>) -> Kept {
        let kept = Kept {
            channel,
            number: self.0.made.fetch_add(1, Ordering::Relaxed),
            tls,
            used: Instant::now(),
        };
        lock(&self.0.kept).insert(address.to_owned(), kept.clone());
        kept
    }

    /// Forgets that connection; a newer one stays.
    fn forget(&self, address: &str, number: u64) {
        let mut all = lock(&self.0.kept);
        if all.get(address).is_some_and(|kept| kept.number == number) {
            all.remove(address);
        }
    }

    fn turn(&self, address: &str) -> Turn {
        let mut all = lock(&self.0.opening);
        // Nobody makes or waits for the others any more.
        all.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(all.entry(address.to_owned()).or_default())
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
