//! NVMe controllers as the kernel lists them, and what its own driver knows of those that it drives. Reads
//! sysfs and /proc only.

use daos_plugin_api::sdk::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Mass storage, non-volatile memory, NVMe.
const NVME_CLASS: &str = "0x010802";

/// Where the kernel's views are mounted; tests have their own.
pub(crate) struct Machine {
    sys: PathBuf,
    proc: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
        }
    }
}

/// A controller on the PCI bus.
pub(crate) struct Function {
    pub(crate) address: String,
    /// Kernel driver that holds it.
    pub(crate) driver: Option<String>,
    pub(crate) numa_node: i32,
    /// Vendor and device, "8086:0a54".
    pub(crate) id: String,
    path: PathBuf,
}

/// What the kernel's driver tells of a controller.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Identity {
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) firmware: String,
    pub(crate) namespaces: Vec<Namespace>,
}

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Namespace {
    pub(crate) id: u32,
    pub(crate) bytes: u64,
    pub(crate) block_size: u32,
    /// Bytes of metadata per block.
    pub(crate) metadata: u32,
}

impl Machine {
    /// All NVMe controllers, by address.
    pub(crate) fn functions(&self) -> Result<Vec<Function>> {
        let devices = self.sys.join("bus/pci/devices");
        let entries = match fs::read_dir(&devices) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Error::io(
                    format!("cannot list {}", devices.display()),
                    error,
                ));
            }
        };
        let mut found: Vec<Function> = entries
            .flatten()
            .filter_map(|entry| Function::read(&entry.path()))
            .collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(found)
    }

    /// The controller at an address in normal form, if there is one.
    pub(crate) fn function(&self, address: &str) -> Option<Function> {
        Function::read(&self.sys.join("bus/pci/devices").join(address))
    }

    /// Other processes that hold a controller through vfio or uio, as `pid 12 (name)`. Only those into which
    /// this process may look are found, which for root is all.
    pub(crate) fn holders(&self, function: &Function) -> Vec<String> {
        let nodes = function.nodes();
        let own = std::process::id();
        let Ok(processes) = fs::read_dir(&self.proc) else {
            return Vec::new();
        };
        processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != own)
            .filter(|pid| {
                let Ok(open) = fs::read_dir(self.proc.join(format!("{pid}/fd"))) else {
                    return false;
                };
                open.flatten()
                    .filter_map(|entry| fs::read_link(entry.path()).ok())
                    .any(|target| nodes.contains(&target))
            })
            .map(|pid| {
                let name =
                    fs::read_to_string(self.proc.join(format!("{pid}/comm"))).unwrap_or_default();
                format!("pid {pid} ({})", name.trim_end())
            })
            .collect()
    }

    /// Why this plugin cannot have a controller now; `None` if it can.
    pub(crate) fn in_use(&self, function: &Function) -> Option<String> {
        if !function.is_ours() {
            return Some(match &function.driver {
                Some(driver) => format!("bound to the kernel driver {driver}"),
                None => "bound to no driver".to_owned(),
            });
        }
        let holders = self.holders(function);
        (!holders.is_empty()).then(|| format!("held by {}", holders.join(", ")))
    }
}

impl Function {
    fn read(path: &Path) -> Option<Self> {
        if text(path, "class")? != NVME_CLASS {
            return None;
        }
        let id = |name| Some(text(path, name)?.trim_start_matches("0x").to_owned());
        Some(Self {
            address: path.file_name()?.to_str()?.to_owned(),
            driver: link_name(path, "driver"),
            numa_node: text(path, "numa_node")
                .and_then(|node| node.parse().ok())
                .unwrap_or(-1),
            id: format!(
                "{}:{}",
                id("vendor").unwrap_or_default(),
                id("device").unwrap_or_default()
            ),
            path: path.to_owned(),
        })
    }

    /// Whether a user-space driver can take it as it is.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(
            self.driver.as_deref(),
            Some("vfio-pci" | "uio_pci_generic" | "igb_uio")
        )
    }

    /// Device nodes through which a process drives it.
    fn nodes(&self) -> Vec<PathBuf> {
        let group =
            link_name(&self.path, "iommu_group").map(|group| Path::new("/dev/vfio").join(group));
        let uio = fs::read_dir(self.path.join("uio")).into_iter().flatten();
        group
            .into_iter()
            .chain(
                uio.flatten()
                    .map(|entry| Path::new("/dev").join(entry.file_name())),
            )
            .collect()
    }

    /// What the kernel's driver knows; `None` unless it drives this controller.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let controllers = fs::read_dir(self.path.join("nvme")).ok()?;
        let controller = controllers.flatten().next()?.path();
        let mut namespaces: Vec<Namespace> = fs::read_dir(&controller)
            .ok()?
            .flatten()
            .filter_map(|entry| namespace(&entry.path()))
            .collect();
        namespaces.sort_by_key(|namespace| namespace.id);
        let field = |name| text(&controller, name).unwrap_or_default();
        Some(Identity {
            model: field("model"),
            serial: field("serial"),
            firmware: field("firmware_rev"),
            namespaces,
        })
    }
}

/// A namespace's folder below its controller's: "nvme0n1", or "nvme0c0n1" where paths are joined.
fn namespace(path: &Path) -> Option<Namespace> {
    let name = path.file_name()?.to_str()?.strip_prefix("nvme")?;
    let id = name.rsplit_once('n')?.1.parse().ok()?;
    let sectors: u64 = text(path, "size")?.parse().ok()?;
    Some(Namespace {
        // The number in the name counts namespaces, the file has the one that the controller uses.
        id: text(path, "nsid")
            .and_then(|id| id.parse().ok())
            .unwrap_or(id),
        bytes: sectors * 512,
        block_size: text(path, "queue/logical_block_size")?.parse().ok()?,
        metadata: text(path, "metadata_bytes")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0),
    })
}

fn text(folder: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    Some(text.trim().to_owned())
}

fn link_name(folder: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(folder.join(name)).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn put(path: &Path, name: &str, text: &str) {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("{text}\n")).unwrap();
    }

    fn machine(root: &Path) -> Machine {
        let devices = root.join("sys/bus/pci/devices");
        for (address, class, driver) in [
            ("0000:41:00.0", "0x010802", Some("nvme")),
            ("0000:42:00.0", "0x010802", Some("vfio-pci")),
            ("0000:43:00.0", "0x010802", None),
            ("0000:00:02.0", "0x020000", Some("e1000")),
        ] {
            let device = devices.join(address);
            put(&device, "class", class);
            put(&device, "vendor", "0x1b36");
            put(&device, "device", "0x0010");
            put(&device, "numa_node", "1");
            if let Some(driver) = driver {
                symlink(
                    format!("../../../bus/pci/drivers/{driver}"),
                    device.join("driver"),
                )
                .unwrap();
            }
        }
        symlink(
            "../../../kernel/iommu_groups/7",
            devices.join("0000:42:00.0/iommu_group"),
        )
        .unwrap();
        let nvme = devices.join("0000:41:00.0/nvme/nvme3");
        put(&nvme, "model", "Some Model   ");
        put(&nvme, "serial", "S1");
        put(&nvme, "firmware_rev", "1.0");
        for (name, id, block) in [("nvme3n1", "1", "4096"), ("nvme3c3n2", "5", "512")] {
            put(&nvme.join(name), "size", "2048");
            put(&nvme.join(name), "nsid", id);
            put(&nvme.join(name), "queue/logical_block_size", block);
        }
        put(&nvme, "hwmon1/name", "nvme");
        Machine {
            sys: root.join("sys"),
            proc: root.join("proc"),
        }
    }

    #[test]
    fn controllers_are_found_with_their_drivers() {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(root.path());
        let found = machine.functions().unwrap();
        let addresses: Vec<&str> = found.iter().map(|f| f.address.as_str()).collect();
        assert_eq!(addresses, ["0000:41:00.0", "0000:42:00.0", "0000:43:00.0"]);
        assert_eq!((found[0].numa_node, found[0].id.as_str()), (1, "1b36:0010"));
        let reasons: Vec<Option<String>> = found.iter().map(|f| machine.in_use(f)).collect();
        assert_eq!(
            reasons[0].as_deref(),
            Some("bound to the kernel driver nvme")
        );
        assert_eq!(reasons[1], None);
        assert_eq!(reasons[2].as_deref(), Some("bound to no driver"));
        assert!(machine.function("0000:00:02.0").is_none());
        assert!(machine.function("0000:99:00.0").is_none());
    }

    #[test]
    fn the_kernels_driver_is_asked_for_what_it_drives() {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(root.path());
        let identity = machine
            .function("0000:41:00.0")
            .unwrap()
            .identity()
            .unwrap();
        assert_eq!(identity.model, "Some Model");
        assert_eq!(
            identity.namespaces,
            [(1, 4096), (5, 512)].map(|(id, block_size)| Namespace {
                id,
                bytes: 1 << 20,
                block_size,
                metadata: 0
            })
        );
        assert_eq!(machine.function("0000:42:00.0").unwrap().identity(), None);
    }

    #[test]
    fn whoever_has_the_group_open_is_named() {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(root.path());
        for (pid, name, target) in [
            (71, "daos_io_server", "/dev/vfio/7"),
            (72, "qemu", "/dev/vfio/8"),
        ] {
            put(&root.path().join(format!("proc/{pid}")), "comm", name);
            let open = root.path().join(format!("proc/{pid}/fd"));
            fs::create_dir_all(&open).unwrap();
            symlink(target, open.join("3")).unwrap();
        }
        let function = machine.function("0000:42:00.0").unwrap();
        assert_eq!(
            machine.in_use(&function).as_deref(),
            Some("held by pid 71 (daos_io_server)")
        );
    }
}
