//! From provider name and interface in the config to what libfabric offers for them, or to the reason
//! why it offers nothing: the name is misspelled, libfabric was built without the provider, this machine
//! has no hardware for it, or the provider is not on that interface.

use crate::libfabric::{Info, offered, version};
use crate::{machine, names};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use fabric_interfaces::{self as interfaces, Interface};
use std::net::IpAddr;

/// What a config's provider and interface come to.
pub(crate) struct Choice {
    pub(crate) info: Info,
    /// -1 = unknown.
    pub(crate) numa_node: i32,
}

/// Chooses among what libfabric offers.
///
/// # Errors
/// INVALID for a name that no provider has, NOT_SUPPORTED for a provider that libfabric was built
/// without, NOT_FOUND where hardware or interface are missing.
pub(crate) fn choose(spelled: &str, interface: &str) -> Result<Choice> {
    let offered = offered();
    let known: Vec<&str> = offered.iter().map(|p| p.name.as_str()).collect();
    let Some(candidates) = names::candidates(spelled, &known) else {
        return Err(misspelled(spelled, &known));
    };
    if !known.contains(&names::core(spelled)) {
        return Err(built_without(spelled, &known));
    }
    let all = interfaces::list()?;
    let mut elsewhere: Vec<Info> = Vec::new();
    for name in &candidates {
        // An error says that there is nothing, in one of several ways.
        let infos = Info::find(Some(name), None).unwrap_or_default();
        let infos: Vec<Info> = infos
            .into_iter()
            .filter(|i| i.provider() == *name)
            .collect();
        if infos.is_empty() {
            continue;
        }
        if let Some(info) = on_interface(name, &infos, interface, &all)? {
            if candidates.len() > 1 {
                tracing::info!(
                    provider = spelled,
                    chosen = info.provider(),
                    "chose the best of {} that libfabric {} offers here",
                    candidates.join(", "),
                    dotted(version()),
                );
            }
            let numa_node = machine::numa_node(&info, &all);
            return Ok(Choice { info, numa_node });
        }
        elsewhere.extend(infos);
    }
    if elsewhere.is_empty() {
        return Err(no_hardware(spelled));
    }
    Err(not_there(spelled, interface, &elsewhere, &all))
}

/// The entry of a provider on an interface, which may be given by its name, its address, or the name
/// of the domain (a device such as `mlx5_0`); the provider's first one if it is empty.
fn on_interface(
    provider: &str,
    infos: &[Info],
    interface: &str,
    all: &[Interface],
) -> Result<Option<Info>> {
    let at = |ip: IpAddr| {
        let found = Info::find(Some(provider), Some(ip)).unwrap_or_default();
        found.into_iter().find(|info| info.provider() == provider)
    };
    let is_ip = infos.iter().any(Info::is_ip);
    if interface.is_empty() {
        let choice = is_ip.then(|| interfaces::choose("")).transpose()?;
        return Ok(choice
            .and_then(|choice| at(choice.ip))
            .or_else(|| infos.first().cloned()));
    }
    if let Some(info) = infos
        .iter()
        .find(|info| !all.iter().any(|i| i.name == interface) && info.domain_name() == interface)
    {
        return Ok(Some(info.clone()));
    }
    let choice = interfaces::choose(interface);
    if is_ip {
        return Ok(at(choice?.ip));
    }
    if let Some(info) = infos.iter().find(|info| {
        machine::interfaces_of(info, all)
            .iter()
            .any(|i| i.name == interface)
    }) {
        return Ok(Some(info.clone()));
    }
    // Shared memory is on no interface, so that any will do; but it must be one.
    if names::core(provider) == "shm" {
        choice?;
        return Ok(infos.first().cloned());
    }
    Ok(None)
}

/// A version as people write it.
pub(crate) fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

fn listed(known: &[&str]) -> String {
    let mut names: Vec<String> = known.iter().map(|name| names::spelled(name)).collect();
    names.sort();
    names.join(", ")
}

fn misspelled(spelled: &str, known: &[&str]) -> Error {
    let what = format!("no libfabric provider is called {spelled:?}");
    Error::new(Status::INVALID, what).remedy(match names::nearest(spelled, known) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("set provider to one of: {}", listed(known)),
    })
}

fn built_without(spelled: &str, known: &[&str]) -> Error {
    let what = format!(
        "libfabric {} of this machine was built without provider \"{}\"",
        dotted(version()),
        names::core(spelled)
    );
    let remedy = format!(
        "install a libfabric that has it, or set provider to one of: {}",
        listed(known)
    );
    Error::new(Status::NOT_SUPPORTED, what).remedy(remedy)
}

fn no_hardware(spelled: &str) -> Error {
    let core = names::core(spelled);
    let what = format!(
        "libfabric {} has provider \"{core}\", but this machine has no hardware that it could use for \
         {spelled:?}",
        dotted(version())
    );
    let look = match core {
        "verbs" => "see `rdma link` for RDMA devices; their kernel driver must be loaded",
        "psm" | "psm2" | "opx" => {
            "see /dev/hfi1* for Omni-Path devices; driver hfi1 must be loaded"
        }
        _ => "see `daos_server network scan -p all` for what can be used",
    };
    Error::new(Status::NOT_FOUND, what).remedy(look)
}

fn not_there(spelled: &str, interface: &str, elsewhere: &[Info], all: &[Interface]) -> Error {
    let mut places: Vec<String> = elsewhere
        .iter()
        .flat_map(|info| {
            let mut names: Vec<String> = machine::interfaces_of(info, all)
                .iter()
                .map(|i| i.name.clone())
                .collect();
            if names.is_empty() {
                names.push(info.domain_name());
            }
            names
        })
        .collect();
    places.sort();
    places.dedup();
    let what = format!("provider {spelled:?} is not on interface {interface}");
    let remedy = format!("set fabric_iface to one of: {}", places.join(", "));
    Error::new(Status::NOT_FOUND, what).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spelled: &str, interface: &str) -> Error {
        match choose(spelled, interface) {
            Ok(choice) => panic!("{spelled} is {}", choice.info.provider()),
            Err(error) => error,
        }
    }

    #[test]
    fn tcp_is_the_best_that_there_is() {
        let choice = choose("ofi+tcp", "lo").unwrap();
        let is_there = |name: &String| {
            let infos = Info::find(Some(name), None).unwrap_or_default();
            infos.iter().any(|info| info.provider() == *name)
        };
        let best = names::candidates("ofi+tcp", &[])
            .unwrap()
            .into_iter()
            .find(is_there);
        assert_eq!(Some(choice.info.provider()), best);
        assert_eq!(choice.info.source_ip(), Some([127, 0, 0, 1].into()));
    }

    #[test]
    fn misspelled_built_without_and_no_hardware_are_three_messages() {
        let misspelled = refused("ofi+vebrs;ofi_rxm", "lo");
        assert_eq!(misspelled.status, Status::INVALID);
        assert!(
            misspelled.remedy.contains("\"ofi+verbs;ofi_rxm\""),
            "{misspelled}"
        );

        let known = offered();
        let has = |name: &str| known.iter().any(|p| p.name == name);
        match ["gni", "ucx", "cxi", "opx"].into_iter().find(|n| !has(n)) {
            Some(absent) => {
                let error = refused(&names::spelled(absent), "lo");
                assert_eq!(error.status, Status::NOT_SUPPORTED);
                assert!(error.what.contains("built without"), "{error}");
                assert!(error.what.contains(absent), "{error}");
                assert!(error.remedy.contains("ofi+tcp"), "{error}");
            }
            None => println!("NOT RUN built without: this libfabric has every provider"),
        }

        let is_absent =
            |name: &&str| has(name) && Info::find(Some(&format!("{name};ofi_rxm")), None).is_err();
        match ["verbs"].into_iter().find(is_absent) {
            Some(name) => {
                let error = refused(&names::spelled(name), "lo");
                assert_eq!(error.status, Status::NOT_FOUND);
                assert!(error.what.contains("no hardware"), "{error}");
                assert!(error.remedy.contains("rdma link"), "{error}");
            }
            None => println!("NOT RUN no hardware: this machine has RDMA devices, or no verbs"),
        }
    }

    #[test]
    fn interfaces_are_names_and_addresses_that_exist() {
        for interface in ["lo", "127.0.0.1", ""] {
            choose("ofi+tcp;ofi_rxm", interface).unwrap();
        }
        for provider in ["ofi+tcp", "ofi+sockets", "ofi+shm"] {
            let error = refused(provider, "no-such-0");
            assert_eq!(error.status, Status::NOT_FOUND);
            assert!(error.what.contains("no-such-0"), "{error}");
            assert!(error.remedy.contains("lo"), "{error}");
        }
    }
}
