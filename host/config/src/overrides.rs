//! Command-line options that win over the file.

use std::path::PathBuf;

use crate::diagnostic::{Code, Diagnostic};
use crate::keys::{self, Kind, Scope};
use crate::model::Config;
use crate::section::Reader;
use crate::source::Place;

/// Values from the command line. What is `None` (or `false`) leaves the file's value alone.
///
/// They are applied before the checks, so an option can supply what the file lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `-p/--port`: TCP port of the control plane; 0 is refused.
    pub port: Option<u16>,
    /// `-s/--storage`: `scm_mount` of all servers; absolute.
    pub storage: Option<PathBuf>,
    /// `-m/--modules`: engine modules, of all servers.
    pub modules: Option<String>,
    /// `-t/--targets`: targets of all servers; 0 means one per core.
    pub targets: Option<u32>,
    /// `-x/--xshelpernr`: helper threads per target of all servers, 0-2.
    pub xshelpernr: Option<u32>,
    /// `-f/--firstcore`: first core of all servers.
    pub firstcore: Option<u32>,
    /// `-g/--group`: name of the system, of all servers.
    pub group: Option<String>,
    /// `-a/--attach_info`: attach information file.
    pub attach_info: Option<PathBuf>,
    /// `-d/--socket_dir`: directory of unix sockets, of all servers.
    pub socket_dir: Option<PathBuf>,
    /// `-i/--insecure`: talk without TLS.
    pub insecure: bool,
    /// `--plugins-dir`: directory of plugins; absolute.
    pub plugins_dir: Option<PathBuf>,
    /// `--state-dir`: directory of state; absolute.
    pub state_dir: Option<PathBuf>,
}

impl Overrides {
    pub(crate) fn apply(&self, r: &mut Reader, c: &mut Config) {
        let servers = 0..c.servers.len();
        if self.insecure {
            mark(r, Scope::Transport, "allow_insecure", "transport_config.");
            c.transport_config.allow_insecure = true;
        }
        if let Some(port) = int(r, Scope::Top, "port", self.port) {
            c.port = port;
        }
        if let Some(path) = path(r, Scope::Server, "scm_mount", self.storage.as_ref()) {
            for i in servers.clone() {
                mark(r, Scope::Server, "scm_mount", &format!("servers[{i}]."));
                c.servers[i].scm_mount.clone_from(&path);
            }
        }
        if let Some(group) = text(r, "name", self.group.as_ref()) {
            mark(r, Scope::Top, "name", "");
            for i in servers.clone() {
                mark(r, Scope::Server, "name", &format!("servers[{i}]."));
                c.servers[i].name.clone_from(&group);
            }
            c.name = group;
        }
        if let Some(dir) = path(r, Scope::Top, "socket_dir", self.socket_dir.as_ref()) {
            mark(r, Scope::Top, "socket_dir", "");
            for i in servers.clone() {
                mark(r, Scope::Server, "socket_dir", &format!("servers[{i}]."));
                c.servers[i].socket_dir.clone_from(&dir);
            }
            c.socket_dir = dir;
        }
        if let Some(modules) = text(r, "modules", self.modules.as_ref()) {
            mark(r, Scope::Top, "modules", "");
            for i in servers.clone() {
                mark(r, Scope::Server, "modules", &format!("servers[{i}]."));
                c.servers[i].modules = Some(modules.clone());
            }
            c.modules = Some(modules);
        }
        if let Some(file) = path(r, Scope::Top, "attach", self.attach_info.as_ref()) {
            mark(r, Scope::Top, "attach", "");
            c.attach = Some(file);
        }
        if let Some(dir) = path(r, Scope::Top, "plugins_dir", self.plugins_dir.as_ref()) {
            mark(r, Scope::Top, "plugins_dir", "");
            c.plugins_dir = Some(dir);
        }
        if let Some(dir) = path(r, Scope::Top, "state_dir", self.state_dir.as_ref()) {
            mark(r, Scope::Top, "state_dir", "");
            c.state_dir = Some(dir);
        }
        let targets = int(r, Scope::Server, "targets", self.targets);
        let helpers = int(r, Scope::Server, "nr_xs_helpers", self.xshelpernr);
        let first_core = int(r, Scope::Server, "first_core", self.firstcore);
        for i in servers {
            let server = &mut c.servers[i];
            let prefix = format!("servers[{i}].");
            if let Some(targets) = targets {
                mark(r, Scope::Server, "targets", &prefix);
                server.targets = targets;
            }
            if let Some(helpers) = helpers.and_then(|h| u8::try_from(h).ok()) {
                mark(r, Scope::Server, "nr_xs_helpers", &prefix);
                server.nr_xs_helpers = helpers;
            }
            if let Some(core) = first_core {
                mark(r, Scope::Server, "first_core", &prefix);
                server.first_core = Some(core);
            }
        }
    }
}

fn option(scope: Scope, name: &str) -> &'static str {
    keys::find(scope, name)
        .and_then(|k| k.option)
        .unwrap_or_default()
}

fn mark(r: &mut Reader, scope: Scope, name: &str, prefix: &str) {
    let place = Place::Option(option(scope, name));
    r.origin.replace(&format!("{prefix}{name}"), place);
}

fn refuse(r: &mut Reader, scope: Scope, name: &str, code: Code, why: &str) {
    let option = option(scope, name);
    let message = format!("{option}: {why}");
    r.out
        .push(Diagnostic::error(code, message).key(name).by_option(option));
}

fn int<T: Copy + Into<u64>>(
    r: &mut Reader,
    scope: Scope,
    name: &'static str,
    value: Option<T>,
) -> Option<T> {
    let value = value?;
    let spec = keys::find(scope, name)?;
    if let Kind::Int { min, max } = spec.kind
        && !(min..=max).contains(&value.into())
    {
        let why = format!("{} is not from {min} to {max}", value.into());
        refuse(r, scope, name, Code::OutOfRange, &why);
        return None;
    }
    if scope == Scope::Top {
        mark(r, scope, name, "");
    }
    Some(value)
}

fn text(r: &mut Reader, name: &'static str, value: Option<&String>) -> Option<String> {
    let value = value?;
    if value.is_empty() || value.chars().any(char::is_control) {
        let why = "the value is empty or has control characters";
        refuse(r, Scope::Top, name, Code::BadValue, why);
        return None;
    }
    Some(value.clone())
}

fn path(
    r: &mut Reader,
    scope: Scope,
    name: &'static str,
    value: Option<&PathBuf>,
) -> Option<PathBuf> {
    let value = value?;
    let spec = keys::find(scope, name)?;
    let usable = value
        .to_str()
        .is_some_and(|s| !s.is_empty() && !s.chars().any(char::is_control));
    if !usable {
        let why = "the path is empty, not UTF-8 or has control characters";
        refuse(r, scope, name, Code::BadValue, why);
        return None;
    }
    if matches!(spec.kind, Kind::Path { absolute: true }) && value.is_relative() {
        let why = format!("\"{}\" must be an absolute path", value.display());
        refuse(r, scope, name, Code::RelativePath, &why);
        return None;
    }
    Some(value.clone())
}
