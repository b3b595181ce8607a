//! Offers of the plugins joined with what sysfs knows of their interfaces.

use super::{Choice, Family, Offer, tcp_rank};
use crate::interfaces::{Interface, Link};
use crate::names::{is_of, parts};

/// A provider on an interface.
pub(super) struct Candidate {
    /// As the configuration is to name it.
    pub(super) provider: String,
    /// As the plugin calls it.
    offered: String,
    pub(super) plugin: String,
    /// `None` for a provider that is only taken when it is named.
    pub(super) family: Option<Family>,
    pub(super) name: String,
    addresses: Option<Vec<String>>,
    pub(super) link: Link,
    pub(super) is_network_interface: bool,
    pub(super) is_up: bool,
    pub(super) is_physical: bool,
    pub(super) numa_node: Option<u32>,
    pub(super) speed_mbps: Option<u64>,
    pub(super) index: u32,
}

/// One per offer, best provider first within an interface.
pub(super) fn candidates(interfaces: &[Interface], offers: &[Offer]) -> Vec<Candidate> {
    let mut all = Vec::new();
    for offer in offers {
        let known = interfaces.iter().find(|i| i.name == offer.interface);
        // psm2 names its device, or just itself: it is on all Omni-Path interfaces then.
        let family = family(&offer.provider);
        let of_device: Vec<&Interface> = match (known, family) {
            (None, Some(Family::Psm2)) => omni_path(interfaces, &offer.interface),
            _ => Vec::new(),
        };
        if of_device.is_empty() {
            all.push(candidate(offer, family, known));
        }
        for interface in of_device {
            all.push(candidate(offer, family, Some(interface)));
        }
    }
    // libfabric's TCP before ours: what is offered in several ways is one candidate less to compare.
    all.sort_by(|a, b| {
        let key = |c: &Candidate| {
            (
                c.index,
                c.name.clone(),
                c.family.is_none(),
                c.family,
                !c.provider.starts_with("ofi+"),
                c.offered.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    all
}

fn omni_path<'i>(interfaces: &'i [Interface], device: &str) -> Vec<&'i Interface> {
    let all = || interfaces.iter().filter(|i| i.link == Link::OmniPath);
    let on_it: Vec<_> = all()
        .filter(|i| i.rdma.iter().any(|name| name == device))
        .collect();
    match on_it.is_empty() {
        true => all().collect(),
        false => on_it,
    }
}

/// What a provider is good for without being named. `verbs` without its layer has no reliable datagrams.
fn family(provider: &str) -> Option<Family> {
    match parts(provider) {
        ("psm2", _) => Some(Family::Psm2),
        ("verbs", Some("ofi_rxm")) => Some(Family::Verbs),
        ("tcp", None | Some("ofi_rxm")) | ("net", _) => Some(Family::Tcp),
        _ => None,
    }
}

fn candidate(offer: &Offer, family: Option<Family>, known: Option<&Interface>) -> Candidate {
    let provider = match family {
        Some(Family::Psm2) => "ofi+psm2".to_owned(),
        Some(Family::Verbs) => "ofi+verbs;ofi_rxm".to_owned(),
        // Which of libfabric's TCPs is best is its plugin's concern.
        Some(Family::Tcp) if offer.provider.starts_with("ofi+") => "ofi+tcp".to_owned(),
        _ => offer.provider.clone(),
    };
    // Where sysfs shows another network namespace, the plugin alone knows the interface.
    let link = match (offer.is_loopback, known, family) {
        (true, _, _) => Link::Loopback,
        (_, Some(interface), _) => interface.link,
        (_, None, Some(Family::Psm2)) => Link::OmniPath,
        _ => Link::Ethernet,
    };
    Candidate {
        provider,
        offered: offer.provider.clone(),
        plugin: offer.plugin.clone(),
        family: family.filter(|family| match family {
            Family::Psm2 => link == Link::OmniPath,
            Family::Verbs => matches!(link, Link::OmniPath | Link::Infiniband | Link::Roce),
            Family::Tcp => true,
        }),
        name: match (known, link) {
            (Some(interface), _) => interface.name.clone(),
            (None, _) => offer.interface.clone(),
        },
        is_network_interface: known.is_some()
            || offer.addresses.as_ref().is_some_and(|a| !a.is_empty()),
        addresses: offer.addresses.clone(),
        link,
        is_up: offer
            .is_up
            .or(known.map(|interface| interface.is_up))
            .unwrap_or(false),
        is_physical: known.is_some_and(|interface| interface.is_physical),
        numa_node: known.and_then(|interface| interface.numa_node),
        speed_mbps: known.and_then(|interface| interface.speed_mbps),
        index: known.map_or(u32::MAX, |interface| interface.index),
    }
}

impl Candidate {
    /// What keeps it from being chosen.
    pub(super) fn obstacle(&self, allow_loopback: bool) -> Option<&'static str> {
        let needs_address = self.family != Some(Family::Psm2);
        let has_none = self.addresses.as_ref().is_some_and(Vec::is_empty);
        if !self.is_up {
            Some("is down")
        } else if needs_address && has_none {
            Some("has no IP address")
        } else if self.link == Link::Loopback && !allow_loopback {
            Some("is the loopback, which reaches this machine only")
        } else {
            None
        }
    }

    /// Whether a configuration means this one's interface by its name or one of its addresses.
    pub(super) fn is_at(&self, interface: &str) -> bool {
        self.name == interface
            || self
                .addresses
                .iter()
                .flatten()
                .any(|address| address == interface)
    }

    /// Whether a configuration means this one's provider.
    pub(super) fn serves(&self, provider: &str) -> bool {
        is_of(&self.offered, provider)
            || (parts(provider) == ("tcp", None) && self.family == Some(Family::Tcp))
    }

    /// The lower, the better.
    pub(super) fn kind_rank(&self) -> u8 {
        match self.family {
            Some(Family::Psm2 | Family::Verbs) => 0,
            _ => tcp_rank(self.link),
        }
    }

    pub(super) fn choice(&self, reason: String) -> Choice {
        Choice {
            provider: self.provider.clone(),
            plugin: self.plugin.clone(),
            interface: Some(self.name.clone()),
            numa_node: self.numa_node,
            reason,
        }
    }
}
