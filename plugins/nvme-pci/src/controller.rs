//! NVMe controllers on the PCI bus, as sysfs shows them.

use crate::address::PciAddress;
use crate::tree::Tree;

/// PCI class of NVMe controllers: mass storage, non-volatile memory, NVM Express.
const NVME_CLASS: &str = "0x010802";
/// Where sysfs lists PCI functions.
pub(crate) const DEVICES: &str = "/sys/bus/pci/devices";
/// Sectors of sysfs, whatever a namespace's blocks are.
const SECTOR: u64 = 512;

/// Kernel drivers that hand a device to user space.
pub const USER_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// A namespace of a controller that the kernel drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Kernel name, `nvme0n1`.
    pub name: String,
    /// Identifier.
    pub id: u32,
    /// Bytes.
    pub size: u64,
    /// Bytes of a block.
    pub block_size: u32,
}

/// Another function of a controller's IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, in the kernel's spelling.
    pub address: String,
    /// Its driver.
    pub driver: Option<String>,
    /// A bridge, which may keep its driver.
    pub bridge: bool,
}

/// An NVMe controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor and device number, `8086:0a54`.
    pub id: String,
    /// Driver that it is bound to.
    pub driver: Option<String>,
    /// Driver that it may be bound to only; empty = any that fits.
    pub driver_override: String,
    /// NUMA node; -1 = unknown.
    pub numa_node: i32,
    /// IOMMU group, where there is an IOMMU.
    pub iommu_group: Option<u32>,
    /// The other functions of that group.
    pub peers: Vec<Peer>,
    /// Model; empty unless the kernel drives it.
    pub model: String,
    /// Serial number; empty unless the kernel drives it.
    pub serial: String,
    /// Firmware revision; empty unless the kernel drives it.
    pub firmware: String,
    /// Namespaces; none unless the kernel drives it.
    pub namespaces: Vec<Namespace>,
}

impl Controller {
    /// All NVMe controllers, by address.
    pub fn all(tree: &Tree) -> Vec<Self> {
        let names = tree.names(DEVICES);
        let mut all: Vec<Self> = names
            .iter()
            .filter_map(|name| Self::read(tree, name.parse().ok()?))
            .collect();
        all.sort_by_key(|one| one.address);
        all
    }

    /// The controller at `address`; `None` if there is nothing, or something else.
    pub fn read(tree: &Tree, address: PciAddress) -> Option<Self> {
        let dir = format!("{DEVICES}/{address}");
        let text = |name: &str| tree.text(&format!("{dir}/{name}"));
        if text("class")? != NVME_CLASS {
            return None;
        }
        let number = |name| text(name).unwrap_or_default().replace("0x", "");
        let group = tree.link_name(&format!("{dir}/iommu_group"));
        let kernel_name = tree
            .names(&format!("{dir}/nvme"))
            .into_iter()
            .find(|name| name.starts_with("nvme"));
        let of_kernel = |attribute: &str| {
            let name = kernel_name.as_ref()?;
            // What the kernel's driver has not asked the device yet reads as "(efault)".
            text(&format!("nvme/{name}/{attribute}")).filter(|text| text != "(efault)")
        };
        Some(Self {
            address,
            id: format!("{}:{}", number("vendor"), number("device")),
            driver: tree.link_name(&format!("{dir}/driver")),
            driver_override: text("driver_override")
                .filter(|text| text != "(null)")
                .unwrap_or_default(),
            numa_node: tree.number(&format!("{dir}/numa_node")).unwrap_or(-1),
            iommu_group: group.and_then(|group| group.parse().ok()),
            peers: peers(tree, &dir, address),
            model: of_kernel("model").unwrap_or_default(),
            serial: of_kernel("serial").unwrap_or_default(),
            firmware: of_kernel("firmware_rev").unwrap_or_default(),
            namespaces: kernel_name
                .map(|name| namespaces(tree, &dir, &name))
                .unwrap_or_default(),
        })
    }

    /// Whether a user-space driver can take it as it is bound now.
    pub fn is_for_user_space(&self) -> bool {
        self.driver
            .as_deref()
            .is_some_and(|driver| USER_DRIVERS.contains(&driver))
    }

    /// Model, or the numbers where it is not known.
    pub fn title(&self) -> String {
        match self.model.as_str() {
            "" => self.id.clone(),
            model => model.to_owned(),
        }
    }

    /// Bytes of all namespaces that the kernel shows.
    pub fn size(&self) -> u64 {
        self.namespaces.iter().map(|one| one.size).sum()
    }
}

fn peers(tree: &Tree, dir: &str, address: PciAddress) -> Vec<Peer> {
    let own = address.to_string();
    let names = tree.names(&format!("{dir}/iommu_group/devices"));
    let other = names.into_iter().filter(|name| *name != own);
    other
        .map(|name| Peer {
            driver: tree.link_name(&format!("{DEVICES}/{name}/driver")),
            bridge: tree
                .text(&format!("{DEVICES}/{name}/class"))
                .is_some_and(|class| class.starts_with("0x06")),
            address: name,
        })
        .collect()
}

/// Namespaces below the controller, or, where several paths lead to them, below its subsystem.
fn namespaces(tree: &Tree, dir: &str, kernel_name: &str) -> Vec<Namespace> {
    let mut places = vec![format!("{dir}/nvme/{kernel_name}")];
    let subsystems = "/sys/class/nvme-subsystem";
    for subsystem in tree.names(subsystems) {
        let place = format!("{subsystems}/{subsystem}");
        if tree.exists(&format!("{place}/{kernel_name}")) {
            places.push(place);
        }
    }
    let mut found = Vec::new();
    for place in places {
        for name in tree.names(&place) {
            if let Some(id) = namespace_number(&name) {
                let at = |attribute: &str| format!("{place}/{name}/{attribute}");
                let sectors: u64 = tree.number(&at("size")).unwrap_or(0);
                found.push(Namespace {
                    id: tree.number(&at("nsid")).unwrap_or(id),
                    size: sectors.saturating_mul(SECTOR),
                    block_size: tree.number(&at("queue/logical_block_size")).unwrap_or(512),
                    name,
                });
            }
        }
    }
    found.sort_by_key(|one: &Namespace| one.id);
    found
}

/// The last number of `nvme0n1`; other names, such as those of single paths (`nvme0c0n1`), have none.
fn namespace_number(name: &str) -> Option<u32> {
    let (controller, number) = name.strip_prefix("nvme")?.split_once('n')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(controller) && digits(number))
        .then(|| number.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::namespace_number;

    #[test]
    fn only_whole_namespaces_count() {
        assert_eq!(namespace_number("nvme0n1"), Some(1));
        assert_eq!(namespace_number("nvme10n23"), Some(23));
        for other in [
            "nvme0",
            "nvme0c0n1",
            "nvme0n1p1",
            "ng0n1",
            "nvmen1",
            "hwmon1",
            "nvme0n",
        ] {
            assert_eq!(namespace_number(other), None, "{other}");
        }
    }
}
