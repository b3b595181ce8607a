//! Turns the tree of a file into a [`Config`]: types, ranges and old forms, but nothing that
//! depends on several keys - that is checked after the command line has had its say.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::keys::Scope;
use crate::model::{
    AccessPoint, Config, ControlLogMask, EngineConfFormat, PluginConfig, ServerConfig,
    TransportConfig,
};
use crate::section::{Reader, Section};
use crate::tree::{Node, Value};
use crate::{layers, tiers, values};

/// Most engines of one host; machines have up to 16 NUMA nodes.
const MAX_SERVERS: usize = 64;

/// Reads everything that can be read; errors are in the reader.
///
/// Inherited values of servers (`name`, `socket_dir`) and `scm_mount` are left empty when they
/// are absent; [`finish`](crate::validate::finish) fills them in.
pub(crate) fn config(r: &mut Reader, root: &Node) -> Config {
    let mut c = Config::default();
    let Some(s) = Section::open(r, Scope::Top, "", root) else {
        return c;
    };
    set(&mut c.name, s.text(r, "name"));
    c.access_points = access_points(r, &s);
    set(&mut c.port, s.int(r, "port"));
    if let Some((_, path, node)) = s.node(r, "transport_config") {
        c.transport_config = transport(r, &path, node);
    }
    c.fault_path = s.text(r, "fault_path");
    c.fault_cb = s.path(r, "fault_cb");
    c.fabric_ifaces = fabric_ifaces(r, &s);
    c.provider = s.text(r, "provider");
    c.fabric_iface = s.text(r, "fabric_iface");
    c.fabric_iface_port = s.int(r, "fabric_iface_port");
    set(&mut c.scm_mount_path, s.path(r, "scm_mount_path"));
    c.bdev_include = pci_list(r, &s, "bdev_include");
    c.bdev_exclude = pci_list(r, &s, "bdev_exclude");
    set(&mut c.hyperthreads, s.bool(r, "hyperthreads"));
    set(&mut c.socket_dir, s.path(r, "socket_dir"));
    set(&mut c.nr_hugepages, s.int(r, "nr_hugepages"));
    let mask = s.word(r, "control_log_mask");
    set(
        &mut c.control_log_mask,
        mask.and_then(ControlLogMask::named),
    );
    c.control_log_file = s.path(r, "control_log_file");
    set(&mut c.control_log_json, s.bool(r, "control_log_json"));
    c.user_name = s.text(r, "user_name");
    c.group_name = s.text(r, "group_name");
    c.modules = s.text(r, "modules");
    c.attach = s.path(r, "attach");
    c.plugins_dir = s.path(r, "plugins_dir");
    c.plugins = plugins(r, &s);
    c.engine_path = s.path(r, "engine_path");
    let form = s.word(r, "engine_conf_format");
    set(
        &mut c.engine_conf_format,
        form.and_then(EngineConfFormat::named),
    );
    c.state_dir = s.path(r, "state_dir");
    c.telemetry_port = s.int(r, "telemetry_port");
    c.control_iface = s.text(r, "control_iface");
    c.servers = servers(r, &s);
    c
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn access_points(r: &mut Reader, s: &Section<'_>) -> Vec<AccessPoint> {
    let mut points = Vec::new();
    for (index, text) in s
        .list(r, "access_points")
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        match text.parse() {
            Ok(point) => points.push(point),
            Err(why) => {
                let path = format!("access_points[{index}]");
                let d = Diagnostic::error(
                    Code::AccessPoints,
                    format!("{path} is \"{text}\", which is not host or host:port: {why}"),
                );
                let d = r.origin.at(d, &path);
                r.out.push(d);
            }
        }
    }
    points
}

fn transport(r: &mut Reader, path: &str, node: &Node) -> TransportConfig {
    let mut t = TransportConfig::default();
    if let Some(s) = Section::open(r, Scope::Transport, path, node) {
        set(&mut t.allow_insecure, s.bool(r, "allow_insecure"));
        set(&mut t.client_cert_dir, s.path(r, "client_cert_dir"));
        set(&mut t.ca_cert, s.path(r, "ca_cert"));
        set(&mut t.cert, s.path(r, "cert"));
        set(&mut t.key, s.path(r, "key"));
        set(&mut t.server_name, s.text(r, "server_name"));
    }
    t
}

/// A list, or names with commas between them.
fn fabric_ifaces(r: &mut Reader, s: &Section<'_>) -> Vec<String> {
    match s.node(r, "fabric_ifaces") {
        Some((_, path, node)) if matches!(node.value, Value::Text(_)) => r
            .scalar(&path, node)
            .map(|text| text.split(',').map(|i| i.trim().to_owned()).collect())
            .unwrap_or_default(),
        Some(_) => s.list(r, "fabric_ifaces").unwrap_or_default(),
        None => Vec::new(),
    }
}

fn pci_list(r: &mut Reader, s: &Section<'_>, name: &'static str) -> Vec<String> {
    let mut list = Vec::new();
    for (index, text) in s.list(r, name).unwrap_or_default().into_iter().enumerate() {
        let path = format!("{name}[{index}]");
        match values::normalise_pci(&text) {
            Some(address) => list.push(address),
            None => {
                let d = Diagnostic::error(
                    Code::BadValue,
                    format!("{path} is \"{text}\", which is not a PCI address"),
                )
                .hint("write it like 0000:81:00.0 (`daos_server storage scan` shows them)");
                let d = r.origin.at(d, &path);
                r.out.push(d);
            }
        }
    }
    list
}

fn plugins(r: &mut Reader, s: &Section<'_>) -> Option<BTreeMap<String, PluginConfig>> {
    let (_, path, node) = s.node(r, "plugins")?;
    let mut plugins = BTreeMap::new();
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                let Some(name) = r.scalar(&path, key) else {
                    continue;
                };
                let path = format!("{path}.{name}");
                r.note(path.clone(), Some(key.at), value.at);
                let config = match Section::open(r, Scope::Plugin, &path, value) {
                    Some(section) if section.has("name") => {
                        let d = Diagnostic::error(
                            Code::ConflictingKeys,
                            format!("{path} is already named by its key"),
                        )
                        .hint("remove name:");
                        r.report(d, &path, section.key_at("name"));
                        continue;
                    }
                    Some(section) => plugin(r, &section),
                    None => continue,
                };
                insert_plugin(r, &mut plugins, name, config, key);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let at = format!("{path}[{index}]");
                let (name, config) = if let Value::Map(_) = item.value {
                    let Some(section) = Section::open(r, Scope::Plugin, &at, item) else {
                        continue;
                    };
                    let Some(name) = section.text(r, "name") else {
                        let d = Diagnostic::error(Code::MissingValue, format!("{at} has no name"))
                            .hint("add name: with the name of the plugin");
                        r.report(d, &at, item.at);
                        continue;
                    };
                    (name, plugin(r, &section))
                } else {
                    let Some(name) = r.scalar(&at, item) else {
                        continue;
                    };
                    (name, PluginConfig::default())
                };
                r.note(format!("{path}.{name}"), None, item.at);
                insert_plugin(r, &mut plugins, name, config, item);
            }
        }
        _ => return r.wrong_type(&path, node, "a group of plugin names, or a list of them"),
    }
    if matches!(&node.value, Value::Map(m) if m.is_empty())
        || matches!(&node.value, Value::List(l) if l.is_empty())
    {
        let d = Diagnostic::error(
            Code::ValueCount,
            "plugins is empty, which would refuse every plugin",
        )
        .hint("name the allowed plugins, or remove the key to allow all");
        r.report(d, &path, node.at);
    }
    Some(plugins)
}

fn insert_plugin(
    r: &mut Reader,
    plugins: &mut BTreeMap<String, PluginConfig>,
    name: String,
    config: PluginConfig,
    node: &Node,
) {
    let path = format!("plugins.{name}");
    if !values::is_name(&name) {
        let d = Diagnostic::error(
            Code::BadValue,
            format!("\"{name}\" is not the name of a plugin"),
        );
        return r.report(d, &path, node.at);
    }
    if plugins.contains_key(&name) {
        let d = Diagnostic::error(
            Code::DuplicateKey,
            format!("plugin \"{name}\" is given twice"),
        )
        .hint("keep one of them");
        return r.report(d, &path, node.at);
    }
    plugins.insert(name, config);
}

fn plugin(r: &mut Reader, s: &Section<'_>) -> PluginConfig {
    let mut config = PluginConfig::default();
    let digests = match s.node(r, "sha256") {
        Some((_, _, node)) if matches!(node.value, Value::List(_)) => {
            s.list(r, "sha256").unwrap_or_default()
        }
        Some((_, path, node)) => r.scalar(&path, node).into_iter().collect(),
        None => Vec::new(),
    };
    for digest in digests {
        if digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            config.sha256.push(digest.to_lowercase());
        } else {
            let path = s.child("sha256");
            let d = Diagnostic::error(
                Code::BadValue,
                format!("{path} has a digest that is not 64 hexadecimal digits"),
            )
            .hint("`sha256sum <plugin>.so` prints it");
            let d = r.origin.at(d, &path);
            r.out.push(d);
        }
    }
    if let Some((_, path, node)) = s.node(r, "log_mask")
        && let Some(level) = r.scalar(&path, node)
    {
        match values::log_level(&level) {
            Ok(()) => config.log_mask = Some(level),
            Err(why) => {
                let d = Diagnostic::error(Code::BadValue, format!("{path}: {why}"));
                r.report(d, &path, node.at);
            }
        }
    }
    if let Some((_, path, node)) = s.node(r, "settings") {
        match r.json(&path, node) {
            Some(serde_json::Value::Object(settings)) => config.settings = settings,
            Some(_) => {
                r.wrong_type::<()>(&path, node, "a group of keys");
            }
            None => {}
        }
    }
    config
}

fn servers(r: &mut Reader, s: &Section<'_>) -> Vec<ServerConfig> {
    let Some((_, path, node)) = s.node(r, "servers") else {
        return Vec::new();
    };
    let Value::List(items) = &node.value else {
        r.wrong_type::<()>(&path, node, "a list, one \"- \" entry per engine");
        return Vec::new();
    };
    if items.is_empty() {
        let d = Diagnostic::error(Code::NoServers, "servers has no entry").hint(
            "add an entry per engine, or remove the key to have servers planned automatically",
        );
        r.report(d, &path, node.at);
    }
    if items.len() > MAX_SERVERS {
        let message = format!(
            "servers has {} entries, at most {MAX_SERVERS} fit",
            items.len()
        );
        r.report(Diagnostic::error(Code::ValueCount, message), &path, node.at);
    }
    let mut servers = Vec::new();
    for (index, item) in items.iter().take(MAX_SERVERS).enumerate() {
        let path = format!("{path}[{index}]");
        r.note(path.clone(), None, item.at);
        match Section::open(r, Scope::Server, &path, item) {
            Some(section) => servers.push(server(r, &section)),
            None => {
                // Keeps the indices of later servers right, and nothing more is said about it.
                r.note(format!("{path}.scm_mount"), None, item.at);
                servers.push(ServerConfig::default());
            }
        }
    }
    servers
}

fn server(r: &mut Reader, s: &Section<'_>) -> ServerConfig {
    let mut c = ServerConfig {
        rank: s.int(r, "rank"),
        first_core: s.int(r, "first_core"),
        modules: s.text(r, "modules"),
        log_mask: s.text(r, "log_mask"),
        log_file: s.path(r, "log_file"),
        provider: s.text(r, "provider"),
        fabric_iface: s.text(r, "fabric_iface"),
        fabric_iface_port: s.int(r, "fabric_iface_port"),
        ..ServerConfig::default()
    };
    set(&mut c.targets, s.int(r, "targets"));
    set(&mut c.nr_xs_helpers, s.int(r, "nr_xs_helpers"));
    set(&mut c.name, s.text(r, "name"));
    set(&mut c.socket_dir, s.path(r, "socket_dir"));
    env_vars(r, s, &mut c);
    set(&mut c.scm_class, s.text(r, "scm_class"));
    set(&mut c.bdev_class, s.text(r, "bdev_class"));
    storage(r, s, &mut c);
    tiers::read(r, s, &mut c);
    c
}

/// The storage keys that a server and a tier have in common, and the plugins' own.
pub(crate) fn storage(r: &mut Reader, s: &Section<'_>, c: &mut ServerConfig) {
    set(&mut c.scm_mount, s.path(r, "scm_mount"));
    if let Some(list) = s.list(r, "scm_list") {
        c.scm_list = list;
    }
    c.scm_size = s.int(r, "scm_size").or(c.scm_size);
    if let Some(list) = s.list(r, "bdev_list") {
        c.bdev_list = list
            .into_iter()
            .map(|d| values::normalise_namespace(&d).map_or(d, |(_, whole)| whole))
            .collect();
    }
    c.bdev_number = s.int(r, "bdev_number").or(c.bdev_number);
    c.bdev_size = s.int(r, "bdev_size").or(c.bdev_size);
    layers::read(r, s, c);
    for (name, key_at, node) in &s.extra {
        let path = s.child(name);
        r.note(path.clone(), Some(*key_at), node.at);
        if let Some(value) = r.json(&path, node)
            && c.extra.insert(name.clone(), value).is_some()
        {
            let d = Diagnostic::error(
                Code::DuplicateKey,
                format!("key \"{name}\" is given in two tiers"),
            );
            r.report(d, &path, *key_at);
        }
    }
}

/// A list of `NAME=value`, or bare lines of it below the key.
fn env_vars(r: &mut Reader, s: &Section<'_>, c: &mut ServerConfig) {
    let Some((_, path, node)) = s.node(r, "env_vars") else {
        return;
    };
    let lines: Vec<(String, String)> = match &node.value {
        Value::Text(text) => {
            let source = std::sync::Arc::clone(&r.origin.source);
            let lines = values::env_block(text, source.raw(node.at));
            let lines = r.bounded(&path, node.at, &lines).iter();
            lines
                .map(|line| (path.clone(), (*line).to_owned()))
                .collect()
        }
        _ => s
            .list(r, "env_vars")
            .unwrap_or_default()
            .into_iter()
            .enumerate()
            .map(|(index, line)| (format!("{path}[{index}]"), line))
            .collect(),
    };
    for (path, line) in lines {
        let error = match values::env_var(&line) {
            Ok(var) if c.env_vars.iter().any(|v| v.name == var.name) => {
                format!("environment variable {} is given twice", var.name)
            }
            Ok(var) => {
                c.env_vars.push(var);
                continue;
            }
            Err(why) => why,
        };
        let d = Diagnostic::error(Code::BadValue, error)
            .hint("write a list: env_vars: ['NAME=value', ...]");
        let d = r.origin.at(d, &path);
        r.out.push(d);
    }
}
