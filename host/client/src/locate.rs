//! Finds the engine, and finds it again after it was restarted.

use crate::retry::Patience;
use crate::{EngineAddress, Error, Options};
use daos_certs::{Files, Identity, Role, client_config};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use daos_proto::mgmt::{GetAttachInfoReq, GetAttachInfoResp};
use daos_proto::{COMPONENT_HEADER, PROTOCOL_VERSION, VERSION_HEADER};
use daos_wire::EngineUri;
use rustls::ClientConfig;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;

/// Longest time for one access point to accept the connection, and to answer.
const CONNECT: Duration = Duration::from_secs(3);

/// Where the targets of the engine are, as far as is known.
pub(crate) struct View {
    /// Grows by one with every look.
    pub(crate) epoch: u64,
    /// Provider of the addresses.
    pub(crate) provider: String,
    /// Address of each target.
    pub(crate) targets: Vec<Arc<[u8]>>,
}

impl View {
    fn new(epoch: u64, uri: EngineUri) -> Self {
        Self {
            epoch,
            provider: uri.provider,
            targets: uri.targets.into_iter().map(Arc::from).collect(),
        }
    }
}

/// Knows where the engine is.
pub(crate) struct Locator {
    source: Source,
    rank: Option<u32>,
    view: RwLock<Arc<View>>,
    /// Held while looking, so that many callers in need look once.
    looking: tokio::sync::Mutex<()>,
}

impl Locator {
    /// Looks for the engine for the first time; waits for one that is being started.
    pub(crate) async fn new(options: &Options) -> Result<Self, Error> {
        let source = Source::new(options)?;
        let mut patience = Patience::new(options.deadline);
        let uri = loop {
            match look(&source, options.rank).await {
                Ok(uri) => break uri,
                Err(missing) if missing.comes_by_itself && patience.pause().await => {}
                Err(missing) => return Err(*missing.error),
            }
        };
        Ok(Self {
            source,
            rank: options.rank,
            view: RwLock::new(Arc::new(View::new(1, uri))),
            looking: tokio::sync::Mutex::new(()),
        })
    }

    /// What was found last.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks again, unless somebody did since `seen`. Returns addresses that the engine no longer
    /// has; empty if somebody else looked.
    pub(crate) async fn look_again(&self, seen: &View) -> Result<Vec<Arc<[u8]>>, Error> {
        let _one = self.looking.lock().await;
        let current = self.view();
        if current.epoch > seen.epoch || matches!(self.source.engine, EngineAddress::Uri(_)) {
            return Ok(Vec::new());
        }
        let uri = look(&self.source, self.rank)
            .await
            .map_err(|missing| *missing.error)?;
        if uri.provider != current.provider {
            return Err(Error::Provider {
                provider: uri.provider,
                cause: format!("the engine used \"{}\" before", current.provider),
                remedy: "connect again".to_owned(),
            });
        }
        let new = View::new(current.epoch + 1, uri);
        let gone = current
            .targets
            .iter()
            .filter(|old| !new.targets.contains(old))
            .cloned()
            .collect();
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(gone)
    }
}

/// Who is asked where the engine is.
struct Source {
    engine: EngineAddress,
    system: Option<String>,
    /// What we prove ourselves with; none in plain text.
    tls: Option<Arc<ClientConfig>>,
}

impl Source {
    fn new(options: &Options) -> Result<Self, Error> {
        let tls = match &options.cert_dir {
            None => None,
            Some(dir) => {
                let files = Files::in_dir(dir, Role::Agent);
                let identity = Identity::load(&files, Role::Agent, Role::Agent.name())
                    .map_err(|problem| Error::Certificate(problem.to_string()))?;
                let config = client_config(&identity, Role::Server.name())
                    .map_err(|error| Error::Certificate(error.to_string()))?;
                Some(config)
            }
        };
        Ok(Self {
            engine: options.engine.clone(),
            system: options.system.clone(),
            tls,
        })
    }
}

/// No engine was found.
struct Missing {
    error: Box<Error>,
    /// A server says that its engine is being started.
    comes_by_itself: bool,
}

impl From<Error> for Missing {
    fn from(error: Error) -> Self {
        Self {
            error: Box::new(error),
            comes_by_itself: false,
        }
    }
}

async fn look(source: &Source, rank: Option<u32>) -> Result<EngineUri, Missing> {
    let access_points = match &source.engine {
        EngineAddress::Uri(uri) => return Ok(uri.clone()),
        EngineAddress::AccessPoints(list) => list,
    };
    let mut refused = None;
    let mut unreachable = "none is given".to_owned();
    for access_point in access_points {
        match ask(source, access_point).await {
            Ok(answer) => return choose(access_point, answer, rank),
            Err(Ask::Address(error)) => return Err(error.into()),
            Err(Ask::Unreachable(cause)) => unreachable = cause,
            // Another access point may know more.
            Err(Ask::Refused(missing)) => refused = Some(missing),
        }
    }
    Err(refused.unwrap_or_else(|| {
        Missing::from(Error::ControlPlane {
            access_points: access_points.join(", "),
            cause: unreachable,
        })
    }))
}

enum Ask {
    Address(Error),
    Unreachable(String),
    Refused(Missing),
}

async fn ask(source: &Source, access_point: &str) -> Result<GetAttachInfoResp, Ask> {
    let endpoint = Endpoint::from_shared(format!("http://{access_point}")).map_err(|error| {
        Ask::Address(Error::Address {
            given: access_point.to_owned(),
            expected: "access point (host:port)",
            cause: error.to_string(),
        })
    })?;
    let endpoint = endpoint.connect_timeout(CONNECT).timeout(CONNECT);
    let channel = daos_certs::connect(endpoint, access_point, source.tls.clone())
        .await
        .map_err(Ask::Unreachable)?;
    let mut client = MgmtSvcClient::with_interceptor(channel, {
        let secured = source.tls.is_some();
        move |request| Ok(identify(request, secured))
    });
    let request = GetAttachInfoReq {
        sys: source
            .system
            .as_deref()
            .map_or_else(String::new, |name| format!("{name}-{PROTOCOL_VERSION}")),
        all_ranks: true,
        ..GetAttachInfoReq::default()
    };
    let status = match client.get_attach_info(request).await {
        Ok(answer) => return Ok(answer.into_inner()),
        Err(status) => status,
    };
    let fault = Fault::from_status(&status);
    if fault.is_none() && source.tls.is_none() && daos_certs::speaks_tls(access_point).await {
        return Err(Ask::Unreachable(format!(
            "the server at {access_point} does not talk in plain text; name the directory of the agent's certificate \
             (--cert-dir)"
        )));
    }
    if fault.is_none() && status.code() == tonic::Code::Unavailable {
        return Err(Ask::Unreachable(status.message().to_owned()));
    }
    // Of a server whose engines were not looked at yet.
    let not_yet = status.message().starts_with("raft service unavailable");
    // Of one that has too much to do, or is stopped: what tonic says of a call that takes too long.
    let late = fault.is_none() && status.code() == tonic::Code::Cancelled;
    let unformatted = status.message().starts_with("system is uninitialized");
    Err(Ask::Refused(Missing {
        comes_by_itself: not_yet
            || late
            || fault
                .as_ref()
                .is_some_and(|fault| fault.status() == ResponseStatus::CtlInProgress),
        error: Box::new(Error::NoEngine {
            access_point: access_point.to_owned(),
            cause: match &fault {
                Some(fault) => fault.description(),
                None if late => format!("it has not answered for {} s", CONNECT.as_secs()),
                None => status.message().to_owned(),
            },
            remedy: match fault {
                Some(fault) => fault.remedy,
                None if unformatted => "`daos_shell storage format` makes a system".to_owned(),
                None => String::new(),
            },
        }),
    }))
}

/// Names the caller in the headers of a call: with a certificate, it is the agent's.
fn identify(mut request: Request<()>, secured: bool) -> Request<()> {
    let headers = request.metadata_mut();
    let component = if secured { "agent" } else { "client" };
    headers.insert(COMPONENT_HEADER, MetadataValue::from_static(component));
    let version = MetadataValue::from_static(PROTOCOL_VERSION);
    headers.insert(VERSION_HEADER, version);
    request
}

/// The engine of `rank`, or else of the lowest rank of all: containers belong to a rank, so that another one is
/// no substitute for one that is being restarted.
fn choose(
    access_point: &str,
    answer: GetAttachInfoResp,
    rank: Option<u32>,
) -> Result<EngineUri, Missing> {
    let mut serving: Vec<u32> = answer.rank_uris.iter().map(|r| r.rank).collect();
    serving.sort_unstable();
    let lowest = answer.ms_ranks.iter().chain(&serving).min();
    let missing = |cause, comes_by_itself| Missing {
        error: Box::new(Error::NoEngine {
            access_point: access_point.to_owned(),
            cause,
            remedy: "see `daos_shell system query`".to_owned(),
        }),
        comes_by_itself,
    };
    let Some(wanted) = rank.or(lowest.copied()) else {
        return Err(missing("no engine serves".to_owned(), false));
    };
    let Some(chosen) = answer.rank_uris.iter().find(|r| r.rank == wanted) else {
        return Err(missing(
            format!("rank {wanted} does not serve; ranks that do: {serving:?}"),
            answer.ms_ranks.contains(&wanted),
        ));
    };
    let uri = chosen.uri.parse();
    Ok(uri.map_err(|error: daos_wire::UriError| Error::Address {
        given: chosen.uri.chars().take(200).collect(),
        expected: "address of an engine",
        cause: error.to_string(),
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::mgmt::get_attach_info_resp::RankUri;

    fn answer(ranks: &[(u32, &str)]) -> GetAttachInfoResp {
        GetAttachInfoResp {
            rank_uris: ranks
                .iter()
                .map(|(rank, uri)| RankUri {
                    rank: *rank,
                    uri: (*uri).to_owned(),
                    ..RankUri::default()
                })
                .collect(),
            ..GetAttachInfoResp::default()
        }
    }

    fn plain(access_point: &str) -> Source {
        Source::new(&Options::access_point(access_point)).unwrap()
    }

    #[test]
    fn the_lowest_rank_serves_unless_one_is_named() {
        let two = || answer(&[(3, "tcp://03"), (1, "tcp://01")]);
        let target = |rank| choose("a", two(), rank).ok().unwrap().targets[0][0];
        assert_eq!((target(None), target(Some(3))), (1, 3));
        let missing = choose("a", two(), Some(2)).err().unwrap();
        let error = missing.error.to_string();
        assert!(
            error.contains("rank 2") && error.contains("[1, 3]"),
            "{error}"
        );
        assert!(!missing.comes_by_itself, "nobody knows rank 2");
        assert!(choose("a", answer(&[]), None).is_err());
        let missing = choose("a", answer(&[(0, "tcp://")]), None).err().unwrap();
        assert!(missing.error.to_string().contains("tcp://"));
    }

    #[test]
    fn a_rank_that_does_not_serve_now_is_waited_for_and_not_replaced() {
        let restarting = || GetAttachInfoResp {
            ms_ranks: vec![0, 1],
            ..answer(&[(1, "tcp://01")])
        };
        for rank in [None, Some(0)] {
            let missing = choose("a", restarting(), rank).err().unwrap();
            assert!(missing.comes_by_itself, "{rank:?}");
            let error = missing.error.to_string();
            assert!(error.contains("rank 0") && error.contains("[1]"), "{error}");
        }
        assert!(choose("a", restarting(), Some(1)).is_ok());
    }

    #[tokio::test]
    async fn a_server_that_is_too_busy_to_answer_is_asked_again() {
        // The kernel connects, and nobody reads.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let access_point = silent.local_addr().unwrap().to_string();
        let missing = look(&plain(&access_point), None).await.err().unwrap();
        let error = missing.error.to_string();
        assert!(missing.comes_by_itself, "{error}");
        assert!(
            error.contains(&access_point) && error.contains("not answered for 3 s"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_does_not_answer_is_named() {
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let access_point = free.local_addr().unwrap().to_string();
        drop(free);
        let source = plain(&access_point);
        let error = look(&source, None).await.err().unwrap().error.to_string();
        assert!(
            error.contains(&access_point) && error.contains("refused"),
            "{error}"
        );
        let source = plain("not a host");
        let error = look(&source, None).await.err().unwrap().error.to_string();
        assert!(error.contains("not a host"), "{error}");
    }
}
