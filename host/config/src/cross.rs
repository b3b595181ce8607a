//! Checks between servers: what they must not share, hide from each other or be ruled out of.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::Config;
use crate::validate::Check;
use crate::values::{is_below, normalise_namespace, plain_path};

/// A value, and the key path it is at.
struct Use {
    path: String,
    value: String,
}

pub(crate) fn servers(c: &Config, check: &mut Check<'_>) {
    mounts(c, check);
    devices(c, check);
    log_files(c, check);
    fabric(c, check);
    ranks(c, check);
    cores(c, check);
}

/// Reports every use of a value after the first.
fn unique(check: &mut Check<'_>, uses: &[Use], code: Code, what: &str, hint: &str) {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for u in uses {
        if let Some(other) = first.get(u.value.as_str()) {
            let message = format!(
                "{what} {} of {} is already used by {other}",
                u.value, u.path
            );
            check.conflict(&u.path, other, Diagnostic::error(code, message).hint(hint));
        } else {
            first.insert(&u.value, &u.path);
        }
    }
}

fn scm_mounts(c: &Config) -> Vec<Use> {
    c.servers
        .iter()
        .enumerate()
        // Absent ones and the root directory are reported on their own.
        .filter(|(_, s)| s.scm_mount.parent().is_some())
        .map(|(i, s)| Use {
            path: format!("servers[{i}].scm_mount"),
            value: plain_path(&s.scm_mount.to_string_lossy()),
        })
        .collect()
}

fn mounts(c: &Config, check: &mut Check<'_>) {
    let uses = scm_mounts(c);
    let hint = "give each server a mount point of its own, like /mnt/daos/0 and /mnt/daos/1";
    unique(check, &uses, Code::DuplicateScmMount, "mount point", hint);
    for inner in &uses {
        for outer in uses.iter().filter(|o| is_below(&inner.value, &o.value)) {
            let message = format!(
                "{} lies below {} of {}, which would hide it",
                inner.value, outer.value, outer.path
            );
            let d = Diagnostic::error(Code::NestedPath, message).hint(hint);
            check.conflict(&inner.path, &outer.path, d);
        }
    }
}

fn devices(c: &Config, check: &mut Check<'_>) {
    let mut scm = Vec::new();
    let mut bdev = Vec::new();
    for (i, server) in c.servers.iter().enumerate() {
        for (list, name, uses) in [
            (&server.scm_list, "scm_list", &mut scm),
            (&server.bdev_list, "bdev_list", &mut bdev),
        ] {
            for (n, device) in list.iter().enumerate() {
                let value = if device.contains('/') {
                    plain_path(device)
                } else {
                    device.clone()
                };
                uses.push(Use {
                    path: format!("servers[{i}].{name}[{n}]"),
                    value,
                });
            }
        }
    }
    let hint = "a device belongs to one server; list another one";
    unique(check, &scm, Code::DuplicateScmDevice, "SCM device", hint);
    unique(check, &bdev, Code::DuplicateBdevDevice, "device", hint);
    controllers(c, check);
    let mounts = scm_mounts(c);
    let scm: BTreeMap<&str, &Use> = scm.iter().map(|s| (s.value.as_str(), s)).collect();
    for b in &bdev {
        if let Some(s) = scm.get(b.value.as_str()) {
            let message = format!("device {} of {} is also SCM of {}", b.value, b.path, s.path);
            let d = Diagnostic::error(Code::DuplicateBdevDevice, message).hint(hint);
            check.conflict(&b.path, &s.path, d);
        }
        for mount in mounts.iter().filter(|m| is_below(&b.value, &m.value)) {
            let message = format!(
                "{} lies below the SCM mount point {}, which would hide it",
                b.value, mount.value
            );
            let d = Diagnostic::error(Code::NestedPath, message)
                .hint("put the file on a disk, outside of every scm_mount");
            check.conflict(&b.path, &mount.path, d);
        }
        excluded(c, check, b);
    }
}

/// One process drives a controller with all of its namespaces.
fn controllers(c: &Config, check: &mut Check<'_>) {
    let mut owners: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (i, server) in c.servers.iter().enumerate() {
        for (n, device) in server.bdev_list.iter().enumerate() {
            let Some((controller, _)) = normalise_namespace(device) else {
                continue;
            };
            let path = format!("servers[{i}].bdev_list[{n}]");
            match owners.get(&controller) {
                Some((owner, other))
                    if *owner != i && c.servers[*owner].bdev_list.iter().all(|d| d != device) =>
                {
                    let message = format!("{device} of {path} is on the controller of {other}");
                    let d = Diagnostic::error(Code::DuplicateBdevDevice, message).hint(
                        "a controller with all of its namespaces belongs to one server; list another one",
                    );
                    check.conflict(&path, other, d);
                }
                Some(_) => {}
                None => {
                    owners.insert(controller, (i, path));
                }
            }
        }
    }
}

fn excluded(c: &Config, check: &mut Check<'_>, device: &Use) {
    let Some((controller, _)) = normalise_namespace(&device.value) else {
        return;
    };
    if let Some(n) = c.bdev_exclude.iter().position(|e| *e == controller) {
        let message = format!("{} is excluded by bdev_exclude", device.value);
        let d = Diagnostic::error(Code::BdevExcluded, message).hint("remove it from one of them");
        check.conflict(&device.path, &format!("bdev_exclude[{n}]"), d);
    } else if !c.bdev_include.is_empty() && !c.bdev_include.contains(&controller) {
        let message = format!("{} is not among bdev_include", device.value);
        let d = Diagnostic::error(Code::BdevExcluded, message).hint(
            match near_miss(&controller, &c.bdev_include) {
                Some(near) => format!("did you mean {near}?"),
                None => "add it to bdev_include, or remove bdev_include".to_owned(),
            },
        );
        check.conflict(&device.path, "bdev_include", d);
    }
}

/// An address that differs in one place, or in two places that are the other way round.
fn near_miss<'a>(wanted: &str, known: &'a [String]) -> Option<&'a String> {
    known
        .iter()
        .find(|one| strsim::osa_distance(wanted, one) == 1)
}

fn log_files(c: &Config, check: &mut Check<'_>) {
    let control = c
        .control_log_file
        .iter()
        .map(|f| ("control_log_file".to_owned(), f));
    let engines = c
        .servers
        .iter()
        .enumerate()
        .filter_map(|(i, s)| Some((format!("servers[{i}].log_file"), s.log_file.as_ref()?)));
    let uses: Vec<Use> = control
        .chain(engines)
        // Devices such as /dev/null and /dev/stderr take any number of writers.
        .filter(|(_, file)| !file.starts_with("/dev"))
        .map(|(path, file)| Use {
            path,
            value: plain_path(&file.to_string_lossy()),
        })
        .collect();
    let hint = "two processes writing one file garble it; give each its own";
    unique(check, &uses, Code::DuplicateLogFile, "log file", hint);
}

fn fabric(c: &Config, check: &mut Check<'_>) {
    let mut uses = Vec::new();
    for (i, server) in c.servers.iter().enumerate() {
        if let (Some(iface), Some(port)) = (&server.fabric_iface, server.fabric_iface_port) {
            let own = format!("servers[{i}].fabric_iface_port");
            let path = if check.origin.given(&own) || !check.origin.given("fabric_iface_port") {
                own
            } else {
                format!("servers[{i}]")
            };
            uses.push(Use {
                path,
                value: format!("{iface}:{port}"),
            });
        }
    }
    let hint = "give each server a fabric_iface_port of its own, or none to have it chosen";
    unique(check, &uses, Code::DuplicateFabric, "fabric port", hint);
}

fn ranks(c: &Config, check: &mut Check<'_>) {
    let uses: Vec<Use> = c
        .servers
        .iter()
        .enumerate()
        .filter_map(|(i, s)| {
            Some(Use {
                path: format!("servers[{i}].rank"),
                value: s.rank?.to_string(),
            })
        })
        .collect();
    let hint = "ranks are unique in a system; leave rank out to have it assigned";
    unique(check, &uses, Code::DuplicateRank, "rank", hint);
}

/// Only servers that say both where they start and how many targets they have can be compared;
/// the others are placed by the daemon.
fn cores(c: &Config, check: &mut Check<'_>) {
    let ranges: Vec<(usize, u64, u64)> = c
        .servers
        .iter()
        .enumerate()
        .filter(|(_, s)| s.targets > 0)
        .filter_map(|(i, s)| {
            let first = u64::from(s.first_core?);
            Some((i, first, first + u64::from(s.targets)))
        })
        .collect();
    for (n, (i, first, end)) in ranges.iter().enumerate() {
        for (j, other_first, other_end) in &ranges[..n] {
            if first < other_end && other_first < end {
                let message = format!(
                    "servers[{i}] runs on cores {first}-{} and servers[{j}] on {other_first}-{}",
                    end - 1,
                    other_end - 1
                );
                let d = Diagnostic::error(Code::CoreOverlap, message).hint(
                    "targets poll their cores: move first_core, or leave it out to be placed",
                );
                check.conflict(
                    &format!("servers[{i}].first_core"),
                    &format!("servers[{j}].first_core"),
                    d,
                );
            }
        }
    }
}
