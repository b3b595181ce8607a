//! Which members of a system a request names.

use daos_proto::mgmt::SystemMember;
use tonic::Status;

/// Members that a request names by ranks or hosts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) ranks: Vec<u32>,
    /// Ranks that there are not.
    pub(super) absent_ranks: String,
    /// Hosts that there are not.
    pub(super) absent_hosts: String,
}

/// The members of a system by ranks or by hosts; all without either.
///
/// # Errors
/// The request makes no sense.
pub(super) fn select(
    members: &[SystemMember],
    ranks: &str,
    hosts: &str,
) -> Result<Selection, Status> {
    let all = || members.iter().map(|member| member.rank);
    match (ranks.trim().is_empty(), hosts.trim().is_empty()) {
        (true, true) => Ok(Selection {
            ranks: all().collect(),
            ..Selection::default()
        }),
        (false, false) => Err(Status::unknown(
            "ranks and hosts cannot both be set in request",
        )),
        (false, true) => {
            let wanted = ranks_of(ranks)?;
            let (ranks, absent): (Vec<u32>, Vec<u32>) =
                wanted.iter().partition(|rank| all().any(|r| r == **rank));
            let absent: Vec<String> = absent.iter().map(u32::to_string).collect();
            Ok(Selection {
                ranks,
                absent_ranks: absent.join(","),
                ..Selection::default()
            })
        }
        (true, false) => {
            let wanted = daos_hostlist::hosts(hosts).map_err(|e| Status::unknown(e.to_string()))?;
            let is_on = |member: &SystemMember, host: &str| {
                let bare = member.addr.rsplit_once(':').map_or("", |(bare, _)| bare);
                member.addr == host || bare == host
            };
            let mut selection = Selection::default();
            let mut absent = Vec::new();
            for host in &wanted {
                let here = members.iter().filter(|member| is_on(member, host));
                let before = selection.ranks.len();
                selection.ranks.extend(here.map(|member| member.rank));
                if selection.ranks.len() == before {
                    absent.push(host.as_str());
                }
            }
            selection.ranks.sort_unstable();
            selection.ranks.dedup();
            selection.absent_hosts = daos_hostlist::fold(absent);
            Ok(selection)
        }
    }
}

/// A set of ranks as text.
///
/// # Errors
/// It makes no sense.
pub(super) fn ranks_of(ranks: &str) -> Result<Vec<u32>, Status> {
    daos_hostlist::numbers(ranks).map_err(|why| Status::unknown(format!("ranks {ranks:?}: {why}")))
}

/// Whether a state is one of a mask's; 0 stands for all.
pub(super) fn is_in(mask: u32, state: &str) -> bool {
    let bit = match state {
        "awaitformat" => 0x1,
        "starting" => 0x2,
        "ready" => 0x4,
        "joined" => 0x8,
        "stopping" => 0x10,
        "stopped" => 0x20,
        "excluded" => 0x40,
        "errored" => 0x80,
        "unresponsive" => 0x100,
        "adminexcluded" => 0x200,
        _ => 0,
    };
    mask == 0 || mask & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(rank: u32, addr: &str, uuid: &str) -> SystemMember {
        SystemMember {
            rank,
            addr: addr.to_owned(),
            uuid: uuid.to_owned(),
            state: "joined".to_owned(),
            ..SystemMember::default()
        }
    }

    #[test]
    fn members_are_chosen_by_ranks_or_hosts() {
        let members = [
            member(0, "node1:10001", "u"),
            member(1, "node1:10001", "u"),
            member(2, "node2:10001", "u"),
        ];
        let chosen = |ranks, hosts| {
            let s = select(&members, ranks, hosts).unwrap();
            (s.ranks, s.absent_ranks, s.absent_hosts)
        };
        let none = String::new;
        assert_eq!(chosen("", ""), (vec![0, 1, 2], none(), none()));
        assert_eq!(chosen("1-4", ""), (vec![1, 2], "3,4".to_owned(), none()));
        assert_eq!(
            chosen("", "node[1,3-4],node2:10001"),
            (vec![0, 1, 2], none(), "node[3-4]".to_owned())
        );
        for (ranks, hosts) in [("0", "node1"), ("x", ""), ("", "n[")] {
            assert!(select(&members, ranks, hosts).is_err(), "{ranks} {hosts}");
        }
    }

    #[test]
    fn masks_choose_states() {
        assert!(is_in(0, "joined") && is_in(65_535, "errored") && is_in(0x8, "joined"));
        assert!(!is_in(0x8, "stopped"));
    }
}
