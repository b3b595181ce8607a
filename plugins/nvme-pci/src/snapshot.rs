//! How things are, all that a plan needs to know.

use crate::controller::Controller;
use crate::hugefiles::{self, HugeMount, StaleFile};
use crate::hugepages::Pools;
use crate::processes::{Process, Processes};
use crate::state::State;
use crate::system::{Owner, System};
use crate::tree::Tree;
use crate::usage;
use std::io;

/// Folder for limits of users, where PAM is in use.
const LIMITS: &str = "/etc/security/limits.d";

/// The user that shall be able to use the devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name.
    pub name: String,
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
}

impl Target {
    /// Root needs neither permissions nor limits.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// File with the user's limit of locked memory, and its text; `None` for names that would not make
    /// a file name, or a line of that file.
    pub fn limits(&self) -> Option<(String, String)> {
        let name = &self.name;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (name.bytes().all(plain) && !name.starts_with('-') && !name.is_empty()).then(|| {
            (
                format!("{LIMITS}/90-daos-{name}.conf"),
                format!(
                    "# DMA memory of {name}'s storage engines is locked in memory.\n\
                     # Made by `daos_server storage prepare`; `--reset` removes it.\n\
                     {name} - memlock unlimited\n"
                ),
            )
        })
    }
}

/// A controller with those who use it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The controller.
    pub controller: Controller,
    /// Reasons to leave it alone.
    pub in_use: Vec<String>,
}

/// How things are.
#[derive(Debug)]
pub struct Snapshot {
    /// NVMe controllers, by address.
    pub controllers: Vec<Seen>,
    /// Pools of huge pages.
    pub pools: Pools,
    /// Mounts of hugetlbfs with pages of the default size.
    pub mounts: Vec<(HugeMount, Option<Owner>)>,
    /// Files that nobody uses.
    pub stale: Vec<StaleFile>,
    /// Number of IOMMU groups; 0 = no IOMMU, or it is off.
    pub iommu_groups: usize,
    /// Drivers for user space that are loaded, or can be.
    pub drivers: Vec<String>,
    /// What an earlier preparation left to remember.
    pub state: State,
    /// PAM limits are in use.
    pub has_limits: bool,
    /// Every process could be looked into.
    pub sees_all: bool,
    /// Processes that have huge pages mapped.
    pub page_users: Vec<Process>,
}

impl Snapshot {
    /// Looks at everything; `state_dir` may be empty.
    ///
    /// # Errors
    /// The state file is there and cannot be used.
    pub fn take(system: &dyn System, state_dir: &str) -> io::Result<Self> {
        let tree = system.tree();
        let processes = Processes::read(tree);
        let pools = Pools::read(tree);
        let mounts = hugefiles::mounts(tree, pools.page_kib);
        let seen = |controller: Controller| Seen {
            in_use: usage::reasons(system, &controller, &processes),
            controller,
        };
        let mut page_users: Vec<Process> = mounts
            .iter()
            .flat_map(|mount| processes.users_below(&format!("{}/", mount.path)))
            .chain(processes.users_below("/anon_hugepage"))
            .collect();
        page_users.sort();
        page_users.dedup();
        Ok(Self {
            controllers: Controller::all(tree).into_iter().map(seen).collect(),
            stale: hugefiles::stale(tree, &mounts, &processes),
            mounts: mounts
                .into_iter()
                .map(|mount| {
                    let owner = system.owner(&mount.path).ok();
                    (mount, owner)
                })
                .collect(),
            pools,
            iommu_groups: tree.names("/sys/kernel/iommu_groups").len(),
            drivers: crate::controller::USER_DRIVERS
                .into_iter()
                .filter(|name| has_driver(tree, name))
                .map(str::to_owned)
                .collect(),
            state: match state_dir {
                "" => State::default(),
                dir => State::read(tree, dir)?,
            },
            has_limits: tree.exists("/etc/security"),
            sees_all: processes.is_complete(),
            page_users,
        })
    }

    /// Driver for a controller in user space: vfio-pci behind an IOMMU, else one that does without.
    /// `None` if the kernel has none.
    pub fn driver_for(&self, controller: &Controller) -> Option<&str> {
        let fits =
            |name: &&String| (name.as_str() == "vfio-pci") == controller.iommu_group.is_some();
        self.drivers.iter().find(fits).map(String::as_str)
    }
}

/// Whether a driver is loaded or among the kernel's modules.
fn has_driver(tree: &Tree, name: &str) -> bool {
    if tree.exists(&format!("/sys/bus/pci/drivers/{name}")) {
        return true;
    }
    let Some(release) = tree.text("/proc/sys/kernel/osrelease") else {
        return false;
    };
    let file = format!("/{name}.ko");
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        tree.text(&format!("/lib/modules/{release}/{list}"))
            .is_some_and(|text| {
                let files = text.lines().filter_map(|line| line.split(':').next());
                files.into_iter().any(|path| {
                    path.rsplit_once(".ko")
                        .is_some_and(|(stem, _)| format!("/{stem}.ko").ends_with(&file))
                })
            })
    })
}
