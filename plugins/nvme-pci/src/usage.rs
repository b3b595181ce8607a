//! Whether a controller is in use, and by whom: mounted, swapped to, part of a volume, with
//! known content, opened exclusively, or held by a process.

use crate::controller::{Controller, DEVICES, Namespace};
use crate::processes::{Process, Processes};
use crate::system::System;
use crate::tree::{Tree, unescape};
use daos_media::signature::{self, Content};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Why `controller` must be left alone, each reason with the one who causes it; empty = free.
pub fn reasons(system: &dyn System, controller: &Controller, processes: &Processes) -> Vec<String> {
    let tree = system.tree();
    let mut reasons = Vec::new();
    if controller.is_for_user_space() {
        reasons.extend(held(tree, controller, processes));
        return reasons;
    }
    let family = family(tree, controller);
    let mounts = tree.text("/proc/self/mountinfo").unwrap_or_default();
    reasons.extend(mounted(tree, &mounts, &family));
    let swaps = tree.text("/proc/swaps").unwrap_or_default();
    reasons.extend(swapped(tree, &swaps, &family));
    for block in &family {
        let holders = tree.names(&format!("{}/holders", block.dir));
        if !holders.is_empty() {
            reasons.push(format!("{} is part of {}", block.name, holders.join(", ")));
        }
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

/// A namespace or partition.
struct Block {
    name: String,
    dir: String,
    number: String,
}

fn family(tree: &Tree, controller: &Controller) -> Vec<Block> {
    let mut family = Vec::new();
    let block = |dir: String, name: &str| Block {
        number: tree.text(&format!("{dir}/dev")).unwrap_or_default(),
        name: name.to_owned(),
        dir,
    };
    for namespace in &controller.namespaces {
        let dir = format!("/sys/class/block/{}", namespace.name);
        for child in tree.names(&dir) {
            let part = format!("{dir}/{child}");
            if tree.exists(&format!("{part}/partition")) {
                family.push(block(part, &child));
            }
        }
        family.push(block(dir, &namespace.name));
    }
    family
}

/// Device number of a node, as sysfs writes it.
fn number_of(tree: &Tree, node: &str) -> Option<String> {
    let found = fs::metadata(tree.path(node)).ok()?;
    found.file_type().is_block_device().then(|| {
        let number = found.rdev();
        format!(
            "{}:{}",
            nix::sys::stat::major(number),
            nix::sys::stat::minor(number)
        )
    })
}

fn belongs<'a>(tree: &Tree, family: &'a [Block], number: &str, source: &str) -> Option<&'a Block> {
    let by_source = source
        .starts_with("/dev/")
        .then(|| number_of(tree, source))
        .flatten();
    family.iter().find(|block| {
        let numbered = |n: &str| !n.is_empty() && block.number == n;
        numbered(number)
            || by_source.as_deref().is_some_and(numbered)
            || source.strip_prefix("/dev/") == Some(&block.name)
    })
}

/// File systems of several devices show another number than the device's, so the source is looked
/// at, too.
fn mounted(tree: &Tree, mountinfo: &str, family: &[Block]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let (number, place) = (fields.nth(2), fields.nth(1));
        let source = line
            .split_once(" - ")
            .and_then(|(_, rest)| rest.split(' ').nth(1))
            .map(unescape)
            .unwrap_or_default();
        if let (Some(number), Some(place)) = (number, place)
            && let Some(block) = belongs(tree, family, number, &source)
        {
            places.entry(&block.name).or_default().push(unescape(place));
        }
    }
    places
        .into_iter()
        .map(|(name, places)| format!("{name} is mounted at {}", places.join(", ")))
        .collect()
}

fn swapped(tree: &Tree, swaps: &str, family: &[Block]) -> Vec<String> {
    let paths = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    paths
        .map(unescape)
        .filter_map(|path| belongs(tree, family, "", &path))
        .map(|block| format!("{} is used as swap space", block.name))
        .collect()
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
