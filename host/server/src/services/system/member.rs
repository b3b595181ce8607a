//! How a member is told, and where its server is.

use crate::membership::{Member, Standing, is_own};
use crate::services::local::rfc3339;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use daos_proto::mgmt::SystemMember;
use std::net::{IpAddr, SocketAddr};
use tonic::Status;

/// How members of this server are told that are none of its engines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Without<'a> {
    /// Its control address.
    pub(super) address: &'a str,
    /// The storage of an engine is still being looked at.
    pub(super) undecided: bool,
}

/// A member as the protocol tells it; one of this server's engines, as it is now.
pub(super) fn described(
    member: Member,
    local: &[SystemMember],
    without: Without<'_>,
) -> SystemMember {
    let uuid = member.uuid.to_string();
    let live = local.iter().find(|engine| engine.uuid == uuid);
    let is_gone = live.is_none()
        && member.address == without.address
        && member.standing != Standing::AdminExcluded;
    let serves = |engine: &SystemMember| engine.state == Standing::Joined.name();
    let live = live.filter(|engine| match member.standing {
        Standing::AdminExcluded => false,
        // It was let in again: it is stopped until somebody starts it.
        Standing::Excluded => serves(engine),
        _ => true,
    });
    let mut told = SystemMember {
        addr: member.address,
        uuid,
        rank: member.rank,
        incarnation: member.incarnation,
        state: member.standing.name().to_owned(),
        fabric_uri: member.uri,
        fabric_contexts: member.contexts,
        info: member.info,
        fault_domain: member.fault_domain,
        last_update: rfc3339(member.since_ms),
        ..SystemMember::default()
    };
    if is_gone {
        let (state, info) = match without.undecided {
            true => ("starting", "its storage is being checked"),
            false => ("awaitformat", "its server has no such engine now"),
        };
        (told.state, told.info) = (state.to_owned(), info.to_owned());
    }
    if let Some(engine) = live {
        told.addr.clone_from(&engine.addr);
        told.state.clone_from(&engine.state);
        told.info.clone_from(&engine.info);
        told.last_update.clone_from(&engine.last_update);
        if serves(engine) {
            told.fabric_uri.clone_from(&engine.fabric_uri);
            told.fabric_contexts = engine.fabric_contexts;
            told.incarnation = engine.incarnation;
        }
    }
    told
}

/// The control address that a server names, with the caller's own where it names none.
///
/// # Errors
/// It is no address, or one at which only the caller's own host reaches it.
pub(super) fn control_address(named: &str, peer: Option<SocketAddr>) -> Result<String, Status> {
    let failed = |why: &str| {
        Status::unknown(format!(
            "failed to parse {named:?} into a peer control address: {why}"
        ))
    };
    let (host, port) = named
        .rsplit_once(':')
        .ok_or_else(|| failed("get listening port: missing port in address"))?;
    let port: u16 = port.parse().map_err(|_| failed("the port is no number"))?;
    if port == 0 || host.is_empty() {
        return Err(failed("host or port is missing"));
    }
    if let Some(peer) = peer
        && is_loopback(host)
        && !(peer.ip().is_loopback() || is_own(peer.ip()))
    {
        let fault = Fault::new(
            ResponseStatus::CtlErrConf,
            "system",
            0,
            format!("the server at {} cannot be a member as it is", peer.ip()),
            format!("it listens at {named}, where only its own host reaches it"),
            "write control_iface into its configuration, an interface that the other servers of the system reach (without \
             certificates it is the loopback unless set), and start it again",
        );
        return Err(fault.to_status());
    }
    let anywhere = matches!(host, "0.0.0.0" | "[::]");
    match (anywhere, peer) {
        (false, _) => Ok(named.to_owned()),
        (true, Some(peer)) => Ok(SocketAddr::new(peer.ip(), port).to_string()),
        (true, None) => Err(failed("it is not known where the caller is")),
    }
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use uuid::Uuid;

    #[test]
    fn a_loopback_is_taken_only_from_this_host() {
        let loopbacks = ["127.0.0.1:10001", "127.1.2.3:1", "[::1]:1", "LocalHost:1"];
        let other = "192.0.2.7:40000".parse().ok();
        for named in loopbacks {
            let status = control_address(named, other).unwrap_err();
            let fault = Fault::from_status(&status).unwrap();
            assert!(fault.what.contains("192.0.2.7"), "{fault:?}");
            assert!(fault.cause.contains(named), "{fault:?}");
            assert!(fault.remedy.contains("control_iface"), "{fault:?}");
        }
        assert!(control_address("192.0.2.9:10001", other).is_ok());
        // Servers of one host reach each other there, by whatever address they call from.
        let mut own = vec!["127.0.0.1:40000".parse::<SocketAddr>().unwrap()];
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        // Sends nothing: the kernel says by which address it would.
        if socket.connect("192.0.2.1:9").is_ok() {
            own.push(socket.local_addr().unwrap());
        }
        for (peer, named) in own.into_iter().flat_map(|p| loopbacks.map(|n| (p, n))) {
            assert_eq!(control_address(named, Some(peer)).unwrap(), named, "{peer}");
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_where_it_calls_from() {
        let peer = "192.0.2.7:40000".parse().ok();
        let address = |named| control_address(named, peer).map_err(|s| s.message().to_owned());
        assert_eq!(address("0.0.0.0:10001").unwrap(), "192.0.2.7:10001");
        assert_eq!(address("[::]:10001").unwrap(), "192.0.2.7:10001");
        assert_eq!(address("node1:10001").unwrap(), "node1:10001");
        assert_eq!(
            address("").unwrap_err(),
            "failed to parse \"\" into a peer control address: get listening port: missing port in address"
        );
        for wrong in ["node1", "node1:x", ":10001", "node1:0", "node1:99999"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        assert!(control_address("0.0.0.0:1", None).is_err());
    }

    #[test]
    fn what_an_administrator_has_decided_comes_before_what_is_seen() {
        let engine = |state: &str| SystemMember {
            uuid: Uuid::from_u128(1).to_string(),
            state: state.to_owned(),
            addr: "b:1".to_owned(),
            ..SystemMember::default()
        };
        let elsewhere = Without {
            address: "x:1",
            undecided: false,
        };
        let told = |standing, state| {
            described(Member::example(standing), &[engine(state)], elsewhere).state
        };
        assert_eq!(told(Standing::Joined, "stopped"), "stopped");
        assert_eq!(told(Standing::AdminExcluded, "joined"), "adminexcluded");
        assert_eq!(told(Standing::Excluded, "stopped"), "excluded");
        assert_eq!(told(Standing::Excluded, "joined"), "joined");
        let alone = |standing, address, undecided| {
            let without = Without { address, undecided };
            described(Member::example(standing), &[], without).state
        };
        assert_eq!(alone(Standing::Errored, "x:1", false), "errored");
        assert_eq!(alone(Standing::Joined, "a:1", false), "awaitformat");
        assert_eq!(alone(Standing::Joined, "a:1", true), "starting");
        assert_eq!(
            alone(Standing::AdminExcluded, "a:1", false),
            "adminexcluded"
        );
    }
}
