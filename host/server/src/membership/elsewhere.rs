//! A system whose membership another server keeps.

use super::{Newcomer, Peers};
use crate::state::now_ms;
use daos_config::Config;
use daos_proto::NO_RANK;
use daos_proto::mgmt::JoinReq;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use daos_proto::shared::ras_event::{EngineStateEventInfo, Value};
use daos_proto::shared::{ClusterEventReq, RasEvent};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::{Code, Status};
use tracing::{info, warn};

/// How long an access point may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Pauses between two rounds of the access points.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Texts of a system that will take members later.
const NOT_YET: [&str; 3] = [
    "system is uninitialized (storage format required?)",
    "raft service unavailable (not started yet?)",
    "leader step-up in progress (try again)",
];

/// Event of an engine that died, or, without an error, was stopped.
const ENGINE_DIED: u32 = 2;

/// Severities of events.
const ERROR: u32 = 1;
const NOTICE: u32 = 3;

/// The servers that keep the membership.
pub(crate) struct Elsewhere {
    access_points: Vec<String>,
    system: String,
    /// Announced instead of the name that this server goes by, if it is reached where its calls come from.
    everywhere: Option<String>,
    peers: Peers,
}

impl Elsewhere {
    pub(crate) fn new(config: &Config, access_points: Vec<String>, peers: Peers) -> Self {
        let one_interface =
            config.transport_config.allow_insecure || config.control_iface.is_some();
        Self {
            access_points,
            // A server that listens at one interface, the loopback in plain text, is reached there and nowhere else, also when
            // its calls leave by another one. One that listens at all is reached where the access point sees it call from.
            everywhere: (!one_interface).then(|| format!("0.0.0.0:{}", config.port)),
            system: format!("{}-{}", config.name, daos_proto::PROTOCOL_VERSION),
            peers,
        }
    }

    /// Where they are, `host:port`.
    pub(crate) fn access_points(&self) -> &[String] {
        &self.access_points
    }

    /// What an access point is told of an engine.
    fn announced(&self, newcomer: Newcomer) -> JoinReq {
        JoinReq {
            sys: self.system.clone(),
            uuid: newcomer.uuid.to_string(),
            rank: newcomer.rank.unwrap_or(NO_RANK),
            uri: newcomer.uri,
            nctxs: newcomer.contexts,
            addr: self.everywhere.clone().unwrap_or(newcomer.address),
            srv_fault_domain: newcomer.fault_domain,
            idx: newcomer.index,
            incarnation: newcomer.incarnation,
            ..JoinReq::default()
        }
    }

    /// Has an engine join, and waits for access points that cannot take it yet; `waits` hears why. Returns its rank
    /// and the version of the membership.
    ///
    /// # Errors
    /// It is refused.
    pub(super) async fn join(
        &self,
        newcomer: Newcomer,
        waits: impl Fn(&str),
    ) -> Result<(u32, u32), Status> {
        let request = self.announced(newcomer);
        let mut pause = FIRST_PAUSE;
        loop {
            let mut why = String::new();
            for access_point in &self.access_points {
                match self.ask(access_point, &request).await {
                    Ok((rank, version)) => {
                        info!(rank, access_point, "joined the system");
                        return Ok((rank, version));
                    }
                    Err(status) if is_final(&status) => return Err(status),
                    Err(status) => why = format!("{access_point}: {}", status.message()),
                }
            }
            waits(&why);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn ask(&self, access_point: &str, request: &JoinReq) -> Result<(u32, u32), Status> {
        let peer = self.peers.connect(access_point, ANSWER_WITHIN).await;
        let peer = peer.map_err(Status::unavailable)?;
        let answer = MgmtSvcClient::new(peer).join(request.clone()).await?;
        let answer = answer.into_inner();
        Ok((answer.rank, answer.map_version))
    }

    /// Tells that an engine died of something, or that it was stopped. Who does not hear it sees that it does not answer.
    pub(crate) async fn tell_end(
        &self,
        rank: u32,
        index: u32,
        incarnation: u64,
        died_of: Option<String>,
    ) {
        let time = OffsetDateTime::now_utc().format(&Rfc3339);
        let event = RasEvent {
            id: ENGINE_DIED,
            msg: match died_of {
                Some(_) => "DAOS engine exited unexpectedly",
                None => "DAOS engine stopped",
            }
            .to_owned(),
            timestamp: time.unwrap_or_default(),
            r#type: 1,
            severity: if died_of.is_some() { ERROR } else { NOTICE },
            hostname: crate::state::hostname(),
            rank,
            incarnation,
            value: Some(Value::EngineStateInfo(EngineStateEventInfo {
                instance: index,
                errored: died_of.is_some(),
                error: died_of.unwrap_or_default(),
            })),
            ..RasEvent::default()
        };
        for access_point in &self.access_points {
            let told = async {
                let peer = self.peers.connect(access_point, ANSWER_WITHIN).await;
                let peer = peer.map_err(Status::unavailable)?;
                let request = ClusterEventReq {
                    sequence: now_ms(),
                    event: Some(event.clone()),
                };
                MgmtSvcClient::new(peer).cluster_event(request).await
            };
            match told.await {
                Ok(_) => return,
                Err(status) => warn!(
                    access_point,
                    "it was not told of the engine's end: {}",
                    status.message()
                ),
            }
        }
    }
}

/// Whether asking again is of no use.
fn is_final(status: &Status) -> bool {
    let passes = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    );
    let later = NOT_YET.iter().any(|text| status.message().contains(text));
    // Another access point of the list keeps it.
    let ask_another = daos_proto::fault::is_not_replica(status);
    !(passes || later || ask_another)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_server_is_announced_where_it_listens() {
        let addr = |insecure: bool, control_iface: Option<&str>| {
            let mut config = Config::default();
            config.transport_config.allow_insecure = insecure;
            config.control_iface = control_iface.map(str::to_owned);
            let elsewhere = Elsewhere::new(&config, Vec::new(), Peers::new(&config));
            let newcomer = Newcomer {
                uuid: Uuid::from_u128(1),
                address: "10.1.0.7:10001".to_owned(),
                index: 0,
                rank: None,
                local: false,
                uri: String::new(),
                contexts: 1,
                fault_domain: "/a".to_owned(),
                incarnation: 1,
            };
            elsewhere.announced(newcomer).addr
        };
        assert_eq!(addr(false, None), "0.0.0.0:10001");
        assert_eq!(addr(false, Some("ib0")), "10.1.0.7:10001");
        assert_eq!(addr(true, None), "10.1.0.7:10001");
        assert_eq!(addr(true, Some("ib0")), "10.1.0.7:10001");
    }

    #[test]
    fn only_what_does_not_pass_is_final() {
        for text in NOT_YET {
            assert!(!is_final(&Status::unknown(text)), "{text}");
        }
        assert!(!is_final(&Status::unavailable("connection refused")));
        assert!(!is_final(&Status::cancelled("Timeout expired")));
        let other = daos_proto::fault::not_replica(&["a:1".to_owned()]);
        assert!(!is_final(&other));
        assert!(is_final(&Status::unknown("rank 3 is engine x of y")));
        assert!(is_final(&Status::permission_denied("no")));
    }
}
