//! The one table of configuration keys: names, types, ranges, defaults and documentation.
//!
//! The reader takes ranges and old names from here, the commented example is generated from
//! here, and "did you mean" chooses from here, so the three cannot disagree.

mod effects;
mod server;
mod top;

pub use effects::{EFFECTS, Effect, Row};

/// The group of keys that a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The file itself.
    Top,
    /// Inside `transport_config:`.
    Transport,
    /// One entry of `plugins:`.
    Plugin,
    /// One entry of `servers:`.
    Server,
    /// One entry of a server's `storage:` list, the form of DAOS 2.x.
    Tier,
}

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`; `yes`/`no`, `on`/`off` and `1`/`0` are understood.
    Bool,
    /// A whole number from `min` to `max`.
    Int {
        /// Smallest accepted value.
        min: u64,
        /// Largest accepted value.
        max: u64,
    },
    /// One line of text that is not empty.
    Text,
    /// One word of a list, in any case; the default comes first.
    Word(&'static [&'static str]),
    /// A path. Absolute, or relative to the working directory of the daemon when allowed.
    Path {
        /// Whether a relative path is refused.
        absolute: bool,
    },
    /// A list of texts.
    List,
    /// A list of keys below this one, or free content: read by code of its own.
    Group,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// The group it belongs to.
    pub scope: Scope,
    /// Its name, as written in the file.
    pub name: &'static str,
    /// Names of other DAOS generations, accepted with a warning.
    pub old_names: &'static [&'static str],
    /// What it holds.
    pub kind: Kind,
    /// What applies when the key is absent, in words or as a value.
    pub default: &'static str,
    /// Whether the superblock records it at format and a start with another value is refused.
    pub immutable: bool,
    /// The command-line option that overrides it, if there is one.
    pub option: Option<&'static str>,
    /// Its documentation, in sentences.
    pub doc: &'static str,
    /// An example value as YAML, without the key.
    pub example: &'static str,
    /// Whether the example contradicts another one and is shown as prose only.
    pub alternative: bool,
}

const fn key(scope: Scope, name: &'static str, kind: Kind) -> KeySpec {
    KeySpec {
        scope,
        name,
        old_names: &[],
        kind,
        default: "",
        immutable: false,
        option: None,
        doc: "",
        example: "",
        alternative: false,
    }
}

const fn int(min: u64, max: u64) -> Kind {
    Kind::Int { min, max }
}

const ABSOLUTE: Kind = Kind::Path { absolute: true };
const PATH: Kind = Kind::Path { absolute: false };

impl KeySpec {
    const fn old(mut self, names: &'static [&'static str]) -> Self {
        self.old_names = names;
        self
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = text;
        self
    }

    const fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    const fn option(mut self, option: &'static str) -> Self {
        self.option = Some(option);
        self
    }

    const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    const fn alternative(mut self) -> Self {
        self.alternative = true;
        self
    }
}

/// All keys of one group, in the order of the documentation.
pub fn of(scope: Scope) -> impl Iterator<Item = &'static KeySpec> + Clone {
    top::KEYS
        .iter()
        .chain(server::KEYS)
        .filter(move |k| k.scope == scope)
}

/// What a key does, see [`EFFECTS`].
#[must_use]
pub fn effect(scope: Scope, name: &str) -> Option<Effect> {
    let row = EFFECTS.iter().find(|(s, n, _)| (*s, *n) == (scope, name));
    row.map(|(_, _, effect)| *effect)
}

/// The key with this name, or with this old name.
#[must_use]
pub fn find(scope: Scope, name: &str) -> Option<&'static KeySpec> {
    of(scope).find(|k| k.name == name || k.old_names.contains(&name))
}

/// Keys of DAOS 2.x that have no counterpart, with what to do instead.
const NOT_HERE: &[(&str, &str)] = &[
    (
        "control_iface",
        "the control port is bound by daos_server itself; remove the key",
    ),
    (
        "control_metadata",
        "metadata on SSD needs the upstream engine; remove the key",
    ),
    (
        "disable_hugepages",
        "remove the key; hugepages are only used by plugins that need them",
    ),
    (
        "disable_vfio",
        "a setting of the nvme plugin: plugins: {bdev-nvme-spdk: {settings: ...}}",
    ),
    (
        "disable_vmd",
        "a setting of the nvme plugin: plugins: {bdev-nvme-spdk: {settings: ...}}",
    ),
    (
        "disable_hotplug",
        "a setting of the nvme plugin: plugins: {bdev-nvme-spdk: {settings: ...}}",
    ),
    (
        "enable_hotplug",
        "a setting of the nvme plugin: plugins: {bdev-nvme-spdk: {settings: ...}}",
    ),
    (
        "pinned_numa_node",
        "give first_core, or leave it out to use the cores of the interface's NUMA node",
    ),
    (
        "bdev_roles",
        "metadata on SSD needs the upstream engine; remove the key",
    ),
    (
        "bdev_busid_range",
        "list the devices under bdev_list instead",
    ),
    (
        "helper_log_file",
        "helpers log through daos_server; use control_log_file",
    ),
    (
        "firmware_helper_log_file",
        "helpers log through daos_server; use control_log_file",
    ),
    (
        "crt_timeout",
        "put CRT_TIMEOUT=<seconds> under env_vars of the server",
    ),
    (
        "path",
        "the file is chosen with -o/--config, not from inside it",
    ),
];

/// Looks a name up among the keys of DAOS 2.x without a counterpart.
pub(crate) fn not_here(name: &str) -> Option<&'static (&'static str, &'static str)> {
    NOT_HERE.iter().find(|(n, _)| *n == name)
}

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The measure is quadratic; nothing this long is a misspelt key.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&word, &c.to_lowercase()), c))
        .filter(|(score, c)| *score >= 0.8 || strsim::osa_distance(&word, c) <= 2)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

/// "did you mean" in words, or the list of what is valid when nothing is near.
pub(crate) fn suggestion<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> String {
    match nearest(word, candidates.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => list(candidates),
    }
}

/// What is valid, when nothing is near.
pub(crate) fn list<'a>(candidates: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = candidates.collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        "there is nothing to choose from".to_owned()
    } else {
        format!("valid are: {}", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPES: [Scope; 5] = [
        Scope::Top,
        Scope::Transport,
        Scope::Plugin,
        Scope::Server,
        Scope::Tier,
    ];

    #[test]
    fn names_are_unique_in_their_group_and_documented() {
        for scope in SCOPES {
            let mut seen = std::collections::BTreeSet::new();
            for spec in of(scope) {
                for name in std::iter::once(&spec.name).chain(spec.old_names) {
                    assert!(seen.insert(*name), "{name} twice in {scope:?}");
                }
                assert!(!spec.doc.is_empty(), "{} has no documentation", spec.name);
                assert!(spec.doc.ends_with('.'), "{}: {}", spec.name, spec.doc);
            }
            assert!(!seen.is_empty());
        }
    }

    #[test]
    fn nearest_finds_what_was_meant_and_nothing_else() {
        let names = || of(Scope::Server).map(|k| k.name);
        for (typed, meant) in [
            ("scm_mnt", "scm_mount"),
            ("bdevlist", "bdev_list"),
            ("targtes", "targets"),
            ("scm-size", "scm_size"),
            ("BDEV_CLASS", "bdev_class"),
            ("nr_xs_helper", "nr_xs_helpers"),
        ] {
            assert_eq!(nearest(typed, names()), Some(meant), "{typed}");
        }
        assert_eq!(nearest("zzzzzz", names()), None);
        assert_eq!(nearest(&"x".repeat(100_000), names()), None);
    }
}
