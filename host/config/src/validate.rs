//! Inheritance, and the checks that need more than one key. Runs after the command line.

use std::path::Path;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Config, EngineConfFormat};
use crate::source::Origin;
use crate::{cross, values};

/// Fills in what servers inherit and reports everything that is wrong with the whole.
pub(crate) fn finish(c: &mut Config, out: &mut Vec<Diagnostic>) {
    let origin = std::mem::take(&mut c.origin);
    fabric_counts(c, &origin, out);
    inherit(c, &origin, out);
    let mut check = Check {
        origin: &origin,
        out,
    };
    top(c, &mut check);
    for index in 0..c.servers.len() {
        server(c, index, &mut check);
    }
    cross::servers(c, &mut check);
    c.origin = origin;
}

/// Where findings go, and where values came from.
pub(crate) struct Check<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) out: &'a mut Vec<Diagnostic>,
}

impl Check<'_> {
    pub(crate) fn at(&mut self, path: &str, diagnostic: Diagnostic) {
        self.out.push(self.origin.at(diagnostic, path));
    }

    /// At `path`, with the other half of the conflict beside it.
    pub(crate) fn conflict(&mut self, path: &str, other: &str, diagnostic: Diagnostic) {
        let diagnostic = self
            .origin
            .relate(diagnostic, other, &format!("{other} is given"));
        self.at(path, diagnostic);
    }

    fn name(&mut self, path: &str, value: &str) {
        if !values::is_name(value) {
            self.at(
                path,
                Diagnostic::error(
                    Code::BadValue,
                    format!("{path} is \"{value}\", which is not a name"),
                )
                .hint("use at most 127 letters, digits, '_', '-', '.', '@' and ':'"),
            );
        }
    }
}

fn fabric_counts(c: &Config, origin: &Origin, out: &mut Vec<Diagnostic>) {
    let (given, servers) = (c.fabric_ifaces.len(), c.servers.len());
    if given > 1 && servers > 0 && given != servers {
        let much = if given > servers { "many" } else { "few" };
        let d = Diagnostic::error(
            Code::ValueCount,
            format!("fabric_ifaces has too {much} values: {given} for {servers} servers"),
        )
        .hint("give one interface for all servers, or one per server");
        out.push(origin.at(d, "fabric_ifaces"));
    }
}

fn inherit(c: &mut Config, origin: &Origin, out: &mut Vec<Diagnostic>) {
    for (index, server) in c.servers.iter_mut().enumerate() {
        if server.name.is_empty() {
            server.name.clone_from(&c.name);
        }
        if server.socket_dir.as_os_str().is_empty() {
            server.socket_dir.clone_from(&c.socket_dir);
        }
        if server.modules.is_none() {
            server.modules.clone_from(&c.modules);
        }
        if server.provider.is_none() {
            server.provider.clone_from(&c.provider);
        }
        if server.fabric_iface.is_none() {
            server.fabric_iface = match c.fabric_ifaces.as_slice() {
                [one] => Some(one.clone()),
                many => many.get(index).cloned(),
            }
            .or_else(|| c.fabric_iface.clone());
        }
        if server.fabric_iface_port.is_none() {
            server.fabric_iface_port = c.fabric_iface_port;
        }
        if server.scm_mount.as_os_str().is_empty() {
            let path = format!("servers[{index}].scm_mount");
            if origin.given("scm_mount_path") {
                server.scm_mount = c.scm_mount_path.join(index.to_string());
            } else if !origin.given(&path) {
                let d = Diagnostic::error(
                    Code::MissingValue,
                    format!("servers[{index}] has no scm_mount"),
                )
                .hint("add scm_mount: /mnt/daos to the entry, or start with -s/--storage");
                out.push(origin.at(d, &path));
            }
        }
    }
}

fn top(c: &Config, check: &mut Check<'_>) {
    check.name("name", &c.name);
    for (path, name) in [("user_name", &c.user_name), ("group_name", &c.group_name)] {
        if let Some(name) = name {
            check.name(path, name);
        }
    }
    if c.engine_conf_format == EngineConfFormat::Text && c.engine_path.is_none() {
        let what = "engine_conf_format text is for an engine_path; the built-in engine reads json";
        let d = Diagnostic::error(Code::ConflictingKeys, what)
            .hint("remove engine_conf_format, or name that engine under engine_path");
        check.at("engine_conf_format", d);
    }
    for (index, name) in c.fabric_ifaces.iter().enumerate() {
        check.name(&format!("fabric_ifaces[{index}]"), name);
    }
    if let Some(name) = &c.fabric_iface {
        check.name("fabric_iface", name);
        if !c.fabric_ifaces.is_empty() {
            check.conflict(
                "fabric_iface",
                "fabric_ifaces",
                Diagnostic::error(
                    Code::ConflictingKeys,
                    "fabric_iface and fabric_ifaces exclude each other",
                )
                .hint("keep fabric_ifaces"),
            );
        }
    }
    if let Some(provider) = &c.provider {
        check_provider("provider", provider, check);
    }
    if let Some(name) = &c.control_iface {
        check.name("control_iface", name);
    }
    if c.telemetry_port == Some(c.port) {
        check.conflict(
            "telemetry_port",
            "port",
            Diagnostic::error(
                Code::TelemetryPort,
                format!("telemetry_port and port are both {}", c.port),
            )
            .hint("choose another telemetry_port; 9191 is customary"),
        );
    }
    access_points(c, check);
    fault_domain(c, check);
}

fn access_points(c: &Config, check: &mut Check<'_>) {
    let count = c.access_points.len();
    if count > 0 && count.is_multiple_of(2) {
        check.at(
            "access_points",
            Diagnostic::error(
                Code::EvenAccessPoints,
                format!("access_points has {count} hosts, it must be an odd number"),
            )
            .hint(
                "a majority of them must agree, so an even host adds no safety: remove or add one",
            ),
        );
    }
    for (index, point) in c.access_points.iter().enumerate() {
        let same = |other: &&crate::AccessPoint| {
            other.host.eq_ignore_ascii_case(&point.host)
                && other.port.unwrap_or(c.port) == point.port.unwrap_or(c.port)
        };
        if c.access_points[..index].iter().any(|p| same(&p)) {
            check.at(
                &format!("access_points[{index}]"),
                Diagnostic::error(
                    Code::AccessPoints,
                    format!("access point {point} is given twice"),
                )
                .hint("keep one of them"),
            );
        }
    }
}

/// Whether a text is a fault domain: labels of letters, digits and `-._=:`, each behind a slash, the widest first.
#[must_use]
pub fn is_fault_path(path: &str) -> bool {
    let valid = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._=:".contains(c))
    };
    path.strip_prefix('/')
        .is_some_and(|parts| parts.split('/').all(valid))
}

fn fault_domain(c: &Config, check: &mut Check<'_>) {
    if let Some(path) = &c.fault_path {
        if !is_fault_path(path) {
            check.at(
                "fault_path",
                Diagnostic::error(
                    Code::FaultPath,
                    format!("fault_path is \"{path}\", which is not a path of labels"),
                )
                .hint("write it like /rack1/hostname: letters, digits and -._=: between slashes"),
            );
        }
        if c.fault_cb.is_some() {
            check.conflict(
                "fault_path",
                "fault_cb",
                Diagnostic::error(
                    Code::FaultPathAndCallback,
                    "fault_path and fault_cb exclude each other",
                )
                .hint("keep one of them"),
            );
        }
    }
}

fn check_provider(path: &str, provider: &str, check: &mut Check<'_>) {
    let word = |c: char| c.is_ascii_alphanumeric() || "+;_-.".contains(c);
    if !provider.starts_with(|c: char| c.is_ascii_alphanumeric()) || !provider.chars().all(word) {
        check.at(
            path,
            Diagnostic::error(
                Code::Provider,
                format!("{path} is \"{provider}\", which is not a provider"),
            )
            .hint("write it like ofi+psm2, ofi+verbs;ofi_rxm, ofi+tcp or tcp"),
        );
    }
}

/// Environment variables that keys of the configuration set, and the key that does.
const OWNED: &[(&str, &str)] = &[
    ("CRT_PHY_ADDR_STR", "provider"),
    ("D_PROVIDER", "provider"),
    ("OFI_INTERFACE", "fabric_iface"),
    ("D_INTERFACE", "fabric_iface"),
    ("OFI_PORT", "fabric_iface_port"),
    ("D_PORT", "fabric_iface_port"),
    ("D_LOG_MASK", "log_mask"),
    ("D_LOG_FILE", "log_file"),
    ("VOS_BDEV_CLASS", "bdev_class"),
];

fn server(c: &Config, index: usize, check: &mut Check<'_>) {
    let server = &c.servers[index];
    let at = |key: &str| format!("servers[{index}].{key}");
    if check.origin.given(&at("name")) {
        check.name(&at("name"), &server.name);
    }
    check.name(&at("scm_class"), &server.scm_class);
    check.name(&at("bdev_class"), &server.bdev_class);
    if check.origin.given(&at("fabric_iface"))
        && let Some(name) = &server.fabric_iface
    {
        check.name(&at("fabric_iface"), name);
    }
    if check.origin.given(&at("provider"))
        && let Some(provider) = &server.provider
    {
        check_provider(&at("provider"), provider, check);
    }
    if let Some(mask) = &server.log_mask
        && let Err(why) = values::log_mask(mask)
    {
        let path = at("log_mask");
        let message = format!("{path} is \"{mask}\": {why}");
        check.at(&path, Diagnostic::error(Code::BadValue, message));
    }
    if server.scm_mount.as_path() == Path::new("/") {
        check.at(
            &at("scm_mount"),
            Diagnostic::error(Code::BadValue, "scm_mount must not be the root directory")
                .hint("choose a directory of its own, like /mnt/daos"),
        );
    }
    for (position, var) in server.env_vars.iter().enumerate() {
        let Some((_, key)) = OWNED.iter().find(|(name, _)| *name == var.name) else {
            continue;
        };
        let set = match *key {
            "provider" => server.provider.is_some(),
            "fabric_iface" => server.fabric_iface.is_some(),
            "fabric_iface_port" => server.fabric_iface_port.is_some(),
            "log_mask" => server.log_mask.is_some(),
            "log_file" => server.log_file.is_some(),
            _ => true,
        };
        if set {
            check.at(
                &at(&format!("env_vars[{position}]")),
                Diagnostic::warning(
                    Code::EnvOverridden,
                    format!(
                        "{} is set from the key {key}; this value is ignored",
                        var.name
                    ),
                )
                .hint(format!("remove it, or change {key}")),
            );
        }
    }
}
