//! Choices and refusals in words.

use super::candidates::Candidate;
use super::{Family, Refusal};
use crate::interfaces::Link;
use std::collections::BTreeMap;

/// Why a provider was taken.
pub(super) fn provider(
    family: Family,
    all: &[Candidate],
    best: &Candidate,
    allow_loopback: bool,
) -> String {
    let why = match family {
        Family::Psm2 => "there is Omni-Path".to_owned(),
        Family::Verbs => format!("there is {} and no usable Omni-Path", kind(best.link)),
        Family::Tcp => "no Omni-Path, InfiniBand or RoCE interface is usable".to_owned(),
    };
    let passed_over: BTreeMap<&str, &str> = all
        .iter()
        .filter(|c| c.family.is_some_and(|better| better < family))
        .filter_map(|c| Some((c.name.as_str(), c.obstacle(allow_loopback)?)))
        .collect();
    match passed_over.is_empty() {
        true => format!("{}: {why}", best.provider),
        false => format!("{}: {why} ({})", best.provider, listed(&passed_over)),
    }
}

/// Why an interface was taken among others.
pub(super) fn interface(best: &Candidate, usable: &[&Candidate], node: Option<u32>) -> String {
    let name = &best.name;
    if best.link == Link::Loopback {
        return format!("{name} is all that is up, so clients on this machine only");
    }
    let kind = kind(best.link);
    let mut others: Vec<&str> = usable
        .iter()
        .filter(|c| c.name != *name && c.kind_rank() == best.kind_rank())
        .map(|c| c.name.as_str())
        .collect();
    others.sort_unstable();
    others.dedup();
    let mut text = match (node, best.numa_node) {
        (Some(node), Some(own)) if node == own => {
            format!("{name} ({kind}) is on NUMA node {node}, the engine's")
        }
        _ if others.is_empty() => format!("{name} is the only {kind} interface that is usable"),
        (Some(node), Some(own)) => {
            format!("{name} ({kind}) is on NUMA node {own}; none is on node {node}, the engine's")
        }
        _ => format!("{name} is the first {kind} interface"),
    };
    let faster = usable
        .iter()
        .filter(|c| others.contains(&c.name.as_str()))
        .filter(|c| c.speed_mbps > best.speed_mbps && best.speed_mbps.is_some())
        .max_by_key(|c| c.speed_mbps);
    if let Some(faster) = faster {
        text += &format!("; {} is faster, set fabric_iface to use it", faster.name);
    }
    text
}

/// Why a provider was taken for an interface that was named.
pub(super) fn provider_of(best: &Candidate, interface: &str) -> String {
    let state = match best.is_up {
        true => "",
        false => ", which is down",
    };
    format!(
        "{} is the best provider for {interface} ({}{state}), which is configured",
        best.provider,
        kind(best.link)
    )
}

pub(super) fn unknown_interface(all: &[Candidate], interface: &str) -> Refusal {
    Refusal {
        what: format!("no provider for interface {interface} can be chosen"),
        cause: "no fabric plugin finds a provider on it".to_owned(),
        remedy: format!(
            "set fabric_iface to one of: {}; or set provider (see `daos_server network scan -p all`)",
            names(all.iter().filter(|c| c.family.is_some()))
        ),
    }
}

/// Nothing can be chosen at all.
pub(super) fn nothing(all: &[Candidate], allow_loopback: bool) -> Refusal {
    let known = all.iter().filter(|c| c.family.is_some());
    refusal(
        "no network interface can carry the fabric".to_owned(),
        known,
        allow_loopback,
    )
}

/// Nothing can be chosen for a provider.
pub(super) fn nothing_for(provider: &str, of_it: &[&Candidate], allow_loopback: bool) -> Refusal {
    refusal(
        format!("no network interface can carry provider {provider}"),
        of_it.iter().copied(),
        allow_loopback,
    )
}

fn refusal<'c>(
    what: String,
    known: impl Iterator<Item = &'c Candidate>,
    allow_loopback: bool,
) -> Refusal {
    let obstacles: BTreeMap<&str, &str> = known
        .filter_map(|c| Some((c.name.as_str(), c.obstacle(allow_loopback)?)))
        .collect();
    let has_loopback = obstacles.values().any(|why| why.contains("loopback"));
    Refusal {
        what,
        cause: match obstacles.is_empty() {
            true => "no fabric plugin finds one".to_owned(),
            false => listed(&obstacles),
        },
        remedy: match has_loopback {
            true => {
                "bring an interface up and give it an address, or start with -i to serve clients on this \
                 machine only"
            }
            false => {
                "bring an interface up and give it an address (see `daos_server network scan -p all`)"
            }
        }
        .to_owned(),
    }
}

fn listed(obstacles: &BTreeMap<&str, &str>) -> String {
    let texts: Vec<String> = obstacles
        .iter()
        .map(|(name, why)| format!("{name} {why}"))
        .collect();
    texts.join(", ")
}

fn names<'c>(candidates: impl Iterator<Item = &'c Candidate>) -> String {
    let mut names: Vec<&str> = candidates.map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn kind(link: Link) -> &'static str {
    match link {
        Link::OmniPath => "Omni-Path",
        Link::Infiniband => "InfiniBand",
        Link::Roce => "RoCE",
        Link::Ethernet => "Ethernet",
        Link::Other => "virtual",
        Link::Loopback => "loopback",
    }
}
