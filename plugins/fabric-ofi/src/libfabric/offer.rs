//! Which providers the installed libfabric has.
//!
//! libfabric lists those that found what they need when they started. One that found no hardware is
//! silent; that it is there shows in the parameters it has and in the libraries that came with it.

use super::info::{Info, Offered};
use super::sys;
use super::{Errno, prepare};
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::ptr::null_mut;

/// Libraries that libfabric needs only for one provider.
const LIBRARIES: &[(&str, &str)] = &[
    ("libibverbs.so", "verbs"),
    ("libefa.so", "efa"),
    ("libpsm2.so", "psm2"),
    ("libpsm_infinipath.so", "psm"),
    ("libcxi.so", "cxi"),
    ("libucp.so", "ucx"),
];

/// Version of the installed libfabric, as (major, minor).
pub(crate) fn version() -> (u32, u32) {
    // SAFETY: no arguments, no state.
    let version = unsafe { sys::fi_version() };
    (version >> 16, version & 0xffff)
}

/// The providers of the installed libfabric without layers and hooks, those that started first, in
/// libfabric's own order.
pub(crate) fn offered() -> Vec<Offered> {
    let mut all = Info::providers().unwrap_or_else(|errno: Errno| {
        tracing::warn!(%errno, "libfabric does not list its providers");
        Vec::new()
    });
    for provider in &mut all {
        provider.name.make_ascii_lowercase(); // "UDP"
    }
    for name in silent() {
        if !all.iter().any(|known| known.name == name) {
            all.push(Offered {
                name,
                version: None,
            });
        }
    }
    all.retain(|provider| !provider.name.starts_with("ofi_") && !provider.name.contains(';'));
    all
}

/// Names of providers that libfabric has, whether they started or not.
fn silent() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = parameters()
        .iter()
        .filter_map(|text| provider_of(text))
        .collect();
    // A list that cannot be read names nothing.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (library, name) in LIBRARIES {
        if maps.contains(&format!("/{library}")) {
            names.insert((*name).to_owned());
        }
    }
    names
}

/// The provider that a parameter's help text starts with: "verbs: Default maximum tx context size".
fn provider_of(help: &str) -> Option<String> {
    let (name, _) = help.split_once(": ")?;
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then(|| name.to_owned())
}

/// Help texts of all parameters.
fn parameters() -> Vec<String> {
    prepare();
    let (mut list, mut count) = (null_mut(), 0);
    // SAFETY: both are out parameters; on success `list` has `count` entries until it is freed.
    let result = unsafe { sys::fi_getparams(&mut list, &mut count) };
    if result != 0 || list.is_null() {
        return Vec::new();
    }
    // SAFETY: as above; help texts are null or C strings.
    let texts = unsafe { std::slice::from_raw_parts(list, usize::try_from(count).unwrap_or(0)) }
        .iter()
        .filter(|param| !param.help_string.is_null())
        // SAFETY: as above.
        .map(|param| unsafe { CStr::from_ptr(param.help_string) })
        .map(|text| text.to_string_lossy().into_owned())
        .collect();
    // SAFETY: from fi_getparams, freed once; the texts are copies.
    unsafe { sys::fi_freeparams(list) };
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_listed() {
        let all = offered();
        let has = |name: &str| all.iter().any(|provider| provider.name == name);
        assert!(has("tcp") && has("shm"), "{all:?}");
        assert!(!all.iter().any(|provider| provider.name.starts_with("ofi_")));
        assert!(version() >= (1, 17), "{:?}", version());
    }

    #[test]
    fn only_a_providers_name_is_taken_from_a_help_text() {
        assert_eq!(provider_of("verbs: Default"), Some("verbs".to_owned()));
        assert_eq!(provider_of("Specify logging level: warn"), None);
        assert_eq!(provider_of(": x"), None);
    }
}
