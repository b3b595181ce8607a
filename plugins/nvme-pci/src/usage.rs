//! Whether a controller is in use, and by whom: mounted, swapped to, part of a volume, with
//! known content, opened exclusively, or held by a process.

use crate::controller::{Controller, DEVICES, Namespace};
use crate::processes::{Process, Processes};
use crate::system::System;
use crate::tree::Tree;
use daos_media::signature::{self, Content};
use kernel_tables::{Member, Number};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Why `controller` must be left alone, each reason with the one who causes it; empty = free.
pub fn reasons(system: &dyn System, controller: &Controller, processes: &Processes) -> Vec<String> {
    let tree = system.tree();
    let mut reasons = Vec::new();
    if controller.is_for_user_space() {
        reasons.extend(held(tree, controller, processes));
        return reasons;
    }
    let family = family(tree, controller);
    let mounts = tree.bytes("/proc/self/mountinfo");
    let swaps = tree.bytes("/proc/swaps");
    for (block, usage) in
        kernel_tables::uses(&mounts, &swaps, &family, &|path| number_of(tree, path))
    {
        reasons.push(format!("{} is {usage}", block.name));
    }
    // Who has a mounted device open is its file system's business.
    if reasons.is_empty() {
        for block in &family {
            let users = processes.users(tree, &format!("/dev/{}", block.name));
            if !users.is_empty() {
                reasons.push(format!("{} is open in {}", block.name, list(&users)));
            }
        }
        for namespace in &controller.namespaces {
            reasons.extend(content(system, namespace, reasons.is_empty()));
        }
    }
    reasons
}

fn list(processes: &[Process]) -> String {
    let names: Vec<_> = processes.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Processes that hold a device which is handed to user space.
fn held(tree: &Tree, controller: &Controller, processes: &Processes) -> Vec<String> {
    let dir = format!("{DEVICES}/{}", controller.address);
    let mut nodes = Vec::new();
    let through = if controller.driver.as_deref() == Some("vfio-pci") {
        if let Some(group) = controller.iommu_group {
            nodes.push(format!("/dev/vfio/{group}"));
            nodes.push(format!("/dev/vfio/noiommu-{group}"));
        }
        let names = tree.names(&format!("{dir}/vfio-dev"));
        nodes.extend(names.iter().map(|name| format!("/dev/vfio/devices/{name}")));
        "vfio"
    } else {
        let names = tree.names(&format!("{dir}/uio"));
        nodes.extend(names.iter().map(|name| format!("/dev/{name}")));
        "uio"
    };
    // Drivers in user space map the registers through sysfs; maps show the place without links.
    let real = fs::canonicalize(tree.path(&dir))
        .ok()
        .and_then(|real| tree.inside(&real))
        .map_or_else(|| dir.clone(), |path| path.display().to_string());
    let mut users: Vec<Process> = nodes
        .iter()
        .flat_map(|node| processes.users(tree, node))
        .chain(processes.users_below(&format!("{real}/resource")))
        .collect();
    users.sort();
    users.dedup();
    users
        .iter()
        .map(|user| format!("held through {through} by {user}"))
        .collect()
}

/// Namespaces and partitions.
fn family(tree: &Tree, controller: &Controller) -> Vec<Member> {
    let mut family = Vec::new();
    let member = |dir: &str, name: &str| Member {
        name: name.to_owned(),
        number: tree
            .text(&format!("{dir}/dev"))
            .and_then(|text| kernel_tables::number(text.as_bytes())),
        holders: tree.names(&format!("{dir}/holders")),
    };
    for namespace in &controller.namespaces {
        let dir = format!("/sys/class/block/{}", namespace.name);
        for child in tree.names(&dir) {
            let part = format!("{dir}/{child}");
            if tree.exists(&format!("{part}/partition")) {
                family.push(member(&part, &child));
            }
        }
        family.push(member(&dir, &namespace.name));
    }
    family
}

/// Device number of a node.
fn number_of(tree: &Tree, node: &Path) -> Option<Number> {
    let found = fs::metadata(tree.path(node.to_str()?)).ok()?;
    let number = found.rdev();
    let parts = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    found
        .file_type()
        .is_block_device()
        .then_some((parts.0 as u32, parts.1 as u32))
}

/// What is on a namespace. An exclusive open fails for whatever the kernel knows to be in use, also
/// in other mount namespaces.
fn content(system: &dyn System, namespace: &Namespace, unexplained: bool) -> Option<String> {
    let name = &namespace.name;
    match system.open_exclusive(&format!("/dev/{name}")) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => unexplained
            .then(|| format!("{name} is held exclusively, in a container or by the kernel")),
        // Without rights, or without a node, there is nothing to be seen.
        Err(_) => None,
        Ok(file) => match signature::detect_file(&file, namespace.size) {
            Ok(found @ Content::Known(_)) if !found.is_ours() => Some(format!(
                "{name} holds data: {found} (`wipefs -a /dev/{name}` if it may go)"
            )),
            _ => None,
        },
    }
}
