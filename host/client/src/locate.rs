//! Finds the engine, and finds it again after it was restarted.

use crate::retry::Patience;
use crate::{EngineAddress, Error, Options};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use daos_proto::mgmt::{GetAttachInfoReq, GetAttachInfoResp};
use daos_proto::{COMPONENT_HEADER, VERSION_HEADER};
use daos_wire::EngineUri;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

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
    source: EngineAddress,
    system: Option<String>,
    rank: Option<u32>,
    view: RwLock<Arc<View>>,
    /// Held while looking, so that many callers in need look once.
    looking: tokio::sync::Mutex<()>,
}

impl Locator {
    /// Looks for the engine for the first time; waits for one that is being started.
    pub(crate) async fn new(options: &Options) -> Result<Self, Error> {
        let source = options.engine.clone();
        let mut patience = Patience::new(options.deadline);
        let uri = loop {
            match look(&source, options.system.as_deref(), options.rank).await {
                Ok(uri) => break uri,
                Err(missing) if missing.comes_by_itself && patience.pause().await => {}
                Err(missing) => return Err(*missing.error),
            }
        };
        Ok(Self {
            source,
            system: options.system.clone(),
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
        if current.epoch > seen.epoch || matches!(self.source, EngineAddress::Uri(_)) {
            return Ok(Vec::new());
        }
        let uri = look(&self.source, self.system.as_deref(), self.rank)
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

async fn look(
    source: &EngineAddress,
    system: Option<&str>,
    rank: Option<u32>,
) -> Result<EngineUri, Missing> {
    let access_points = match source {
        EngineAddress::Uri(uri) => return Ok(uri.clone()),
        EngineAddress::AccessPoints(list) => list,
    };
    let mut refused = None;
    let mut unreachable = "none is given".to_owned();
    for access_point in access_points {
        match ask(access_point, system).await {
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

async fn ask(access_point: &str, system: Option<&str>) -> Result<GetAttachInfoResp, Ask> {
    let endpoint = Endpoint::from_shared(format!("http://{access_point}")).map_err(|error| {
        Ask::Address(Error::Address {
            given: access_point.to_owned(),
            expected: "access point (host:port)",
            cause: error.to_string(),
        })
    })?;
    let channel = endpoint
        .connect_timeout(CONNECT)
        .timeout(CONNECT)
        .connect()
        .await
        .map_err(|error| Ask::Unreachable(root_cause(&error)))?;
    let mut client = MgmtSvcClient::with_interceptor(channel, identify);
    let request = GetAttachInfoReq {
        sys: system.map_or_else(String::new, |name| {
            format!("{name}-{}", env!("CARGO_PKG_VERSION"))
        }),
        all_ranks: true,
        ..GetAttachInfoReq::default()
    };
    let answer = client.get_attach_info(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| {
        let fault = Fault::from_status(&status);
        if fault.is_none() && status.code() == tonic::Code::Unavailable {
            return Ask::Unreachable(status.message().to_owned());
        }
        Ask::Refused(Missing {
            comes_by_itself: fault
                .as_ref()
                .is_some_and(|fault| fault.status() == ResponseStatus::CtlInProgress),
            error: Box::new(Error::NoEngine {
                access_point: access_point.to_owned(),
                cause: fault
                    .as_ref()
                    .map_or_else(|| status.message().to_owned(), Fault::description),
                remedy: fault.map(|fault| fault.remedy).unwrap_or_default(),
            }),
        })
    })
}

/// Names the caller in the headers of a call.
fn identify(mut request: Request<()>) -> Result<Request<()>, Status> {
    let headers = request.metadata_mut();
    headers.insert(COMPONENT_HEADER, MetadataValue::from_static("client"));
    let version = MetadataValue::from_static(env!("CARGO_PKG_VERSION"));
    headers.insert(VERSION_HEADER, version);
    Ok(request)
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
    async fn what_does_not_answer_is_named() {
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let access_point = free.local_addr().unwrap().to_string();
        drop(free);
        let source = EngineAddress::AccessPoints(vec![access_point.clone()]);
        let error = look(&source, None, None)
            .await
            .err()
            .unwrap()
            .error
            .to_string();
        assert!(
            error.contains(&access_point) && error.contains("refused"),
            "{error}"
        );
        let source = EngineAddress::AccessPoints(vec!["not a host".into()]);
        let error = look(&source, None, None)
            .await
            .err()
            .unwrap()
            .error
            .to_string();
        assert!(error.contains("not a host"), "{error}");
    }
}
