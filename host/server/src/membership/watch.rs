//! The access point looks after members of other servers: one whose server vanished without a word is told as
//! unresponsive, and as joined again when it was only out of reach.
//!
//! Servers tell by themselves when an engine dies, and engines join again when they are restarted; what is found out
//! here is what nobody was left to tell.

use super::{Member, Membership, Peers, Standing};
use futures_util::StreamExt as _;
use futures_util::stream;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tracing::{info, warn};
use uuid::Uuid;

/// Time between two looks at everybody.
const EVERY: Duration = Duration::from_secs(5);
/// How long a server may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Looks in a row that must have said the same before it counts: one may fall into a restart.
const LOOKS: u32 = 2;
/// Servers asked at once.
const AT_ONCE: usize = 64;

/// Name of an engine at its server's health service.
pub(crate) fn health_name(engine: &Uuid) -> String {
    format!("daos.engine/{engine}")
}

/// What a look at a member says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Its engine serves.
    Serving,
    /// Its server answers, and its engine does not serve.
    Idle,
    /// Its server does not answer; why.
    Silent(String),
}

/// Looks at members until it is dropped.
pub(crate) async fn watch(membership: Arc<dyn Membership>, peers: Peers, own: String) {
    let mut watcher = Watcher {
        peers,
        own,
        doubts: BTreeMap::new(),
    };
    loop {
        tokio::time::sleep(EVERY).await;
        watcher.look(membership.as_ref()).await;
    }
}

struct Watcher {
    peers: Peers,
    /// Address of this server, whose engines it knows.
    own: String,
    /// How many looks in a row were at odds with a member's standing, by rank.
    doubts: BTreeMap<u32, u32>,
}

impl Watcher {
    async fn look(&mut self, membership: &dyn Membership) {
        let mut by_server: BTreeMap<String, Vec<Member>> = BTreeMap::new();
        for member in membership.all() {
            let is_open = matches!(member.standing, Standing::Joined | Standing::Unresponsive);
            if is_open && member.address != self.own {
                let members = by_server.entry(member.address.clone()).or_default();
                members.push(member);
            }
        }
        let peers = &self.peers;
        let asked = by_server
            .into_iter()
            .map(|(address, members)| ask(peers, address, members));
        let answers: Vec<Vec<_>> = stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut doubts = BTreeMap::new();
        for (member, seen) in answers.into_iter().flatten() {
            let before = self.doubts.get(&member.rank).copied().unwrap_or(0);
            let Some((standing, why)) = at_odds(&member, &seen) else {
                continue;
            };
            // Who answers again is believed at once.
            if before + 1 < LOOKS && seen != Seen::Serving {
                doubts.insert(member.rank, before + 1);
                continue;
            }
            note(membership, &member, standing, &why);
        }
        self.doubts = doubts;
    }
}

/// What a member is now, and why, if that is not what it was.
fn at_odds(member: &Member, seen: &Seen) -> Option<(Standing, String)> {
    match (member.standing, seen) {
        (Standing::Joined, Seen::Silent(why)) => Some((
            Standing::Unresponsive,
            format!("its server {} does not answer: {why}", member.address),
        )),
        (Standing::Joined | Standing::Unresponsive, Seen::Idle) => Some((
            Standing::Errored,
            format!("its server {} says that it does not serve", member.address),
        )),
        (Standing::Unresponsive, Seen::Serving) => Some((Standing::Joined, String::new())),
        _ => None,
    }
}

fn note(membership: &dyn Membership, member: &Member, standing: Standing, why: &str) {
    match membership.amend(member.rank, member.standing, standing, why) {
        Ok(()) if standing == Standing::Joined => {
            info!(
                rank = member.rank,
                address = member.address,
                "a member answers again"
            );
        }
        Ok(()) => warn!(rank = member.rank, "a member is {}: {why}", standing.name()),
        Err(status) => warn!(rank = member.rank, "{}", status.message()),
    }
}

/// Asks a server for its members. One that has not answered for the first is not asked for the others.
async fn ask(peers: &Peers, address: String, members: Vec<Member>) -> Vec<(Member, Seen)> {
    let mut silent = None;
    let mut seen = Vec::new();
    for member in members {
        let found = match &silent {
            Some(why) => Seen::Silent(String::clone(why)),
            None => look_at(peers, &address, &member).await,
        };
        if let Seen::Silent(why) = &found {
            silent = Some(why.clone());
        }
        seen.push((member, found));
    }
    seen
}

async fn look_at(peers: &Peers, address: &str, member: &Member) -> Seen {
    let service = health_name(&member.uuid);
    let check = |peer| {
        let service = service.clone();
        async move {
            HealthClient::new(peer)
                .check(HealthCheckRequest { service })
                .await
        }
    };
    match peers.ask(address, ANSWER_WITHIN, check).await {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Seen::Serving,
        Ok(_) => Seen::Idle,
        Err(status) if status.code() == Code::NotFound => Seen::Idle,
        Err(status) => Seen::Silent(status.message().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_changes_only_what_it_is_at_odds_with() {
        let silent = Seen::Silent("refused".to_owned());
        let now =
            |standing, seen: &Seen| at_odds(&Member::example(standing), seen).map(|(now, _)| now);
        use Standing::{Errored, Joined, Unresponsive};
        assert_eq!(now(Joined, &Seen::Serving), None);
        assert_eq!(now(Joined, &Seen::Idle), Some(Errored));
        assert_eq!(now(Joined, &silent), Some(Unresponsive));
        assert_eq!(now(Unresponsive, &Seen::Serving), Some(Joined));
        assert_eq!(now(Unresponsive, &Seen::Idle), Some(Errored));
        assert_eq!(now(Unresponsive, &silent), None);
        for decided in [
            Standing::Stopped,
            Standing::Excluded,
            Standing::AdminExcluded,
        ] {
            for seen in [&Seen::Serving, &Seen::Idle, &silent] {
                assert_eq!(now(decided, seen), None, "{decided:?} {seen:?}");
            }
        }
        let (_, why) = at_odds(&Member::example(Joined), &silent).expect("a change");
        assert_eq!(why, "its server a:1 does not answer: refused");
    }
}
