//! What is known of this machine.

use crate::fabric::{self, SYS, usable_cores};
use crate::plugins::Plugins;
use crate::scan;
use daos_plugin_api::control::ClassKind;
use daos_proto::host::{DeviceUse, Kind, StorageScanDetailRequest};
use daos_topology::{Interface, Node, Offer};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// A storage device that nobody uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) class: String,
    pub(super) address: String,
    pub(super) numa_node: Option<u32>,
}

/// All that a plan is made from.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) nodes: Vec<Node>,
    /// Physical cores that engines may use, in the order in which engines count them.
    pub(super) cores: Vec<usize>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) offers: Vec<Offer>,
    pub(super) scm: Vec<Device>,
    pub(super) bdevs: Vec<Device>,
    /// Modules of persistent memory of which nothing can be used yet.
    pub(super) unprepared: Vec<String>,
    /// Bytes of memory to plan with, see [`memory`].
    pub(super) memory: u64,
    /// Directory for files that stand in for block devices, and bytes that are free there: none without a plugin for them.
    pub(super) files: (PathBuf, u64),
    /// Where SCM is mounted, or where directories stand in for it.
    pub(super) scm_base: PathBuf,
    /// Directory for sockets, where the default one is not for this user.
    pub(super) socket_dir: Option<PathBuf>,
    /// What could not be found out.
    pub(super) notes: Vec<String>,
}

/// Asks plugins and kernel.
pub(super) async fn gather(plugins: &Plugins) -> Found {
    let sys = Path::new(SYS);
    let (offers, faults) = fabric::offers(plugins).await;
    let mut notes: Vec<String> = faults
        .into_iter()
        .map(|(plugin, why)| format!("plugin {plugin} could not be asked for interfaces: {why}"))
        .collect();
    let request = StorageScanDetailRequest {
        kinds: vec![Kind::Scm.into(), Kind::Bdev.into()],
        ..StorageScanDetailRequest::default()
    };
    let scanned = scan::scan(plugins, None, &request).await;
    notes.extend(scanned.faults.into_iter().map(|fault| {
        let why = fault.fault.map(|f| f.description()).unwrap_or_default();
        format!(
            "plugin {} could not be asked for storage: {why}",
            fault.plugin
        )
    }));
    let (mut scm, mut bdevs) = (Vec::<Device>::new(), Vec::<Device>::new());
    let (mut memory, mut unprepared) = (Vec::new(), Vec::new());
    for found in scanned.devices {
        let device = Device {
            numa_node: found
                .numa_node
                .and_then(|node| u32::try_from(node).ok())
                .or_else(|| daos_topology::device_node(sys, &found.address)),
            class: found.class.clone(),
            address: found.address.clone(),
        };
        let is_free = found.r#use() != DeviceUse::Busy;
        if found.kind() == Kind::Scm {
            memory.push(found.address.clone());
        }
        match found.kind() {
            Kind::Scm if is_free => scm.push(device),
            // Modules have serial numbers, namespaces have none.
            Kind::Scm if !found.serial.is_empty() => unprepared.push(found.address),
            Kind::Bdev if is_free => bdevs.push(device),
            _ => {}
        }
    }
    if memory.len() > unprepared.len() {
        // Namespaces are there, free or in use.
        unprepared.clear();
    }
    // The kernel shows namespaces of persistent memory as block devices, too.
    bdevs.retain(|bdev| memory.iter().all(|address| *address != bdev.address));
    let files = PathBuf::from("/var/tmp");
    let user = nix::unistd::geteuid();
    let (scm_base, socket_dir) = match may_mount() {
        true => (PathBuf::from("/mnt/daos"), None),
        false => (PathBuf::from(format!("/dev/shm/daos-{user}")), None),
    };
    let socket_dir = match user.is_root() {
        true => socket_dir,
        false => Some(match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(dir) if Path::new(&dir).is_dir() => Path::new(&dir).join("daos_server"),
            _ => PathBuf::from(format!("/tmp/daos_server-{user}")),
        }),
    };
    Found {
        nodes: daos_topology::nodes(sys),
        cores: daos_topology::physical(&usable_cores(), sys),
        interfaces: daos_topology::interfaces(sys),
        offers,
        scm,
        bdevs,
        unprepared,
        memory: self::memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        files: match plugins.find(ClassKind::Bdev, "file") {
            Ok(_) => (files.clone(), free(&files)),
            Err(_) => (files, 0),
        },
        scm_base,
        socket_dir,
        notes,
    }
}

/// Whether this process may mount file systems.
fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    effective
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .is_some_and(|bits| bits >> CAP_SYS_ADMIN & 1 == 1)
}

/// Bytes of memory to plan with: three quarters of what there is, or what is available if that is less. So a machine at
/// rest gets the same plan each time.
fn memory(meminfo: &str) -> u64 {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            .map_or(0, |kib| kib << 10)
    };
    bytes("MemAvailable:").min(bytes("MemTotal:") / 4 * 3)
}

fn free(path: &Path) -> u64 {
    nix::sys::statvfs::statvfs(path).map_or(0, |fs| {
        fs.blocks_available().saturating_mul(fs.fragment_size())
    })
}

/// The first free TCP port from `from` on that is not among `taken`; `from` itself if none is.
pub(super) fn free_port(from: u16, taken: &[u16]) -> u16 {
    /// Ports that are tried: engines' defaults are further apart.
    const TRIED: u16 = 500;
    (from..from.saturating_add(TRIED))
        .filter(|port| !taken.contains(port))
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       24684096 kB\nMemAvailable:   16384 kB\nBuffers: 1 kB\n";
        assert_eq!(memory(text), 16 << 20);
        assert_eq!(memory("MemTotal: 1 kB\n"), 0);
        // What comes and goes while a machine rests does not matter.
        let rest = |available: u64| {
            memory(&format!(
                "MemTotal: 4096 kB\nMemAvailable: {available} kB\n"
            ))
        };
        assert_eq!((rest(3900), rest(3500)), (3 << 20, 3 << 20));
    }

    #[test]
    fn a_port_that_is_in_use_or_taken_is_passed_over() {
        let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let used = listener.local_addr().unwrap().port();
        let next = free_port(used, &[]);
        assert_ne!(next, used);
        assert_ne!(free_port(used, &[next]), next);
    }
}
