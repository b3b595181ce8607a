//! Which provider and interface suit an engine, and why.
//!
//! Order of preference: `ofi+psm2` where there is Omni-Path, `ofi+verbs;ofi_rxm` where there is InfiniBand or
//! RoCE, TCP on the first Ethernet interface otherwise. Within a provider an engine gets an interface of
//! its own NUMA node. What is down, or has no address where one is needed, is not chosen.

mod candidates;
mod words;

use crate::interfaces::{Interface, Link};
use candidates::{Candidate, candidates};

/// What a fabric plugin's scan says about a provider on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The provider, as a configuration names it.
    pub provider: String,
    /// The plugin that has it.
    pub plugin: String,
    /// The network interface, or the device where the provider needs none.
    pub interface: String,
    /// State of the link; `None` if the plugin does not know.
    pub is_up: Option<bool>,
    /// Addresses that peers can dial; `None` if the plugin does not say.
    pub addresses: Option<Vec<String>>,
    /// Reaches this machine only.
    pub is_loopback: bool,
}

/// Providers among which is chosen, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Omni-Path.
    Psm2,
    /// InfiniBand and RoCE.
    Verbs,
    /// Everything else with an address.
    Tcp,
}

impl Family {
    /// All, in order of preference.
    pub const ALL: [Self; 3] = [Self::Psm2, Self::Verbs, Self::Tcp];
}

/// A provider that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name there.
    pub name: String,
    /// The plugin that serves it.
    pub plugin: String,
}

/// What one engine's configuration says, and where the engine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Its provider, if it names one.
    pub provider: Option<Named>,
    /// Its interface (name or address), if it names one.
    pub interface: Option<String>,
    /// NUMA node of its first target.
    pub node: Option<u32>,
}

/// What an engine gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Provider, as a configuration names it.
    pub provider: String,
    /// The plugin that has it.
    pub plugin: String,
    /// Interface; `None` where the provider is on no network interface (`shm`) and finds its device itself.
    pub interface: Option<String>,
    /// NUMA node of the interface, if known.
    pub numa_node: Option<u32>,
    /// Why, in one line.
    pub reason: String,
}

/// Why an engine gets nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What cannot be.
    pub what: String,
    /// Why.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// Chooses for all engines of a machine, in their order. `allow_loopback`: engines that only this machine
/// can reach are wanted if nothing else is there (insecure mode). The same input gives the same answer,
/// whatever the order of `offers`.
///
/// # Errors
/// Per engine: what keeps each interface from being chosen.
#[must_use]
pub fn choose(
    interfaces: &[Interface],
    offers: &[Offer],
    wishes: &[Wish],
    allow_loopback: bool,
) -> Vec<Result<Choice, Refusal>> {
    let all = candidates(interfaces, offers);
    let usable = |c: &&Candidate| c.obstacle(allow_loopback).is_none();
    // All engines without a provider of their own get the same: their clients use one.
    let common = all
        .iter()
        .filter(usable)
        .filter_map(|candidate| candidate.family)
        .min();
    let mut given: Vec<String> = wishes.iter().filter_map(|w| w.interface.clone()).collect();
    wishes
        .iter()
        .map(|wish| {
            let choice = match (&wish.provider, &wish.interface) {
                (Some(named), Some(interface)) => Ok(as_configured(&all, named, interface)),
                (None, Some(interface)) => provider_of(&all, interface),
                (Some(named), None) => interface_for(&all, named, wish, &given, allow_loopback),
                (None, None) => match common {
                    Some(family) => {
                        let of_family: Vec<&Candidate> = all
                            .iter()
                            .filter(|c| c.family == Some(family))
                            .filter(usable)
                            .collect();
                        best(&of_family, wish, &given)
                            .map(|best| {
                                let why = words::provider(family, &all, best, allow_loopback);
                                let place = words::interface(best, &of_family, wish.node);
                                best.choice(format!("{why}; {place}"))
                            })
                            .ok_or_else(|| words::nothing(&all, allow_loopback))
                    }
                    None => Err(words::nothing(&all, allow_loopback)),
                },
            };
            if let (None, Ok(choice)) = (&wish.interface, &choice) {
                given.extend(choice.interface.clone());
            }
            choice
        })
        .collect()
}

fn as_configured(all: &[Candidate], named: &Named, interface: &str) -> Choice {
    Choice {
        provider: named.name.clone(),
        plugin: named.plugin.clone(),
        interface: Some(interface.to_owned()),
        numa_node: all
            .iter()
            .find(|c| c.is_at(interface))
            .and_then(|c| c.numa_node),
        reason: "provider and interface are configured".to_owned(),
    }
}

/// The best provider of an interface that was named: also of one that is down now, since it was named.
fn provider_of(all: &[Candidate], interface: &str) -> Result<Choice, Refusal> {
    let best = all
        .iter()
        .filter(|c| c.family.is_some() && c.is_at(interface))
        .min_by_key(|c| (!c.is_up, c.family));
    match best {
        Some(best) => Ok(Choice {
            interface: Some(interface.to_owned()),
            ..best.choice(words::provider_of(best, interface))
        }),
        None => Err(words::unknown_interface(all, interface)),
    }
}

/// The best interface for a provider that was named.
fn interface_for(
    all: &[Candidate],
    named: &Named,
    wish: &Wish,
    given: &[String],
    allow_loopback: bool,
) -> Result<Choice, Refusal> {
    let of_plugin: Vec<&Candidate> = all.iter().filter(|c| c.plugin == named.plugin).collect();
    let mut fitting: Vec<&Candidate> = of_plugin
        .iter()
        .copied()
        .filter(|c| c.serves(&named.name))
        .collect();
    // A plugin with one provider serves other names under it.
    if fitting.is_empty()
        && of_plugin
            .iter()
            .all(|c| c.provider == of_plugin[0].provider)
    {
        fitting = of_plugin;
    }
    fitting.retain(|c| c.is_network_interface || c.family == Some(Family::Psm2));
    if fitting.is_empty() {
        return Ok(Choice {
            provider: named.name.clone(),
            plugin: named.plugin.clone(),
            interface: None,
            numa_node: None,
            reason: format!(
                "no network interface is known for {}; plugin {} finds its device itself",
                named.name, named.plugin
            ),
        });
    }
    let usable: Vec<&Candidate> = fitting
        .iter()
        .copied()
        .filter(|c| c.obstacle(allow_loopback).is_none())
        .collect();
    match best(&usable, wish, given) {
        Some(best) => Ok(Choice {
            provider: named.name.clone(),
            plugin: named.plugin.clone(),
            ..best.choice(format!(
                "the provider is configured; {}",
                words::interface(best, &usable, wish.node)
            ))
        }),
        None => Err(words::nothing_for(&named.name, &fitting, allow_loopback)),
    }
}

/// The one to take: of the right kind, with a device behind it, on the engine's node, given to the fewest
/// engines (TCP instead stays on the first: two networks of one machine confuse its routing), first.
fn best<'c>(usable: &[&'c Candidate], wish: &Wish, given: &[String]) -> Option<&'c Candidate> {
    usable
        .iter()
        .min_by_key(|c| {
            let is_elsewhere = wish.node.is_none() || c.numa_node != wish.node;
            let used = match c.family {
                Some(Family::Tcp) => 0,
                _ => given.iter().filter(|name| c.is_at(name)).count(),
            };
            let kind = c.kind_rank();
            (kind, !c.is_physical, is_elsewhere, used, c.index, &c.name)
        })
        .copied()
}

/// How well a kind of link suits TCP; other providers come with their kind.
fn tcp_rank(link: Link) -> u8 {
    match link {
        Link::Ethernet | Link::Roce => 0,
        Link::Infiniband | Link::OmniPath => 1,
        Link::Other => 2,
        Link::Loopback => 3,
    }
}
