//! What has to be done, without doing it.

mod back;

pub use back::release;

use crate::address::{PciAddress, near_miss};
use crate::controller::{Controller, USER_DRIVERS};
use crate::snapshot::{Seen, Snapshot, Target};
use crate::step::Step;
use crate::system::Owner;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{PrepareFault, PrepareState};
use daos_plugin_api::sdk::Error;

/// Where a hugetlbfs is mounted if there is none.
const HUGETLBFS: &str = "/dev/hugepages";

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Only these; empty = all.
    pub devices: Vec<PciAddress>,
    /// Never these.
    pub exclude: Vec<PciAddress>,
    /// Huge pages in all; `None` = as they are.
    pub pages: Option<u64>,
    /// For whom.
    pub user: Target,
}

/// What becomes of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// State at the end.
    pub state: PrepareState,
    /// Driver at the end.
    pub driver: Option<String>,
    /// Why it is left alone.
    pub reason: String,
}

/// What has to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Of each controller of the snapshot, in its order.
    pub fates: Vec<Fate>,
    /// What cannot be done.
    pub faults: Vec<PrepareFault>,
    /// Remarks.
    pub notes: Vec<String>,
    /// Everything will be as it was found; what has no step is so already.
    pub undoes_all: bool,
}

/// Refuses a wish that names what is not there, before anything is touched.
///
/// # Errors
/// The first contradiction, or address without a controller, with the one that was probably meant.
pub fn check(snapshot: &Snapshot, wish: &Wish) -> Result<(), Error> {
    if let Some(both) = wish.devices.iter().find(|a| wish.exclude.contains(a)) {
        let what = format!("{both} is both included and excluded");
        return Err(Error::new(Status::INVALID, what).remedy("remove it from one of the lists"));
    }
    let known: Vec<PciAddress> = snapshot
        .controllers
        .iter()
        .map(|seen| seen.controller.address)
        .collect();
    let Some(unknown) = wish.devices.iter().find(|a| !known.contains(a)) else {
        return Ok(());
    };
    let error = Error::new(
        Status::NOT_FOUND,
        format!("there is no NVMe controller at {unknown}"),
    );
    let all: Vec<String> = known.iter().map(ToString::to_string).collect();
    Err(match near_miss(*unknown, &known) {
        Some(near) => error.remedy(format!("did you mean {near}?")),
        None if all.is_empty() => error.remedy("this machine has no NVMe controller at all"),
        None => error.remedy(format!(
            "the controllers of this machine are {}",
            all.join(", ")
        )),
    })
}

/// Why a controller is not even looked at.
fn left_out(wish: &Wish, address: PciAddress) -> Option<&'static str> {
    if wish.exclude.contains(&address) {
        return Some("excluded");
    }
    (!wish.devices.is_empty() && !wish.devices.contains(&address)).then_some("not asked for")
}

fn fault(address: PciAddress, what: String, cause: String, remedy: &str) -> PrepareFault {
    PrepareFault {
        address: address.to_string(),
        what,
        cause,
        remedy: remedy.to_owned(),
    }
}

/// How a controller is found.
fn as_is(controller: &Controller, reason: &str) -> Fate {
    let state = match &controller.driver {
        _ if !reason.is_empty() => PrepareState::Skipped,
        None => PrepareState::Unbound,
        Some(_) if controller.is_for_user_space() => PrepareState::Ready,
        Some(_) => PrepareState::Kernel,
    };
    Fate {
        state,
        driver: controller.driver.clone(),
        reason: reason.to_owned(),
    }
}

/// How things are, as a plan that changes nothing.
pub fn status(snapshot: &Snapshot) -> Plan {
    let fate = |seen: &Seen| as_is(&seen.controller, "");
    Plan {
        fates: snapshot.controllers.iter().map(fate).collect(),
        ..Plan::default()
    }
}

/// The plan of a preparation.
pub fn prepare(snapshot: &Snapshot, wish: &Wish) -> Plan {
    let mut plan = Plan::default();
    let mut binds = Vec::new();
    let mut owns = Vec::new();
    let user = &wish.user;
    for seen in &snapshot.controllers {
        let controller = &seen.controller;
        let fate = match to_bind(snapshot, wish, seen) {
            Err(refused) => {
                // What is skipped without having been asked for is no failure.
                let named = wish.devices.contains(&controller.address);
                if refused.fails || named && !refused.reason.is_empty() {
                    let what = format!("{} is not prepared", controller.address);
                    let reason = refused.reason.clone();
                    plan.faults
                        .push(fault(controller.address, what, reason, refused.remedy));
                }
                as_is(controller, &refused.reason)
            }
            Ok(driver) => {
                let bound = controller.driver.as_deref() == Some(driver);
                if !bound {
                    let load = Step::Load {
                        name: driver.to_owned(),
                    };
                    if !binds.contains(&load) {
                        binds.push(load);
                    }
                    binds.push(Step::Bind {
                        address: controller.address,
                        from: controller.driver.clone(),
                        to: driver.to_owned(),
                    });
                }
                if let Some(group) = controller.iommu_group {
                    owns.push(Step::Own {
                        path: format!("/dev/vfio/{group}"),
                        owner: Owner {
                            uid: user.uid,
                            gid: user.gid,
                            mode: 0o600,
                        },
                    });
                }
                Fate {
                    state: PrepareState::Ready,
                    driver: Some(driver.to_owned()),
                    reason: String::new(),
                }
            }
        };
        plan.fates.push(fate);
    }
    let stale = snapshot.stale.iter().map(|file| Step::RemoveStale {
        path: file.path.clone(),
    });
    plan.steps.extend(stale);
    let ready = plan.fates.iter().any(|f| f.state == PrepareState::Ready);
    if !ready && !wish.devices.is_empty() {
        // Nothing of what was asked for can be had, so nothing needs to be ready for it.
        return plan;
    }
    raise_pools(snapshot, wish, &mut plan);
    plan.steps.extend(binds);
    plan.steps.extend(owns);
    give_limits(snapshot, user, &mut plan);
    if snapshot.controllers.is_empty() {
        plan.notes
            .push("this machine has no NVMe controller".to_owned());
    }
    if !user.is_root()
        && snapshot
            .controllers
            .iter()
            .zip(&plan.fates)
            .any(|(seen, fate)| {
                fate.state == PrepareState::Ready && seen.controller.iommu_group.is_none()
            })
    {
        plan.notes.push(format!(
            "without an IOMMU only root can use these devices, not {}: switch the IOMMU on in the firmware \
             (VT-d, AMD-Vi) and with the kernel parameter intel_iommu=on, then prepare again",
            user.name
        ));
    }
    plan
}

/// Why a controller is not bound.
struct Refused {
    reason: String,
    remedy: &'static str,
    /// Also a failure when the device was not named.
    fails: bool,
}

/// Driver for a controller, which it may have already.
fn to_bind<'a>(snapshot: &'a Snapshot, wish: &Wish, seen: &Seen) -> Result<&'a str, Refused> {
    let controller = &seen.controller;
    let skip = |reason: &str, remedy| Refused {
        reason: reason.to_owned(),
        remedy,
        fails: false,
    };
    if let Some(reason) = left_out(wish, controller.address) {
        return Err(skip(reason, ""));
    }
    let Some(driver) = snapshot.driver_for(controller) else {
        let (reason, remedy) = match controller.iommu_group {
            Some(_) => (
                "the kernel has no vfio-pci",
                "install the kernel's module package",
            ),
            None => (
                "without an IOMMU it needs uio_pci_generic or igb_uio, and the kernel has neither",
                "switch the IOMMU on (firmware: VT-d or AMD-Vi; kernel parameter intel_iommu=on), or install \
                 the kernel's module package",
            ),
        };
        return Err(Refused {
            fails: true,
            ..skip(reason, remedy)
        });
    };
    if controller.driver.as_deref() == Some(driver) {
        return Ok(driver);
    }
    if !seen.in_use.is_empty() {
        let reason = seen.in_use.join("; ");
        return Err(skip(&reason, "end its use, then prepare again"));
    }
    let taken =
        |seen: &&Seen| seen.in_use.is_empty() && left_out(wish, seen.controller.address).is_none();
    let foreign = controller.peers.iter().find(|peer| {
        let of_kernel = peer
            .driver
            .as_deref()
            .is_some_and(|d| !USER_DRIVERS.contains(&d) && d != "pci-stub");
        let comes_too = snapshot
            .controllers
            .iter()
            .filter(taken)
            .any(|seen| seen.controller.address.to_string() == peer.address);
        of_kernel && !peer.bridge && !comes_too
    });
    match foreign {
        Some(peer) => Err(skip(
            &format!(
                "its IOMMU group also holds {} ({}), which the kernel uses",
                peer.address,
                peer.driver.as_deref().unwrap_or_default()
            ),
            "put the device into another slot, or unbind the other one",
        )),
        None => Ok(driver),
    }
}

fn raise_pools(snapshot: &Snapshot, wish: &Wish, plan: &mut Plan) {
    let Some(wanted) = wish.pages else {
        return;
    };
    let pools = &snapshot.pools;
    if pools.pools.is_empty() {
        plan.faults.push(PrepareFault {
            address: String::new(),
            what: "there are no huge pages".to_owned(),
            cause: "the kernel was built without them".to_owned(),
            remedy: "use a kernel with CONFIG_HUGETLBFS".to_owned(),
        });
        return;
    }
    for (pool, to) in pools.pools.iter().zip(pools.targets(wanted)) {
        if to > pool.total {
            plan.steps.push(Step::Pages {
                node: pool.node,
                file: pool.file(),
                from: pool.total,
                to,
            });
        }
    }
    let user = &wish.user;
    let (path, now) = match snapshot.mounts.first() {
        Some((mount, owner)) => (mount.path.clone(), *owner),
        None => {
            plan.steps.push(Step::Mount {
                path: HUGETLBFS.to_owned(),
            });
            (HUGETLBFS.to_owned(), None)
        }
    };
    let mode = now.map_or(0o755, |owner| owner.mode | 0o700);
    let owner = Owner {
        uid: user.uid,
        gid: user.gid,
        mode,
    };
    // A folder that root has is as good for root with any group.
    let fits = now.is_some_and(|now| now == owner || user.is_root() && now.uid == 0);
    if !fits && (now.is_some() || !user.is_root()) {
        plan.steps.push(Step::Own { path, owner });
    }
}

fn give_limits(snapshot: &Snapshot, user: &Target, plan: &mut Plan) {
    if user.is_root() || !snapshot.has_limits {
        return;
    }
    if let Some((path, text)) = user.limits() {
        plan.steps.push(Step::Limits { path, text });
    }
}
