//! The membership as a file of `state_dir`.

use super::{Member, Membership, Newcomer, Standing};
use crate::state::now_ms;
use daos_loader::{StateDir, StateError};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tonic::Status;
use tracing::info;

const FILE: &str = "membership.json";
/// Most members: as many as the protocol's tools are made for.
const MOST: usize = 16_384;
/// Most bytes of an address, a path or a reason.
const TEXT: usize = 4096;

/// Fault numbers of the control plane.
const DOMAIN_DEPTH: i32 = 401;
const ADMIN_EXCLUDED: i32 = 622;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u64,
    members: BTreeMap<u32, Member>,
}

/// The members, in memory and in a file.
pub(crate) struct Kept {
    dir: StateDir,
    document: Mutex<Document>,
}

impl Kept {
    /// Reads what was kept; nobody is a member at first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn open(dir: StateDir) -> Result<Self, StateError> {
        let document = Mutex::new(dir.read(FILE)?);
        Ok(Self { dir, document })
    }

    fn lock(&self) -> MutexGuard<'_, Document> {
        self.document.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change, durably or not at all.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Document) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut document = self.lock();
        let mut next = document.clone();
        let result = change(&mut next)?;
        next.version += 1;
        self.dir
            .update(FILE, |kept: &mut Document| {
                kept.clone_from(&next);
                (true, ())
            })
            .map_err(|error: StateError| Status::unknown(error.to_string()))?;
        *document = next;
        Ok(result)
    }
}

/// The error of a rank that an administrator has taken out.
pub(super) fn admin_excluded(rank: u32) -> Status {
    let fault = Fault::new(
        ResponseStatus::CtlErrApp,
        "server",
        ADMIN_EXCLUDED,
        format!("rank {rank} is not let in"),
        "an administrator has excluded it",
        format!("daos_shell system clear-exclude --ranks {rank}"),
    );
    fault.to_status()
}

fn refused(text: String) -> Status {
    Status::unknown(text)
}

fn depth(fault_domain: &str) -> usize {
    fault_domain.split('/').count()
}

fn provider(uri: &str) -> &str {
    uri.split_once("://").map_or("", |(provider, _)| provider)
}

/// Refuses what cannot be a member beside the others.
fn check(newcomer: &Newcomer, others: &BTreeMap<u32, Member>) -> Result<(), Status> {
    let n = newcomer;
    if [&n.address, &n.uri, &n.fault_domain]
        .iter()
        .any(|text| text.len() > TEXT)
    {
        return Err(refused(format!("a text of more than {TEXT} bytes")));
    }
    if n.uuid.is_nil() {
        return Err(refused("no engine has the UUID nil".to_owned()));
    }
    if !n.fault_domain.starts_with('/') || n.fault_domain.len() < 2 {
        return Err(refused(format!(
            "fault domain {:?} is no path as /rack1/host",
            n.fault_domain
        )));
    }
    let Some(other) = others.values().find(|m| m.uuid != n.uuid) else {
        return Ok(());
    };
    if depth(&n.fault_domain) != depth(&other.fault_domain) {
        let fault = Fault::new(
            ResponseStatus::CtlErrConf,
            "system",
            DOMAIN_DEPTH,
            format!("fault domain {} of {}", n.fault_domain, n.address),
            format!(
                "those of the system have as many layers as {} of rank {}",
                other.fault_domain, other.rank
            ),
            "give all servers fault_path or fault_cb of the same depth, or none",
        );
        return Err(fault.to_status());
    }
    if !other.uri.is_empty() && provider(&n.uri) != provider(&other.uri) {
        return Err(refused(format!(
            "the engine's provider {:?} is not the system's, which is {:?}",
            provider(&n.uri),
            provider(&other.uri)
        )));
    }
    Ok(())
}

/// The rank of a newcomer.
fn rank_of(newcomer: &Newcomer, members: &mut BTreeMap<u32, Member>) -> Result<u32, Status> {
    let n = newcomer;
    if let Some(known) = members.values().find(|m| m.uuid == n.uuid) {
        if known.standing == Standing::AdminExcluded {
            return Err(admin_excluded(known.rank));
        }
        if !n.local && known.address != n.address {
            return Err(refused(format!(
                "engine {} is rank {} of {}, and now comes from {}",
                n.uuid, known.rank, known.address, n.address
            )));
        }
        return match n.rank {
            Some(rank) if rank != known.rank && !n.local => Err(refused(format!(
                "engine {} is rank {}, and now says that it is rank {rank}",
                n.uuid, known.rank
            ))),
            _ => Ok(known.rank),
        };
    }
    // An entry of a configuration has one engine: this one was formatted in the other's place.
    let before = |m: &&Member| m.address == n.address && m.index == n.index;
    if let Some(before) = members.values().find(before).cloned() {
        if before.standing == Standing::AdminExcluded {
            return Err(admin_excluded(before.rank));
        }
        info!(rank = before.rank, was = %before.uuid, now = %n.uuid, "another engine takes the place");
        members.remove(&before.rank);
        let elsewhere = |rank| rank != before.rank && !members.contains_key(&rank);
        return Ok(n.rank.filter(|r| elsewhere(*r)).unwrap_or(before.rank));
    }
    let next = (0..).find(|rank| !members.contains_key(rank));
    let next = next.ok_or_else(|| refused("there is no rank left".to_owned()));
    match n.rank {
        None => next,
        Some(rank) => match members.get(&rank) {
            None => Ok(rank),
            Some(_) if n.local => next,
            Some(other) => Err(refused(format!(
                "rank {rank} is engine {} of {}",
                other.uuid, other.address
            ))),
        },
    }
}

impl Kept {
    fn note_if(
        &self,
        rank: u32,
        is_so: impl Fn(&Member) -> bool,
        standing: Standing,
        info: &str,
    ) -> Result<(), Status> {
        let changes = |m: &Member| {
            is_so(m)
                && !matches!(m.standing, Standing::Excluded | Standing::AdminExcluded)
                && (m.standing != standing || m.info != info)
        };
        // Most of what is noted is known, and that need not be written.
        if !self.lock().members.get(&rank).is_some_and(changes) {
            return Ok(());
        }
        self.change(|document| {
            if let Some(member) = document.members.get_mut(&rank).filter(|m| changes(m)) {
                member.standing = standing;
                member.info = info.chars().take(TEXT).collect();
                member.since_ms = now_ms();
            }
            Ok(())
        })
    }
}

impl Membership for Kept {
    fn all(&self) -> Vec<Member> {
        self.lock().members.values().cloned().collect()
    }

    fn version(&self) -> u64 {
        self.lock().version
    }

    fn join(&self, newcomer: Newcomer) -> Result<Member, Status> {
        self.change(|document| {
            let members = &mut document.members;
            check(&newcomer, members)?;
            let rank = rank_of(&newcomer, members)?;
            if members.len() >= MOST && !members.contains_key(&rank) {
                return Err(refused(format!("the system has {MOST} members already")));
            }
            let member = Member {
                rank,
                uuid: newcomer.uuid,
                address: newcomer.address,
                index: newcomer.index,
                standing: Standing::Joined,
                info: String::new(),
                uri: newcomer.uri,
                contexts: newcomer.contexts,
                fault_domain: newcomer.fault_domain,
                incarnation: newcomer.incarnation,
                since_ms: now_ms(),
            };
            members.insert(rank, member.clone());
            Ok(member)
        })
    }

    fn note(&self, rank: u32, standing: Standing, info: &str) -> Result<(), Status> {
        self.note_if(rank, |_| true, standing, info)
    }

    fn amend(
        &self,
        rank: u32,
        was: Standing,
        standing: Standing,
        info: &str,
    ) -> Result<(), Status> {
        self.note_if(rank, |member| member.standing == was, standing, info)
    }

    fn exclude(&self, rank: u32, clear: bool) -> Result<Member, Status> {
        self.change(|document| {
            let member = document.members.get_mut(&rank);
            let member = member.ok_or_else(|| refused(format!("there is no rank {rank}")))?;
            let is_out = member.standing == Standing::AdminExcluded;
            (member.standing, member.info) = match clear {
                true if !is_out => {
                    return Err(refused(format!("rank {rank} is not excluded")));
                }
                true => (
                    Standing::Excluded,
                    "let in again, not joined yet".to_owned(),
                ),
                false => (
                    Standing::AdminExcluded,
                    "excluded by an administrator".to_owned(),
                ),
            };
            member.since_ms = now_ms();
            Ok(member.clone())
        })
    }

    fn erase(&self) -> Result<(), Status> {
        self.change(|document| {
            document.members.clear();
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn newcomer(uuid: u128, address: &str, index: u32) -> Newcomer {
        Newcomer {
            uuid: Uuid::from_u128(uuid),
            address: address.to_owned(),
            index,
            uri: "tcp://01".to_owned(),
            fault_domain: "/h".to_owned(),
            ..Newcomer::default()
        }
    }

    fn open(dir: &tempfile::TempDir) -> Kept {
        Kept::open(StateDir::open(dir.path()).unwrap()).unwrap()
    }

    fn code(status: &Status) -> i32 {
        Fault::from_status(status).map_or(0, |fault| fault.code)
    }

    #[test]
    fn ranks_are_given_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = open(&dir);
        let rank = |n| kept.join(n).map(|m| m.rank);
        assert_eq!(rank(newcomer(1, "a:1", 0)).unwrap(), 0);
        assert_eq!(rank(newcomer(2, "a:1", 1)).unwrap(), 1);
        let mut five = newcomer(3, "b:1", 0);
        five.rank = Some(5);
        assert_eq!(rank(five.clone()).unwrap(), 5);
        assert_eq!(rank(newcomer(4, "c:1", 0)).unwrap(), 2);
        // Again the same; with another rank it is somebody else.
        assert_eq!(rank(newcomer(2, "a:1", 1)).unwrap(), 1);
        five.rank = Some(4);
        assert!(rank(five).is_err());
        // Of a taken rank only this server's own engines take another.
        let mut wants = newcomer(5, "d:1", 0);
        wants.rank = Some(0);
        assert!(rank(wants.clone()).unwrap_err().message().contains("a:1"));
        wants.local = true;
        assert_eq!(rank(wants).unwrap(), 3);
        assert!(
            rank(newcomer(2, "x:1", 1))
                .unwrap_err()
                .message()
                .contains("x:1")
        );
        // Formatted anew in the place of rank 1.
        assert_eq!(rank(newcomer(9, "a:1", 1)).unwrap(), 1);
        let version = kept.version();
        drop(kept);
        let kept = open(&dir);
        assert_eq!(kept.version(), version);
        let ranks: Vec<_> = kept.all().iter().map(|m| (m.rank, m.uuid)).collect();
        let of = |n: u128| Uuid::from_u128(n);
        assert_eq!(
            ranks,
            [(0, of(1)), (1, of(9)), (2, of(4)), (3, of(5)), (5, of(3))]
        );
        kept.erase().unwrap();
        assert!(open(&dir).all().is_empty());
    }

    #[test]
    fn what_does_not_fit_the_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let kept = open(&dir);
        kept.join(newcomer(1, "a:1", 0)).unwrap();
        type Change = fn(&mut Newcomer);
        for (change, words) in [
            ((|n| n.uuid = Uuid::nil()) as Change, "nil"),
            (|n| n.fault_domain.clear(), "no path"),
            (|n| n.fault_domain = "h".to_owned(), "no path"),
            (|n| n.fault_domain = "/r/h".to_owned(), "layers"),
            (|n| n.uri = "ofi+tcp://01".to_owned(), "ofi+tcp"),
            (|n| n.uri = "x".repeat(TEXT + 1), "bytes"),
        ] {
            let mut n = newcomer(2, "b:1", 0);
            change(&mut n);
            let error = kept.join(n).unwrap_err();
            assert!(error.message().contains(words), "{words}: {error}");
        }
        assert_eq!(kept.all().len(), 1);
    }

    #[test]
    fn what_an_administrator_decides_stays() {
        let dir = tempfile::tempdir().unwrap();
        let kept = open(&dir);
        kept.join(newcomer(1, "a:1", 0)).unwrap();
        assert!(kept.exclude(0, true).is_err() && kept.exclude(7, false).is_err());
        kept.exclude(0, false).unwrap();
        drop(kept);
        let kept = open(&dir);
        assert!(kept.is_excluded(Uuid::from_u128(1)));
        kept.note(0, Standing::Joined, "").unwrap();
        for n in [newcomer(1, "a:1", 0), newcomer(2, "a:1", 0)] {
            assert_eq!(code(&kept.join(n).unwrap_err()), ADMIN_EXCLUDED);
        }
        assert_eq!(kept.all()[0].standing, Standing::AdminExcluded);
        kept.exclude(0, true).unwrap();
        kept.note(0, Standing::Stopped, "x").unwrap();
        assert_eq!(kept.all()[0].standing, Standing::Excluded);
        kept.join(newcomer(1, "a:1", 0)).unwrap();
        kept.note(0, Standing::Errored, "it died").unwrap();
        let member = &kept.all()[0];
        assert_eq!(
            (member.standing, member.info.as_str()),
            (Standing::Errored, "it died")
        );
        let version = kept.version();
        kept.note(0, Standing::Errored, "it died").unwrap();
        assert_eq!(kept.version(), version, "nothing has changed");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_no_empty_system() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        let error = Kept::open(StateDir::open(dir.path()).unwrap()).err();
        assert!(error.unwrap().to_string().contains(FILE));
    }
}
