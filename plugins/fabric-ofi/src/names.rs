//! Provider names: those of the config (`ofi+tcp`, `verbs;ofi_rxm` ...) as those of libfabric.
//!
//! Understood are the spellings of the deployment guide, of the original system and of libfabric, with
//! or without the family `ofi+`. A name without a layer means the layer that the provider needs to
//! have reliable datagram endpoints.

/// A provider that this plugin knows by name, whether libfabric has it here or not.
struct Known {
    name: &'static str,
    /// What libfabric calls it with its layers, the best first.
    full: &'static [&'static str],
}

const fn plain(full: &'static [&'static str; 1]) -> Known {
    Known {
        name: full[0],
        full,
    }
}

const KNOWN: &[Known] = &[
    Known {
        name: "tcp",
        // The layer first, also where libfabric 2 has datagram endpoints of tcp's own (in 1.17 that is `net`): they
        // stop reading from a peer while some messages of it have no RECV, so that an engine whose buffers are all in
        // use, waiting for that peer's memory, would wait for ever.
        full: &["tcp;ofi_rxm", "tcp", "net"],
    },
    Known {
        name: "verbs",
        full: &["verbs;ofi_rxm"],
    },
    Known {
        name: "udp",
        full: &["udp;ofi_rxd"],
    },
    plain(&["psm2"]),
    plain(&["psm3"]),
    plain(&["psm"]),
    plain(&["opx"]),
    plain(&["efa"]),
    plain(&["cxi"]),
    plain(&["gni"]),
    plain(&["ucx"]),
    plain(&["shm"]),
    plain(&["net"]),
    plain(&["sockets"]),
];

/// Other spellings of a provider's name.
const ALIASES: &[(&str, &str)] = &[("socket", "sockets")];

/// Layers over a provider that make datagram endpoints of its own.
const LAYERS: &[&str] = &["ofi_rxm", "ofi_rxd"];

/// Without the family.
fn unprefixed(spelled: &str) -> &str {
    spelled.strip_prefix("ofi+").unwrap_or(spelled)
}

/// The provider proper of a name: without family and layers, by its usual spelling.
pub(crate) fn core(spelled: &str) -> &str {
    let plain = unprefixed(spelled);
    let core = plain.split(';').next().unwrap_or(plain);
    let alias = ALIASES.iter().find(|(other, _)| *other == core);
    alias.map_or(core, |(_, name)| name)
}

/// libfabric's names of what `spelled` asks for, the best first. `None` if no provider has such a
/// name, neither one known here nor one of `offered`.
pub(crate) fn candidates(spelled: &str, offered: &[&str]) -> Option<Vec<String>> {
    let core = core(spelled);
    let known = KNOWN.iter().find(|known| known.name == core);
    if known.is_none() && !offered.contains(&core) {
        return None;
    }
    match unprefixed(spelled).split_once(';') {
        Some((_, layer)) => LAYERS
            .contains(&layer)
            .then(|| vec![format!("{core};{layer}")]),
        None => Some(match known {
            Some(known) => known.full.iter().map(|name| (*name).to_owned()).collect(),
            None => vec![core.to_owned()],
        }),
    }
}

/// The config's name of a provider that libfabric calls `full`.
pub(crate) fn spelled(full: &str) -> String {
    format!("ofi+{full}")
}

/// The known name that looks most like `spelled`, if one does.
pub(crate) fn nearest(spelled: &str, offered: &[&str]) -> Option<String> {
    let cores = KNOWN
        .iter()
        .map(|known| known.name)
        .chain(offered.iter().copied());
    let layered = KNOWN.iter().flat_map(|known| known.full).copied();
    let (distance, name) = cores
        .chain(layered)
        .map(self::spelled)
        .map(|name| {
            let distances = [
                strsim::damerau_levenshtein(spelled, &name),
                strsim::damerau_levenshtein(spelled, unprefixed(&name)),
            ];
            (distances[0].min(distances[1]), name)
        })
        // Of two that are as near, the one that has a layer like the name, or has none like it.
        .min_by_key(|(distance, name)| (*distance, name.contains(';') != spelled.contains(';')))?;
    (distance <= 2 + unprefixed(spelled).len() / 4).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_provider_is_understood() {
        for (spelled, full) in [
            ("ofi+verbs;ofi_rxm", "verbs;ofi_rxm"),
            ("ofi+verbs", "verbs;ofi_rxm"),
            ("verbs;ofi_rxm", "verbs;ofi_rxm"),
            ("verbs", "verbs;ofi_rxm"),
            ("ofi+psm2", "psm2"),
            ("psm2", "psm2"),
            ("ofi+socket", "sockets"),
            ("ofi+sockets", "sockets"),
            ("ofi+tcp;ofi_rxm", "tcp;ofi_rxm"),
            ("tcp;ofi_rxm", "tcp;ofi_rxm"),
            ("ofi+udp;ofi_rxd", "udp;ofi_rxd"),
            ("ofi+shm", "shm"),
            ("ofi+net", "net"),
            ("ofi+cxi", "cxi"),
            ("ofi+brandnew", "brandnew"),
        ] {
            assert_eq!(
                candidates(spelled, &["brandnew"]),
                Some(vec![full.to_owned()]),
                "{spelled}"
            );
        }
        let tcp = ["tcp;ofi_rxm", "tcp", "net"].map(str::to_owned);
        assert_eq!(candidates("ofi+tcp", &[]), Some(tcp.to_vec()));
    }

    #[test]
    fn what_no_provider_is_called_is_none() {
        for wrong in [
            "ofi+vebrs;ofi_rxm",
            "ofi+tcp;rxm",
            "ofi+tcp;",
            "ofi+",
            "",
            "ofi+ofi_rxm",
            "tcp;ofi_rxm;ofi_rxd",
        ] {
            assert_eq!(candidates(wrong, &["tcp"]), None, "{wrong}");
        }
    }

    #[test]
    fn a_near_miss_gets_the_nearest_name() {
        for (wrong, right) in [
            ("ofi+vebrs;ofi_rxm", "ofi+verbs;ofi_rxm"),
            ("ofi+verbs;rxm", "ofi+verbs;ofi_rxm"),
            ("ofi+tcp;ofirxm", "ofi+tcp;ofi_rxm"),
            ("ofi+sokets", "ofi+sockets"),
            ("ofi+pms2", "ofi+psm2"),
            ("off+psm2", "ofi+psm2"),
            ("ofi_psm2", "ofi+psm2"),
            ("ofi+brandnwe", "ofi+brandnew"),
        ] {
            assert_eq!(
                nearest(wrong, &["brandnew"]).as_deref(),
                Some(right),
                "{wrong}"
            );
        }
        assert_eq!(nearest("ofi+infiniband", &[]), None);
    }
}
