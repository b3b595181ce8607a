//! Checks of the configuration itself, of certificates and of plugins.

use super::finding::{Check, Finding};
use super::fix::{Fix, Step};
use super::node::Node;
use daos_certs::{Files, Identity, Kind, Role};
use daos_config::{Config, Diagnostic};
use daos_report::PluginReport;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use time::OffsetDateTime;

const CONFIG: Check = Check {
    name: "config",
    why: "the other checks look for what it asks for",
};
const CERTIFICATES: Check = Check {
    name: "certificates",
    why: "without them the server starts only with -i, on the loopback, where every local user may administer it",
};
const PLUGINS: Check = Check {
    name: "plugins",
    why: "all hardware is used through them",
};

/// Days before the end of a certificate from which on it is told.
const SOON: i64 = 30;

/// What the file says, as `config check` has it.
pub(super) fn config(file: Option<&Path>, found: &[Diagnostic]) -> Vec<Finding> {
    let Some(file) = file else {
        return vec![CONFIG.none(
            "there is none: defaults are checked, and what any storage needs. `daos_server config generate` prints one",
        )];
    };
    let remedy = format!("daos_server config check {}", file.display());
    let errors = found.iter().filter(|d| d.is_error()).count();
    let first = |errors: bool| {
        let first = found.iter().find(|d| d.is_error() == errors);
        first.map_or_else(String::new, |d| d.message.clone())
    };
    vec![match (errors, found.len()) {
        (0, 0) => CONFIG.ok(file.display().to_string()),
        (0, n) => CONFIG.warn(
            format!(
                "{} has {n} warning(s), first: {}",
                file.display(),
                first(false)
            ),
            remedy,
        ),
        (n, _) => CONFIG.fail(
            format!(
                "{} has {n} error(s), first: {}; defaults are checked below",
                file.display(),
                first(true)
            ),
            remedy,
        ),
    }]
}

pub(super) fn certificates(node: &Node, config: &Config) -> Finding {
    let transport = &config.transport_config;
    if transport.allow_insecure {
        return CERTIFICATES.warn(
            "TLS is off: the control plane serves this machine only, and every local user may administer it",
            "leave allow_insecure and -i away, and make certificates with `daos_server cert init`",
        );
    }
    let files = Files {
        ca: node.path(&transport.ca_cert),
        cert: node.path(&transport.cert),
        key: node.path(&transport.key),
    };
    match Identity::load(&files, Role::Server, &transport.server_name) {
        Ok(identity) => {
            let until = identity.facts().not_after;
            let days = (until - OffsetDateTime::from(node.now)).whole_days();
            let found = format!(
                "{} is valid for another {days} days",
                transport.cert.display()
            );
            match days < SOON {
                true => CERTIFICATES.warn(
                    found,
                    "daos_server cert issue server --replace; the server takes it without a restart",
                ),
                false => CERTIFICATES.ok(found),
            }
        }
        Err(problem) => {
            let finding = CERTIFICATES.fail(
                format!("{} {}", problem.file.display(), problem.what),
                problem.remedy.clone(),
            );
            match narrowed(node, transport, problem.kind) {
                Some(step) => finding.with(Fix(vec![step])),
                None => finding,
            }
        }
    }
}

/// The step that takes a key away from others; none if something else is wrong with it.
fn narrowed(node: &Node, transport: &daos_config::TransportConfig, kind: Kind) -> Option<Step> {
    let found = fs::symlink_metadata(node.path(&transport.key)).ok()?;
    let mode = found.mode() & 0o7777;
    let widest = Role::Server.key_mode();
    (kind == Kind::Unreadable && found.is_file() && mode & !widest != 0).then(|| Step::Mode {
        path: transport.key.clone(),
        mode: mode & widest,
    })
}

/// `classes` is what is wrong with the classes of the configuration.
pub(super) fn plugins(report: &PluginReport, classes: &[Diagnostic]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let usable: Vec<&str> = report
        .plugins
        .iter()
        .filter(|plugin| matches!(plugin.state, "usable" | "failing"))
        .map(|plugin| plugin.name.as_str())
        .collect();
    findings.push(match usable.is_empty() {
        true => PLUGINS.fail("none can be used", "see `daos_server plugin list`"),
        false => PLUGINS.ok(usable.join(", ")),
    });
    for fault in &report.faults {
        findings.push(PLUGINS.warn(fault.to_string(), "see `daos_server plugin list`"));
    }
    let is_ill = |state: &str| matches!(state, "refused" | "quarantined" | "ambiguous" | "failing");
    for plugin in report.plugins.iter().filter(|plugin| is_ill(plugin.state)) {
        let (why, remedy) = match &plugin.fault {
            Some(fault) => (
                format!("{}: {}", fault.what, fault.cause),
                fault.remedy.clone(),
            ),
            None => (String::new(), String::new()),
        };
        let name = match plugin.name.is_empty() {
            true => &plugin.path,
            false => &plugin.name,
        };
        let found = format!("{name} is {}: {why}", plugin.state);
        let remedy = match remedy.is_empty() {
            true => format!("daos_server plugin inspect {name}"),
            false => remedy,
        };
        findings.push(PLUGINS.warn(found, remedy));
    }
    for class in classes {
        let remedy = class
            .hint
            .clone()
            .unwrap_or_else(|| "see `daos_server plugin list`".to_owned());
        findings.push(match class.is_error() {
            true => PLUGINS.fail(class.message.clone(), remedy),
            false => PLUGINS.warn(class.message.clone(), remedy),
        });
    }
    findings
}

/// Plugins cannot even be looked for.
pub(super) fn no_plugins(why: &str) -> Finding {
    PLUGINS.fail(why, "correct plugins_dir and state_dir")
}
