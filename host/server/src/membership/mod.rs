//! Who belongs to the system, and what administrators have decided about them.
//!
//! The access point keeps it ([`Membership`], behind which replicas can stand); other servers have their engines
//! join there ([`Elsewhere`]). What an engine does at the moment is not part of it: its own server knows.

mod elsewhere;
mod join;
mod kept;
mod peers;
mod watch;

pub(crate) use elsewhere::Elsewhere;
pub(crate) use join::{Joined, join};
pub(crate) use kept::Kept;
pub(crate) use peers::Peers;
pub(crate) use watch::{health_name, watch};

use daos_config::Config;
use daos_loader::StateError;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tracing::warn;
use uuid::Uuid;

/// How long the name of an access point may take to be resolved.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);

/// What a member was when it was last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// It serves.
    Joined,
    /// It was stopped.
    Stopped,
    /// It died, or did not do as it was told.
    Errored,
    /// Its server did not answer.
    Unresponsive,
    /// It was let in again and has not joined yet.
    Excluded,
    /// An administrator took it out; only an administrator lets it in again.
    AdminExcluded,
}

impl Standing {
    /// As the protocol names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Stopped => "stopped",
            Self::Errored => "errored",
            Self::Unresponsive => "unresponsive",
            Self::Excluded => "excluded",
            Self::AdminExcluded => "adminexcluded",
        }
    }
}

/// An engine of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) rank: u32,
    /// Of its superblock.
    pub(crate) uuid: Uuid,
    /// Control address of its server, `host:port`.
    pub(crate) address: String,
    /// Its number there.
    pub(crate) index: u32,
    pub(crate) standing: Standing,
    /// Why, in a few words.
    pub(crate) info: String,
    /// Where it is reached on the fabric.
    pub(crate) uri: String,
    pub(crate) contexts: u32,
    pub(crate) fault_domain: String,
    pub(crate) incarnation: u64,
    pub(crate) since_ms: u64,
}

#[cfg(test)]
impl Member {
    /// Rank 0, of a server at `a:1`.
    pub(crate) fn example(standing: Standing) -> Self {
        Self {
            rank: 0,
            uuid: Uuid::from_u128(1),
            address: "a:1".to_owned(),
            index: 0,
            standing,
            info: String::new(),
            uri: "tcp://01".to_owned(),
            contexts: 2,
            fault_domain: "/h".to_owned(),
            incarnation: 1,
            since_ms: 0,
        }
    }
}

/// An engine that wants to be a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Newcomer {
    pub(crate) uuid: Uuid,
    pub(crate) address: String,
    pub(crate) index: u32,
    /// The rank that it has or would like.
    pub(crate) rank: Option<u32>,
    /// It takes another rank as well; and the address is this server's own, so it may have changed.
    pub(crate) local: bool,
    pub(crate) uri: String,
    pub(crate) contexts: u32,
    pub(crate) fault_domain: String,
    pub(crate) incarnation: u64,
}

/// The members of a system. Every change is durable when its function returns.
pub(crate) trait Membership: Send + Sync {
    /// All of them, by rank.
    fn all(&self) -> Vec<Member>;

    /// Grows with each change.
    fn version(&self) -> u64;

    /// Takes an engine in, or takes note of where one is now.
    ///
    /// # Errors
    /// It cannot be a member as it wants to, or that cannot be kept.
    fn join(&self, newcomer: Newcomer) -> Result<Member, Status>;

    /// Notes what a rank is. What an administrator has decided stays as it is.
    ///
    /// # Errors
    /// It cannot be kept.
    fn note(&self, rank: u32, standing: Standing, info: &str) -> Result<(), Status>;

    /// The same, if the rank still is what it `was` when that was found out.
    ///
    /// # Errors
    /// As for [`Self::note`].
    fn amend(&self, rank: u32, was: Standing, standing: Standing, info: &str)
    -> Result<(), Status>;

    /// Takes a rank out, or, with `clear`, lets it in again.
    ///
    /// # Errors
    /// There is no such rank, it has not been taken out, or that cannot be kept.
    fn exclude(&self, rank: u32, clear: bool) -> Result<Member, Status>;

    /// Forgets everybody.
    ///
    /// # Errors
    /// That cannot be kept.
    fn erase(&self) -> Result<(), Status>;

    /// Whether an administrator has taken this engine out.
    fn is_excluded(&self, uuid: Uuid) -> bool {
        let out = |m: &Member| m.uuid == uuid && m.standing == Standing::AdminExcluded;
        self.all().iter().any(out)
    }
}

/// Where the membership is kept.
pub(crate) enum Place {
    /// By this server.
    Here(Arc<dyn Membership>),
    /// By another one.
    Elsewhere(Elsewhere),
}

impl Place {
    /// The place that the configuration names.
    ///
    /// # Errors
    /// The membership that is kept here cannot be read.
    pub(crate) async fn of(
        config: &Config,
        state_dir: &daos_loader::StateDir,
        peers: &Peers,
    ) -> Result<Self, StateError> {
        let access_points = config.access_point_addresses();
        let mut here = config.access_points.is_empty();
        for access_point in &access_points {
            here = here || is_here(access_point, config.port).await;
        }
        if !here {
            let elsewhere = Elsewhere::new(config, access_points, peers.clone());
            return Ok(Self::Elsewhere(elsewhere));
        }
        if access_points.len() > 1 {
            warn!(
                "the membership is kept by this server alone: several access points do not share it yet, so give all \
                 servers the same single one"
            );
        }
        Ok(Self::Here(Arc::new(Kept::open(state_dir.clone())?)))
    }

    /// The membership, if this server keeps it.
    pub(crate) fn here(&self) -> Option<&Arc<dyn Membership>> {
        match self {
            Self::Here(membership) => Some(membership),
            Self::Elsewhere(_) => None,
        }
    }
}

/// Whether `host:port` is this server.
async fn is_here(access_point: &str, own_port: u16) -> bool {
    let Some((host, port)) = access_point.rsplit_once(':') else {
        return false;
    };
    if port.parse() != Ok(own_port) {
        return false;
    }
    if host == crate::state::hostname() {
        return true;
    }
    let looked_up = tokio::net::lookup_host(access_point.to_owned());
    match tokio::time::timeout(RESOLVED_WITHIN, looked_up).await {
        Ok(Ok(mut addresses)) => addresses.any(|address| is_own(address.ip())),
        Ok(Err(error)) => {
            warn!("access point {access_point} cannot be found: {error}");
            false
        }
        Err(_) => {
            warn!("access point {access_point} cannot be found in time; check the name service");
            false
        }
    }
}

/// Whether an address is one of this machine: only those can be bound to.
pub(crate) fn is_own(ip: IpAddr) -> bool {
    !ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_access_point_is_here_by_address_and_port() {
        let own = crate::state::hostname();
        for (access_point, here) in [
            ("127.0.0.1:10001", true),
            ("localhost:10001", true),
            ("127.0.0.1:10002", false),
            ("192.0.2.1:10001", false),
            (&*format!("{own}:10001"), true),
            ("no.such.host.invalid:10001", false),
        ] {
            assert_eq!(is_here(access_point, 10001).await, here, "{access_point}");
        }
    }
}
