//! What has to be right for devices to be usable, with what mends it.

use crate::snapshot::{Snapshot, Target};
use crate::system::{Owner, System};
use daos_plugin_api::control::PrepareCheck;

/// Looks at the machine for the target user.
pub(crate) fn all(system: &dyn System, snapshot: &Snapshot, user: &Target) -> Vec<PrepareCheck> {
    let mut checks = vec![iommu(system, snapshot), driver(snapshot)];
    checks.extend(pages(snapshot));
    checks.push(hugetlbfs(snapshot, user));
    checks.push(memlock(system, snapshot, user));
    checks.extend(groups(system, snapshot, user));
    checks
}

fn check(what: &str, ok: bool, found: impl Into<String>, remedy: &str) -> PrepareCheck {
    PrepareCheck {
        what: what.to_owned(),
        ok,
        found: found.into(),
        remedy: if ok { String::new() } else { remedy.to_owned() },
    }
}

fn iommu(system: &dyn System, snapshot: &Snapshot) -> PrepareCheck {
    let units = system.tree().names("/sys/class/iommu").join(", ");
    let found = match snapshot.iommu_groups {
        0 => "none, or switched off".to_owned(),
        groups if units.is_empty() => format!("{groups} groups"),
        groups => format!("{groups} groups ({units})"),
    };
    check(
        "IOMMU",
        snapshot.iommu_groups > 0,
        found,
        "switch on VT-d or AMD-Vi in the firmware, add the kernel parameter intel_iommu=on (Intel), and reboot; \
         without it only root can use NVMe devices, through uio_pci_generic",
    )
}

fn driver(snapshot: &Snapshot) -> PrepareCheck {
    let wanted: &[&str] = match snapshot.iommu_groups {
        0 => &["uio_pci_generic", "igb_uio"],
        _ => &["vfio-pci"],
    };
    let have = |name: &&&str| snapshot.drivers.iter().any(|d| d == **name);
    let found = wanted.iter().find(have);
    check(
        "driver for user space",
        found.is_some(),
        found.map_or_else(
            || format!("no {}", wanted.join(", no ")),
            |d| (*d).to_owned(),
        ),
        "install the package with the kernel's modules",
    )
}

fn pages(snapshot: &Snapshot) -> Option<PrepareCheck> {
    let pools = &snapshot.pools;
    let found: Vec<String> = pools
        .pools
        .iter()
        .map(|pool| format!("{} on {} ({} free)", pool.total, pool.place(), pool.free))
        .collect();
    let found = match pools.page_kib {
        0 => "the kernel has none".to_owned(),
        size => format!("of {size} KiB: {}", found.join(", ")),
    };
    Some(check(
        "huge pages",
        pools.total() > 0,
        found,
        "run `daos_server storage prepare -n -p NUMBER` as root",
    ))
}

fn hugetlbfs(snapshot: &Snapshot, user: &Target) -> PrepareCheck {
    let remedy = "run `daos_server storage prepare -n -u USER` as root";
    let Some((mount, owner)) = snapshot.mounts.first() else {
        return check("hugetlbfs", false, "not mounted", remedy);
    };
    let usable = owner.is_none_or(|owner| may_use(user, owner, 0o7));
    let path = &mount.path;
    let found = match usable {
        true => format!("{path}, usable by {}", user.name),
        false => format!("{path}, not writable by {}", user.name),
    };
    check("hugetlbfs", usable, found, remedy)
}

/// Whether the user has all of the permissions, as the owner, in its main group, or as anybody.
fn may_use(user: &Target, owner: Owner, wanted: u32) -> bool {
    let shift = match () {
        () if user.is_root() => return true,
        () if owner.uid == user.uid => 6,
        () if owner.gid == user.gid => 3,
        () => 0,
    };
    owner.mode >> shift & wanted == wanted
}

fn memlock(system: &dyn System, snapshot: &Snapshot, user: &Target) -> PrepareCheck {
    let what = format!("locked memory of {}", user.name);
    if user.is_root() {
        return check(&what, true, "no limit for root", "");
    }
    let own = nix::unistd::getuid().as_raw() == user.uid;
    let limit = own
        .then(|| own_limit(&system.tree().text("/proc/self/limits")?))
        .flatten();
    if limit.as_deref() == Some("unlimited") {
        return check(&what, true, "unlimited", "");
    }
    if let Some((path, text)) = user.limits()
        && snapshot.has_limits
        && system.tree().text(&path).as_deref() == Some(text.trim())
    {
        return check(
            &what,
            true,
            format!("unlimited from the next login on ({path})"),
            "",
        );
    }
    check(
        &what,
        false,
        limit.map_or_else(
            || "not known to be unlimited".to_owned(),
            |l| format!("{l} bytes"),
        ),
        "run `daos_server storage prepare -n -u USER` as root and log in again; for a service, set \
         LimitMEMLOCK=infinity in its unit",
    )
}

/// Soft limit of locked memory in /proc/PID/limits.
fn own_limit(limits: &str) -> Option<String> {
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max locked memory"))?;
    line.split_whitespace().nth(3).map(str::to_owned)
}

/// Groups of prepared devices that the user cannot open.
fn groups(system: &dyn System, snapshot: &Snapshot, user: &Target) -> Vec<PrepareCheck> {
    let prepared = snapshot
        .controllers
        .iter()
        .map(|seen| &seen.controller)
        .filter(|controller| controller.driver.as_deref() == Some("vfio-pci"));
    prepared
        .filter_map(|controller| {
            let path = format!("/dev/vfio/{}", controller.iommu_group?);
            let owner = system.owner(&path).ok()?;
            let usable = may_use(user, owner, 0o6);
            let found = match usable {
                true => format!("{path}, usable by {}", user.name),
                false => format!("{path}, of user {} with mode {:04o}", owner.uid, owner.mode),
            };
            Some(check(
                &format!("access to {}", controller.address),
                usable,
                found,
                "run `daos_server storage prepare -n -u USER` as root",
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_go_by_owner_group_and_others() {
        let user = |uid, gid| Target {
            name: "bob".to_owned(),
            uid,
            gid,
        };
        let owner = |mode| Owner {
            uid: 1000,
            gid: 100,
            mode,
        };
        assert!(may_use(&user(1000, 1), owner(0o600), 6));
        assert!(!may_use(&user(1000, 1), owner(0o066), 6));
        assert!(may_use(&user(2, 100), owner(0o060), 6));
        assert!(!may_use(&user(2, 3), owner(0o660), 6));
        assert!(may_use(&user(0, 0), owner(0), 7));
    }

    #[test]
    fn the_limit_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max locked memory         8388608              unlimited            bytes\n";
        assert_eq!(own_limit(text).as_deref(), Some("8388608"));
        assert_eq!(own_limit(""), None);
    }
}
