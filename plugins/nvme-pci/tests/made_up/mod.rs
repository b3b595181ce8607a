//! A made-up machine: a tree of files, and what the kernel does when some of them are written.

#![allow(dead_code, reason = "each test program uses its part")]

use daos_plugin_api::control::{PrepareReport, PrepareRequest, PreparedDevice};
use daos_plugin_api::sdk::Error;
use nvme_pci::{Direction, Owner, System, Target, Tree, run};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;

/// Bytes of each namespace.
pub(crate) const SIZE: u64 = 64 << 10;
pub(crate) const STATE: &str = "/var/lib/daos_server";

pub(crate) const A: &str = "0000:41:00.0";
pub(crate) const B: &str = "0000:81:00.0";

/// Two controllers behind an IOMMU, one per node.
pub(crate) fn two() -> Kernel {
    let mut kernel = Kernel::new();
    kernel.controller(A, Some(12), 0);
    kernel.controller(B, Some(13), 1);
    kernel
}

pub(crate) fn pages(number: u64) -> PrepareRequest {
    PrepareRequest {
        hugepages: Some(number),
        ..request()
    }
}

/// Payload of the panic that stands for SIGKILL.
pub(crate) struct Killed;

pub(crate) struct Kernel {
    dir: tempfile::TempDir,
    tree: Tree,
    owners: BTreeMap<String, Owner>,
    /// Controllers in the order in which they were found.
    controllers: Vec<String>,
    /// Exclusive opens of these nodes are refused.
    pub(crate) busy: BTreeSet<String>,
    /// Pages that a node can have at most.
    pub(crate) room: BTreeMap<i32, u64>,
    /// Writes to these paths fail.
    pub(crate) broken: BTreeSet<String>,
    /// Modules that can be loaded.
    pub(crate) modules: BTreeSet<String>,
    /// Changes until the process is killed.
    pub(crate) changes_left: Option<usize>,
    /// Changes so far.
    pub(crate) changes: usize,
}

impl Kernel {
    /// Two nodes with memory, a kernel with nvme and the modules of Debian, an IOMMU when asked for.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kernel = Self {
            tree: Tree::at(dir.path()),
            dir,
            owners: BTreeMap::new(),
            controllers: Vec::new(),
            busy: BTreeSet::new(),
            room: BTreeMap::new(),
            broken: BTreeSet::new(),
            modules: BTreeSet::from(["vfio-pci".to_owned(), "uio_pci_generic".to_owned()]),
            changes_left: None,
            changes: 0,
        };
        kernel.put("/proc/sys/kernel/random/boot_id", "boot-one");
        kernel.put("/proc/sys/kernel/osrelease", "6.1.0");
        kernel.put("/proc/sys/vm/compact_memory", "");
        kernel.put("/proc/meminfo", "MemTotal: 9 kB\nHugepagesize:    2048 kB");
        kernel.put("/proc/self/mountinfo", "1 0 0:1 / / rw - ext4 /dev/sda1 rw");
        kernel.put("/proc/swaps", "Filename Type Size Used Priority");
        kernel.put("/sys/bus/pci/drivers_probe", "");
        kernel.put("/sys/bus/pci/drivers/nvme/bind", "");
        kernel.put(
            "/lib/modules/6.1.0/modules.dep",
            "kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/vfio.ko\nkernel/drivers/uio/uio_pci_generic.ko:",
        );
        kernel.folder("/etc/security");
        kernel.folder("/proc/1");
        for node in 0..2 {
            let base = format!("/sys/devices/system/node/node{node}");
            kernel.put(&format!("{base}/cpulist"), &node.to_string());
            kernel.put(
                &format!("{base}/meminfo"),
                &format!("Node {node} MemFree: 4000000 kB"),
            );
            for file in ["nr_hugepages", "free_hugepages"] {
                kernel.put(&format!("{base}/hugepages/hugepages-2048kB/{file}"), "0");
            }
        }
        kernel
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.tree.path(path)
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(crate) fn folder(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    pub(crate) fn text(&self, path: &str) -> String {
        self.tree.text(path).unwrap_or_default()
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(self.path(target), path).unwrap();
    }

    /// Adds a controller, which the kernel's driver takes.
    pub(crate) fn controller(&mut self, address: &str, group: Option<u32>, node: i32) {
        self.function(address, "0x010802", group);
        self.controllers.push(address.to_owned());
        self.put(
            &format!("/sys/bus/pci/devices/{address}/numa_node"),
            &node.to_string(),
        );
        self.bound(address, "nvme");
    }

    /// Adds a PCI function without a driver.
    pub(crate) fn function(&mut self, address: &str, class: &str, group: Option<u32>) {
        let real = format!("/sys/devices/pci0000:40/{address}");
        for (file, text) in [
            ("class", class),
            ("vendor", "0x8086"),
            ("device", "0x0a54"),
            ("driver_override", "(null)"),
        ] {
            self.put(&format!("{real}/{file}"), text);
        }
        self.link(&format!("/sys/bus/pci/devices/{address}"), &real);
        if let Some(group) = group {
            let group = format!("/sys/kernel/iommu_groups/{group}");
            self.folder(&group);
            self.link(&format!("{group}/devices/{address}"), &real);
            self.link(&format!("{real}/iommu_group"), &group);
        }
    }

    /// A driver takes a device.
    pub(crate) fn bound(&mut self, address: &str, driver: &str) {
        let real = format!("/sys/devices/pci0000:40/{address}");
        let of = format!("/sys/bus/pci/drivers/{driver}");
        self.folder(&of);
        self.link(&format!("{real}/driver"), &of);
        let name = self.name(address);
        match driver {
            "nvme" => {
                let controller = format!("{real}/nvme/{name}");
                self.put(&format!("{controller}/model"), "FAST SSD   ");
                self.put(&format!("{controller}/serial"), &format!("S-{address}"));
                self.put(&format!("{controller}/firmware_rev"), "F1");
                let block = format!("{controller}/{name}n1");
                self.put(&format!("{block}/size"), &(SIZE / 512).to_string());
                self.put(
                    &format!("{block}/dev"),
                    &format!("259:{}", name.len() + name.as_bytes()[4] as usize),
                );
                self.put(&format!("{block}/nsid"), "1");
                self.put(&format!("{block}/queue/logical_block_size"), "4096");
                self.folder(&format!("{block}/holders"));
                self.link(&format!("/sys/class/block/{name}n1"), &block);
                let node = self.path(&format!("/dev/{name}n1"));
                if !node.exists() {
                    fs::create_dir_all(node.parent().unwrap()).unwrap();
                    fs::write(node, vec![0; SIZE as usize]).unwrap();
                }
            }
            "vfio-pci" => {
                if let Some(group) = self.tree.link_name(&format!("{real}/iommu_group")) {
                    self.put(&format!("/dev/vfio/{group}"), "");
                }
            }
            "uio_pci_generic" => self.folder(&format!("{real}/uio/uio0")),
            _ => {}
        }
    }

    fn unbound(&mut self, address: &str) {
        let real = format!("/sys/devices/pci0000:40/{address}");
        let driver = self.tree.link_name(&format!("{real}/driver"));
        let _ = fs::remove_file(self.path(&format!("{real}/driver")));
        match driver.as_deref() {
            Some("nvme") => {
                fs::remove_dir_all(self.path(&format!("{real}/nvme"))).unwrap();
                let name = self.name(address);
                fs::remove_file(self.path(&format!("/sys/class/block/{name}n1"))).unwrap();
            }
            Some("vfio-pci") => {
                if let Some(group) = self.tree.link_name(&format!("{real}/iommu_group")) {
                    let node = format!("/dev/vfio/{group}");
                    let _ = fs::remove_file(self.path(&node));
                    self.owners.remove(&node);
                }
            }
            Some("uio_pci_generic") => {
                fs::remove_dir_all(self.path(&format!("{real}/uio"))).unwrap()
            }
            _ => {}
        }
    }

    /// Kernel name of a controller: nvme0 ... in the order in which they were found.
    pub(crate) fn name(&self, address: &str) -> String {
        let number = self.controllers.iter().position(|a| a == address);
        format!("nvme{}", number.unwrap_or(99))
    }

    pub(crate) fn driver(&self, address: &str) -> String {
        self.tree
            .link_name(&format!("/sys/bus/pci/devices/{address}/driver"))
            .unwrap_or_default()
    }

    pub(crate) fn override_of(&self, address: &str) -> String {
        self.text(&format!("/sys/bus/pci/devices/{address}/driver_override"))
    }

    pub(crate) fn pool(&self, node: i32) -> String {
        format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB")
    }

    pub(crate) fn set_pages(&self, node: i32, total: u64, free: u64) {
        let pool = self.pool(node);
        self.put(&format!("{pool}/nr_hugepages"), &total.to_string());
        self.put(&format!("{pool}/free_hugepages"), &free.to_string());
    }

    pub(crate) fn pages(&self, node: i32) -> u64 {
        self.text(&format!("{}/nr_hugepages", self.pool(node)))
            .parse()
            .unwrap()
    }

    /// A process with open files.
    pub(crate) fn process(&self, pid: u32, name: &str, files: &[&str]) {
        self.put(&format!("/proc/{pid}/comm"), name);
        self.put(&format!("/proc/{pid}/maps"), "");
        self.folder(&format!("/proc/{pid}/fd"));
        for (fd, file) in files.iter().enumerate() {
            symlink(file, self.path(&format!("/proc/{pid}/fd/{fd}"))).unwrap();
        }
    }

    pub(crate) fn process_ends(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("/proc/{pid}"))).unwrap();
    }

    pub(crate) fn mounted(&self, line: &str) {
        let old = self.text("/proc/self/mountinfo");
        self.put("/proc/self/mountinfo", &format!("{old}\n{line}"));
    }

    pub(crate) fn hugetlbfs(&mut self) {
        self.folder("/dev/hugepages");
        self.mounted("9 1 0:9 / /dev/hugepages rw - hugetlbfs hugetlbfs rw,pagesize=2M");
        let owner = Owner {
            uid: 0,
            gid: 0,
            mode: 0o755,
        };
        self.owners.insert("/dev/hugepages".to_owned(), owner);
    }

    pub(crate) fn run(
        &mut self,
        direction: Direction,
        request: &PrepareRequest,
    ) -> Result<PrepareReport, Error> {
        let (uid, name) = match request.user.as_str() {
            "" | "root" => (0, "root"),
            name => (1000, name),
        };
        let user = Target {
            name: name.to_owned(),
            uid,
            gid: uid,
        };
        let request = PrepareRequest {
            state_dir: STATE.to_owned(),
            ..request.clone()
        };
        run(self, direction, &request, user, &mut |_, _, _| true)
    }

    /// Everything that a preparation may change, for comparing.
    pub(crate) fn shape(&self) -> String {
        let mut lines = Vec::new();
        for address in self.tree.names("/sys/bus/pci/devices") {
            lines.push(format!(
                "{address} {} {}",
                self.driver(&address),
                self.override_of(&address)
            ));
        }
        lines.extend((0..2).map(|node| format!("node {node}: {}", self.pages(node))));
        lines.extend(
            self.owners
                .iter()
                .map(|(path, owner)| format!("{path} {owner:?}")),
        );
        lines.extend(self.tree.names("/dev/hugepages"));
        lines.extend(self.tree.names("/etc/security/limits.d"));
        lines.extend(self.tree.names(STATE));
        lines.push(self.text("/proc/self/mountinfo"));
        lines.join("\n")
    }

    /// Counts a change, or ends the process before it.
    fn change(&mut self) {
        if self.changes_left == Some(0) {
            std::panic::resume_unwind(Box::new(Killed));
        }
        self.changes_left = self.changes_left.map(|left| left - 1);
        self.changes += 1;
    }

    fn probe(&mut self, address: &str) {
        let wanted = match self.override_of(address).as_str() {
            "(null)" => "nvme".to_owned(),
            name => name.to_owned(),
        };
        let loaded = self
            .path(&format!("/sys/bus/pci/drivers/{wanted}"))
            .exists();
        if self.driver(address).is_empty() && loaded {
            self.bound(address, &wanted);
        }
    }
}

impl System for Kernel {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change();
        if self.broken.contains(path) {
            return Err(io::Error::from_raw_os_error(1));
        }
        File::options()
            .write(true)
            .open(self.path(path))?
            .write_all_at(bytes, offset)
    }

    fn write(&mut self, path: &str, text: &str) -> io::Result<()> {
        self.change();
        if self.broken.contains(path) {
            return Err(io::Error::from_raw_os_error(22));
        }
        if !self.path(path).exists() && !path.ends_with("/unbind") && !path.ends_with("/bind") {
            return Err(io::ErrorKind::NotFound.into());
        }
        let value = text.trim();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["sys", "bus", "pci", "drivers_probe"] => self.probe(value),
            ["sys", "bus", "pci", "devices", address, "driver", "unbind"] => {
                assert_eq!(*address, value);
                if self.driver(address).is_empty() {
                    return Err(io::ErrorKind::NotFound.into());
                }
                self.unbound(value);
            }
            ["sys", "bus", "pci", "drivers", driver, "bind"] => {
                if !self.driver(value).is_empty() {
                    return Err(io::Error::from_raw_os_error(16));
                }
                self.bound(value, driver);
            }
            ["sys", "bus", "pci", "devices", _, "driver_override"] => {
                self.put(path, if value.is_empty() { "(null)" } else { value });
            }
            [.., node, "hugepages", _, "nr_hugepages"] => {
                let node: i32 = node.strip_prefix("node").unwrap().parse().unwrap();
                let wanted: u64 = value.parse().unwrap();
                let got = wanted.min(self.room.get(&node).copied().unwrap_or(u64::MAX));
                let pool = self.pool(node);
                let free: u64 = self
                    .text(&format!("{pool}/free_hugepages"))
                    .parse()
                    .unwrap();
                let used = self.pages(node) - free;
                self.set_pages(node, got.max(used), got.max(used) - used);
            }
            ["proc", "sys", "vm", "compact_memory"] => {}
            ["sys", "bus", "pci", "devices", _, "reset"] => self.put(path, value),
            _ => panic!("{path} = {text}: nothing should write to that"),
        }
        Ok(())
    }

    fn load_module(&mut self, name: &str) -> io::Result<()> {
        self.change();
        if !self.modules.contains(name) {
            return Err(io::Error::other(format!("FATAL: Module {name} not found")));
        }
        self.folder(&format!("/sys/bus/pci/drivers/{name}"));
        Ok(())
    }

    fn owner(&self, path: &str) -> io::Result<Owner> {
        fs::metadata(self.path(path))?;
        Ok(self.owners.get(path).copied().unwrap_or(Owner {
            uid: 0,
            gid: 0,
            mode: 0o600,
        }))
    }

    fn set_owner(&mut self, path: &str, owner: Owner) -> io::Result<()> {
        self.change();
        fs::metadata(self.path(path))?;
        self.owners.insert(path.to_owned(), owner);
        Ok(())
    }

    fn mount_hugetlbfs(&mut self, at: &str) -> io::Result<()> {
        self.change();
        assert_eq!(at, "/dev/hugepages");
        self.hugetlbfs();
        Ok(())
    }

    fn unmount(&mut self, at: &str) -> io::Result<()> {
        self.change();
        let text = self.text("/proc/self/mountinfo");
        let kept: Vec<&str> = text
            .lines()
            .filter(|l| !l.contains(&format!(" {at} ")))
            .collect();
        self.put("/proc/self/mountinfo", &kept.join("\n"));
        self.owners.remove(at);
        Ok(())
    }

    fn save(&mut self, path: &str, _mode: u32, text: &str) -> io::Result<()> {
        self.change();
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap())?;
        fs::write(path, text)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.change();
        match fs::remove_file(self.path(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn open_exclusive(&self, node: &str) -> io::Result<File> {
        if self.busy.contains(node) {
            return Err(io::Error::from_raw_os_error(16));
        }
        File::open(self.path(node))
    }
}

/// The device of a report.
pub(crate) fn device<'a>(report: &'a PrepareReport, address: &str) -> &'a PreparedDevice {
    report
        .devices
        .iter()
        .find(|d| d.address == address)
        .unwrap()
}

pub(crate) fn request() -> PrepareRequest {
    PrepareRequest::default()
}
