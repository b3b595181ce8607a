//! What nodes of one system must have in common: what `daos_shell preflight` compares. Changes nothing.

use crate::plugins::Plugins;
use crate::preflight::Clock;
use crate::state::State;
use daos_config::Config;
use daos_loader::AbiVersion;
use daos_proto::PROTOCOL_VERSION;
use daos_proto::host::{
    AccountFacts, ClockFacts, ConfigFact, FactsRequest, FactsResponse, PluginFacts,
};
use nix::unistd::{Group, User, geteuid};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// Names that a caller may ask for; a directory service may take its time for each.
const MAX_NAMES: usize = 64;
/// Longest name that any system has.
const MAX_NAME: usize = 256;

/// Keys in which hosts may differ: a host's own place in the machine room, its hardware, and where it keeps things.
const OWN: [&str; 19] = [
    "control_iface",
    "fault_path",
    "fault_cb",
    "rank",
    "scm_list",
    "bdev_list",
    "bdev_include",
    "bdev_exclude",
    "fabric_ifaces",
    "fabric_iface",
    "fabric_iface_port",
    "first_core",
    "log_file",
    "control_log_file",
    "state_dir",
    "plugins_dir",
    "attach",
    "storage",
    "busid_range",
];

/// The facts of this host.
///
/// # Errors
/// In words: the request asks for too much.
pub(crate) fn gather(
    plugins: &Plugins,
    state: &State,
    request: &FactsRequest,
) -> Result<FactsResponse, String> {
    for (what, names) in [("users", &request.users), ("groups", &request.groups)] {
        if names.len() > MAX_NAMES {
            return Err(format!(
                "{} {what} are too many; at most {MAX_NAMES} are looked up",
                names.len()
            ));
        }
        if let Some(name) = names
            .iter()
            .find(|n| n.is_empty() || n.len() > MAX_NAME || n.contains('\0'))
        {
            return Err(format!("{name:?} is no name of {what}"));
        }
    }
    let config = keys(&state.config);
    Ok(FactsResponse {
        clock: Clock::read().map(|clock| ClockFacts {
            synchronised: clock.synchronised,
            max_error_us: clock.max_error_us,
        }),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL_VERSION.to_owned(),
        abi_version: AbiVersion::HOST.to_string(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default(),
        plugins: plugins
            .usable()
            .iter()
            .map(|plugin| PluginFacts {
                name: plugin.name().to_owned(),
                version: plugin.manifest.version.clone(),
            })
            .collect(),
        users: users(&state.config, &request.users),
        groups: groups(&state.config, &request.groups),
        config_digest: digest(
            config
                .iter()
                .filter(|f| !f.own)
                .map(|f| format!("{}={}\n", f.key, f.value)),
        ),
        config,
        // Last, so that looking the others up does not make the clock seem late.
        time_ns: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            }),
    })
}

fn users(config: &Config, asked: &[String]) -> Vec<AccountFacts> {
    let own = match &config.user_name {
        Some(name) => Some(name.clone()),
        None => User::from_uid(geteuid())
            .ok()
            .flatten()
            .map(|user| user.name),
    };
    let names: BTreeSet<String> = own.into_iter().chain(asked.iter().cloned()).collect();
    let fact = |name: String| {
        let user = User::from_name(&name).ok().flatten();
        AccountFacts {
            id: user.as_ref().map(|user| user.uid.as_raw()),
            group_id: user.map(|user| user.gid.as_raw()),
            name,
        }
    };
    names.into_iter().map(fact).collect()
}

fn groups(config: &Config, asked: &[String]) -> Vec<AccountFacts> {
    let names: BTreeSet<String> = config.group_name.iter().chain(asked).cloned().collect();
    let fact = |name: String| AccountFacts {
        id: Group::from_name(&name)
            .ok()
            .flatten()
            .map(|group| group.gid.as_raw()),
        group_id: None,
        name,
    };
    names.into_iter().map(fact).collect()
}

/// The configuration, key by key.
fn keys(config: &Config) -> Vec<ConfigFact> {
    let mut found = BTreeMap::new();
    // What cannot be told as JSON cannot be compared either; no configuration is like that.
    if let Ok(value) = serde_json::to_value(config) {
        flatten("", &value, &mut found);
    }
    let fact = |(key, value): (String, String)| {
        let last = key.rsplit('.').next().unwrap_or(&key);
        let own =
            OWN.contains(&last) || key.starts_with("transport_config.") && last != "allow_insecure";
        ConfigFact { own, key, value }
    };
    found.into_iter().map(fact).collect()
}

/// Groups and lists of groups become paths; lists of values stay one value.
fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let join = |name: &str| match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    };
    match value {
        // They are the plugin's, and may be anybody's secret.
        Value::Object(settings) if path.ends_with(".settings") => {
            for (name, value) in settings {
                found.insert(
                    join(name),
                    format!("\"sha256:{}\"", digest([value.to_string()])),
                );
            }
        }
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| flatten(&join(name), value, found)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), item, found);
            }
        }
        Value::Array(items) if path.ends_with(".env_vars") => {
            for item in items.iter().filter_map(Value::as_str) {
                let (name, value) = item.split_once('=').unwrap_or((item, ""));
                let value = match is_secret(name) {
                    true => format!("sha256:{}", digest([value.to_owned()])),
                    false => value.to_owned(),
                };
                found.insert(join(name), Value::String(value).to_string());
            }
        }
        value => drop(found.insert(path.to_owned(), value.to_string())),
    }
}

/// Whether a variable looks like one that is not to be told.
fn is_secret(name: &str) -> bool {
    ["KEY", "SECRET", "TOKEN", "PASS"]
        .iter()
        .any(|word| name.contains(word))
}

fn digest(parts: impl IntoIterator<Item = String>) -> String {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    let bytes = hash.finalize();
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> BTreeMap<String, (String, bool)> {
        let loaded = Config::parse(text, "test", &daos_config::Overrides::default());
        let facts = keys(&loaded.unwrap_or_else(|e| panic!("{e}")).config);
        facts
            .into_iter()
            .map(|f| (f.key, (f.value, f.own)))
            .collect()
    }

    const TEXT: &str = "name: big\nfault_path: /rack1/a\nprovider: tcp\nplugins: {bdev-acme: {settings: {license: s3cret}}}\nservers:\n- rank: \
                        3\n  scm_mount: /mnt/0\n  scm_class: ram\n  scm_size: 4\n  bdev_class: file\n  bdev_list: [/a, /b]\n  bdev_size: 1\n  \
                        env_vars: [CRT_TIMEOUT=30, D_PROVIDER_AUTH_KEY=s3cret]\n";

    #[test]
    fn a_configuration_is_told_key_by_key_and_without_secrets() {
        let facts = of(TEXT);
        let fact = |key: &str| {
            facts
                .get(key)
                .cloned()
                .unwrap_or_else(|| panic!("{key} in {facts:?}"))
        };
        assert_eq!(fact("name"), ("\"big\"".to_owned(), false));
        assert_eq!(fact("servers[0].scm_size"), ("4".to_owned(), false));
        assert_eq!(
            fact("servers[0].env_vars.CRT_TIMEOUT"),
            ("\"30\"".to_owned(), false)
        );
        for own in [
            "fault_path",
            "servers[0].rank",
            "servers[0].bdev_list",
            "transport_config.key",
        ] {
            assert!(fact(own).1, "{own}");
        }
        assert!(!fact("transport_config.allow_insecure").1);
        assert_eq!(fact("servers[0].bdev_list").0, r#"["/a","/b"]"#);
        for secret in [
            "plugins.bdev-acme.settings.license",
            "servers[0].env_vars.D_PROVIDER_AUTH_KEY",
        ] {
            assert!(fact(secret).0.starts_with("\"sha256:"), "{secret}");
        }
        assert!(!format!("{facts:?}").contains("s3cret"));
        assert_ne!(
            of(&TEXT.replace("license: s3cret", "license: other")),
            facts
        );
    }

    #[test]
    fn accounts_that_are_not_there_have_no_number() {
        let mut config = Config::default();
        config.group_name = Some("no-such-group".to_owned());
        let found = users(&config, &["no-such-user".to_owned(), "root".to_owned()]);
        let id = |name: &str| found.iter().find(|f| f.name == name).map(|f| f.id);
        assert_eq!(
            (id("root"), id("no-such-user")),
            (Some(Some(0)), Some(None))
        );
        // Who runs the server is compared without being asked for.
        let own = User::from_uid(geteuid()).unwrap().unwrap();
        assert_eq!(id(&own.name), Some(Some(own.uid.as_raw())));
        assert_eq!(groups(&config, &[])[0].id, None);
    }
}
