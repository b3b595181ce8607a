//! Names of fabric providers.

/// Whether a provider is meant by a name: of the same kind, with the same layer unless the name has
/// none. The family and the spelling `socket` of the deployment guide make no difference.
#[must_use]
pub fn is_of(provider: &str, name: &str) -> bool {
    let (core, layer) = parts(provider);
    let (wanted_core, wanted_layer) = parts(name);
    core == wanted_core && (wanted_layer.is_none() || wanted_layer == layer)
}

/// Kind and layer of a provider: `ofi+verbs;ofi_rxm` is `verbs` with layer `ofi_rxm`.
pub(crate) fn parts(text: &str) -> (&str, Option<&str>) {
    let plain = text.strip_prefix("ofi+").unwrap_or(text);
    let (core, layer) = match plain.split_once(';') {
        Some((core, layer)) => (core, Some(layer)),
        None => (plain, None),
    };
    (if core == "socket" { "sockets" } else { core }, layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_their_providers() {
        for (provider, name) in [
            ("ofi+tcp;ofi_rxm", "ofi+tcp"),
            ("ofi+tcp;ofi_rxm", "tcp;ofi_rxm"),
            ("tcp", "ofi+tcp"),
            ("ofi+sockets", "ofi+socket"),
            ("ofi+verbs;ofi_rxm", "ofi+verbs;ofi_rxm"),
        ] {
            assert!(is_of(provider, name), "{provider} {name}");
        }
        for (provider, name) in [
            ("ofi+net", "ofi+tcp"),
            ("tcp", "ofi+tcp;ofi_rxm"),
            ("ofi+psm2", "ofi+psm"),
        ] {
            assert!(!is_of(provider, name), "{provider} {name}");
        }
    }
}
