//! Checks of users, rights, directories and ports.

use super::Wanted;
use super::finding::{Check, Finding};
use super::fix::{Fix, Step};
use super::node::{Known, Node, ends_with};
use crate::plugins::privileged_helper;
use crate::port_holder;
use crate::transport;
use daos_config::Config;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const USERS: Check = Check {
    name: "users",
    why: "storage belongs to a user by number: user and groups must be the same on all servers and clients",
};
const DIRECTORIES: Check = Check {
    name: "directories",
    why: "server, engines and agents talk over sockets there, and what must survive is kept there",
};
const PRIVILEGES: Check = Check {
    name: "privileges",
    why: "mounting SCM and opening devices are for root, or for who was given them",
};
const PORTS: Check = Check {
    name: "ports",
    why: "administrators, clients and monitoring reach this node there",
};

/// Who runs engines and owns what they use: number of user and group.
pub(super) fn owner(node: &Node, config: &Config) -> (u32, u32) {
    let user = config.user_name.as_deref().and_then(node.user);
    let group = config.group_name.as_deref().and_then(node.group);
    let (uid, gid) = user.map_or((node.euid, node.egid), |(_, uid, gid)| (uid, gid));
    (uid, group.map_or(gid, |(_, gid, _)| gid))
}

pub(super) fn users(node: &Node, config: &Config) -> Vec<Finding> {
    let shown = |(name, uid, gid): &Known| format!("{name} ({uid}:{gid})");
    let mut findings = Vec::new();
    match &config.user_name {
        None if node.is_root() => findings.push(USERS.warn(
            "user_name is not set: engines run as root",
            "make a user with the same number on all nodes (`useradd --system --uid 988 daos`) and write `user_name: daos`",
        )),
        None => match (node.user_of)(node.euid) {
            Some(user) => findings.push(USERS.ok(format!("engines run as {}, who starts the server", shown(&user)))),
            None => findings.push(USERS.warn(
                format!("user {} has no name on this node", node.euid),
                "give it one, the same on all nodes (/etc/passwd, or the directory service)",
            )),
        },
        Some(name) => match (node.user)(name) {
            Some(user) => findings.push(USERS.ok(format!("user_name {}", shown(&user)))),
            None => findings.push(USERS.fail(
                format!("user_name: there is no user {name} on this node"),
                format!("useradd --system --uid NUMBER {name}, with the same number on all nodes"),
            )),
        },
    }
    if let Some(name) = &config.group_name {
        findings.push(match (node.group)(name) {
            Some((name, gid, _)) => USERS.ok(format!("group_name {name} ({gid})")),
            None => USERS.fail(
                format!("group_name: there is no group {name} on this node"),
                format!("groupadd --system --gid NUMBER {name}, with the same number on all nodes"),
            ),
        });
    }
    findings
}

/// Directories whose contents end with the boot.
const VOLATILE: [&str; 2] = ["/run", "/var/run"];

pub(super) fn directories(node: &Node, config: &Config, state: Option<&Path>) -> Vec<Finding> {
    let mut sockets: Vec<&Path> = vec![&config.socket_dir];
    for server in &config.servers {
        if !sockets.contains(&server.socket_dir.as_path()) {
            sockets.push(&server.socket_dir);
        }
    }
    let owner = owner(node, config);
    let mut findings: Vec<Finding> = sockets
        .into_iter()
        .flat_map(|dir| sockets_at(node, dir, owner))
        .collect();
    match state {
        Some(state) => findings.extend(kept_at(node, state)),
        None => findings.push(DIRECTORIES.fail(
            "there is no place for what must survive: this user has no home",
            "write `state_dir:` with an absolute path",
        )),
    }
    for (key, file) in files(config) {
        let dir = file.parent().unwrap_or(Path::new("/"));
        let may = node.permits(dir, node.euid, node.egid, 3);
        if may != Some(true) {
            findings.push(DIRECTORIES.fail(
                match may {
                    None => format!("{key} {}: {} is not there", file.display(), dir.display()),
                    _ => format!(
                        "{key} {}: {} cannot write there",
                        file.display(),
                        node.name_of(node.euid)
                    ),
                },
                format!(
                    "make {} for that user, or write another {key}",
                    dir.display()
                ),
            ));
        }
    }
    findings
}

/// Files that the configuration has the server write.
fn files(config: &Config) -> impl Iterator<Item = (&'static str, &Path)> {
    let log = config
        .control_log_file
        .as_deref()
        .map(|f| ("control_log_file", f));
    let attach = config.attach.as_deref().map(|f| ("attach", f));
    log.into_iter().chain(attach)
}

fn sockets_at(node: &Node, dir: &Path, (uid, gid): (u32, u32)) -> Vec<Finding> {
    let shown = dir.display();
    let make = Fix(vec![Step::Directory {
        path: dir.to_owned(),
        uid,
        gid,
    }]);
    let Ok(found) = fs::metadata(node.path(dir)) else {
        if fs::symlink_metadata(node.path(dir)).is_ok() {
            return vec![DIRECTORIES.fail(
                format!("socket_dir {shown} is a link to nothing"),
                "remove the link, or write another socket_dir",
            )];
        }
        let above = dir.parent().unwrap_or(Path::new("/"));
        // The server makes the last part itself.
        return vec![match node.permits(above, node.euid, node.egid, 3) {
            Some(true) => DIRECTORIES.ok(format!("socket_dir {shown} is not there yet: the server makes it")),
            _ => DIRECTORIES
                .fail(
                    format!("socket_dir {shown} is not there, and {} cannot make it", node.name_of(node.euid)),
                    format!(
                        "sudo mkdir -p {shown}; sudo chmod 0755 {shown}; sudo chown {uid}:{gid} {shown}; or write another \
                         socket_dir"
                    ),
                )
                .with(make),
        }];
    };
    if !found.is_dir() {
        return vec![DIRECTORIES.fail(
            format!("socket_dir {shown} is no directory"),
            "remove it, or write another socket_dir",
        )];
    }
    let mut findings = Vec::new();
    if node.permits(dir, uid, gid, 3) != Some(true) {
        findings.push(
            DIRECTORIES
                .fail(
                    format!(
                        "{} cannot make sockets in socket_dir {shown}",
                        node.name_of(uid)
                    ),
                    format!("sudo chown {uid}:{gid} {shown}"),
                )
                .with(Fix(vec![Step::Give {
                    path: dir.to_owned(),
                    uid,
                    gid,
                }])),
        );
    } else if found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0 {
        findings.push(
            DIRECTORIES
                .warn(
                    format!("everybody may replace the sockets in socket_dir {shown}"),
                    format!("chmod 0755 {shown}"),
                )
                .with(Fix(vec![Step::Mode {
                    path: dir.to_owned(),
                    mode: 0o755,
                }])),
        );
    } else {
        findings.push(DIRECTORIES.ok(format!("socket_dir {shown}")));
    }
    findings.extend(lasts(node, dir, uid, gid));
    findings
}

/// Whether a directory below /run is made again at the next boot.
fn lasts(node: &Node, dir: &Path, uid: u32, gid: u32) -> Option<Finding> {
    let below = VOLATILE.iter().find_map(|run| dir.strip_prefix(run).ok())?;
    // A server that root starts makes it each time, and gives it to the engines' user.
    if node.is_root() {
        return None;
    }
    let names = VOLATILE.map(|run| Path::new(run).join(below));
    let tmpfiles = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];
    let lines = tmpfiles
        .iter()
        .flat_map(|place| {
            node.names(place)
                .into_iter()
                .map(move |n| format!("{place}/{n}"))
        })
        .filter(|path| ends_with(path, "conf"))
        .filter_map(|path| node.read(path));
    let made = |text: String| {
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            let kind = words.next().unwrap_or_default();
            kind.starts_with(['d', 'D'])
                && words
                    .next()
                    .is_some_and(|p| names.iter().any(|n| n == Path::new(p)))
        })
    };
    let units = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let directive = format!("RuntimeDirectory={}", below.display());
    let by_unit = units
        .iter()
        .flat_map(|place| {
            node.names(place)
                .into_iter()
                .map(move |n| format!("{place}/{n}"))
        })
        .filter(|path| ends_with(path, "service") && path.contains("daos"))
        .filter_map(|path| node.read(path))
        .any(|text| text.lines().any(|line| line.trim() == directive));
    if by_unit || lines.into_iter().any(made) {
        return None;
    }
    let path = PathBuf::from("/etc/tmpfiles.d/daos_server.conf");
    // Under its real name: systemd complains about /var/run.
    let text = format!(
        "d {} 0755 {} {} -\n",
        names[0].display(),
        node.name_of(uid),
        gid
    );
    let finding = DIRECTORIES.warn(
        format!("{} is gone after the next boot", dir.display()),
        format!(
            "write {:?} to {}, or run the server by its unit",
            text.trim_end(),
            path.display()
        ),
    );
    // One that is there says something else; that is for the administrator to see.
    Some(match fs::symlink_metadata(node.path(&path)).is_ok() {
        true => finding,
        false => finding.with(Fix(vec![Step::File { path, text }])),
    })
}

fn kept_at(node: &Node, dir: &Path) -> Option<Finding> {
    let existing = node.existing(dir);
    if node.permits(existing, node.euid, node.egid, 3) == Some(true) {
        return None;
    }
    let user = node.name_of(node.euid);
    let shown = dir.display();
    let finding = DIRECTORIES.fail(
        format!(
            "state_dir {shown}: {user} cannot write to {}",
            existing.display()
        ),
        format!("sudo mkdir -p {shown}; sudo chown {user} {shown}; or write another state_dir"),
    );
    let (uid, gid) = (node.euid, node.egid);
    let path = dir.to_owned();
    Some(finding.with(Fix(vec![match existing == dir {
        true => Step::Give { path, uid, gid },
        false => Step::Directory { path, uid, gid },
    }])))
}

const SYS_ADMIN: u32 = 21;

pub(super) fn privileges(node: &Node, config: &Config, wanted: &Wanted) -> Vec<Finding> {
    if let Some(name) = &config.user_name
        && !node.is_root()
        && (node.user)(name).is_some_and(|(_, uid, _)| uid != node.euid)
    {
        return vec![PRIVILEGES.fail(
            format!("user_name is {name}, and only root can run engines as another user"),
            format!("start the server as root (its unit does), or as {name}"),
        )];
    }
    if node.is_root() {
        return vec![PRIVILEGES.ok("root: storage can be mounted and prepared")];
    }
    let user = node.name_of(node.euid);
    let may_mount = node.may(SYS_ADMIN) || a_helper_may(config);
    let mut findings = Vec::new();
    for (index, server) in config.servers.iter().enumerate() {
        let kind = node.file_system(&server.scm_mount).unwrap_or_default();
        let finding = match server.scm_class.as_str() {
            "ram" if may_mount || kind == "tmpfs" => None,
            "ram" => Some(format!(
                "engine {index}: {user} cannot mount a tmpfs at {}, which lies on {kind}",
                server.scm_mount.display()
            )),
            "dcpm" if may_mount || is_mounted(node, &server.scm_mount) => None,
            "dcpm" => Some(format!(
                "engine {index}: {user} cannot mount {}",
                server.scm_mount.display()
            )),
            _ => None,
        };
        findings.extend(finding.map(|found| {
            PRIVILEGES.fail(
                found,
                "start the server as root with user_name (its unit does), install daos_server_privileged with rights, or put \
                 scm_class ram onto a tmpfs that is there, such as /dev/shm",
            )
        }));
        if server.bdev_class == "kdev" {
            let denied = |device: &&String| {
                node.permits(Path::new(device), node.euid, node.egid, 6) == Some(false)
            };
            findings.extend(server.bdev_list.iter().filter(denied).map(|device| {
                PRIVILEGES.fail(
                    format!("engine {index}: {user} may not read and write {device}"),
                    "a udev rule that gives it to that user, or start the server as root with user_name",
                )
            }));
        }
    }
    if wanted.nvme {
        let vfio = Path::new("/dev/vfio/vfio");
        match node.permits(vfio, node.euid, node.egid, 6) {
            Some(true) => {}
            found => findings.push(
                PRIVILEGES.fail(
                    match found {
                        None => "there is no /dev/vfio/vfio: devices were not handed to user space"
                            .to_owned(),
                        _ => format!("{user} may not use /dev/vfio/vfio"),
                    },
                    format!("sudo daos_server storage prepare --nvme-only -u {user}"),
                ),
            ),
        }
    }
    if findings.is_empty() {
        findings.push(match (config.servers.is_empty(), may_mount) {
            (true, false) => PRIVILEGES.warn(
                format!("{user} is not root: scm_class ram on a tmpfs that is there, files and memory can be used"),
                "start the server as root (its unit does) for everything else, and set user_name",
            ),
            _ => PRIVILEGES.ok(format!("{user} may use what is configured")),
        });
    }
    findings
}

/// Whether what declares that it needs rights gets them: from `daos_server_privileged`, for plugins that are files.
fn a_helper_may(config: &Config) -> bool {
    config.plugins_dir.is_some()
        && std::env::current_exe().is_ok_and(|exe| privileged_helper(config, &exe).is_some())
}

fn is_mounted(node: &Node, path: &Path) -> bool {
    node.mounts().iter().any(|mounted| mounted.at == path)
}

pub(super) fn ports(node: &Node, config: &Config) -> Vec<Finding> {
    let mut wanted: Vec<(String, u16)> = vec![("port".to_owned(), config.port)];
    wanted.extend(
        config
            .telemetry_port
            .map(|port| ("telemetry_port".to_owned(), port)),
    );
    for (index, server) in config.servers.iter().enumerate() {
        let name = format!("servers[{index}].fabric_iface_port");
        wanted.extend(server.fabric_iface_port.map(|port| (name, port)));
    }
    let proc = node.path("/proc");
    let mut findings = Vec::new();
    let mut free = Vec::new();
    for (key, port) in &wanted {
        if !port_holder::is_taken(&proc, *port) {
            free.push(port.to_string());
            continue;
        }
        let holder = port_holder::holder_in(&proc, *port);
        let by = holder.as_deref().unwrap_or("a process of another user");
        let found = format!("{key} {port} is taken by {by}");
        let ours = by.starts_with("daos_server ") || by.starts_with("daos_io_server ");
        findings.push(match (key.as_str(), ours) {
            (_, true) => PORTS.warn(
                format!("{found}: it runs already"),
                "stop it before you start another",
            ),
            ("telemetry_port", _) => PORTS.warn(
                found,
                "write another telemetry_port; without one the server starts all the same",
            ),
            _ => PORTS.fail(found, format!("stop that, or write another {key}")),
        });
    }
    if !free.is_empty() {
        findings.insert(0, PORTS.ok(format!("free: {}", free.join(", "))));
    }
    // Interfaces are those of the kernel that this runs under.
    if let Err(refused) = transport::address(config) {
        findings.push(PORTS.fail(
            format!("{refused:#}"),
            "give the interface an IPv4 address, or write another control_iface, or none",
        ));
    }
    findings
}
