//! Checks of kernel and hardware: time, huge pages, IOMMU, locked memory.

use super::Wanted;
use super::finding::{Check, Finding};
use super::fix::{Fix, Step};
use super::node::Node;
use daos_report::bytes;
use std::time::Duration;

const TIME: Check = Check {
    name: "time",
    why: "epochs of transactions are times: servers and clients whose clocks differ refuse or lose each other's updates",
};
const CLOCK: Check = Check {
    name: "clock",
    why: "certificates are valid from and to a date, and every operation reads the clock",
};
const HUGEPAGES: Check = Check {
    name: "hugepages",
    why: "SPDK takes the memory of NVMe transfers from huge pages",
};
const IOMMU: Check = Check {
    name: "iommu",
    why: "it keeps a device from writing anywhere but into its engine's memory, and lets engines use devices without root",
};
const MEMLOCK: Check = Check {
    name: "memlock",
    why: "memory that devices write to must be locked; the kernel counts it against this limit",
};
const THP: Check = Check {
    name: "thp",
    why: "transparent huge pages take the memory apart that huge pages are made of, and stop engines while pages are moved",
};

/// What programs that keep clocks in step are called; the kernel cuts names after 15 characters.
const KEEPERS: [&str; 9] = [
    "chronyd",
    "ntpd",
    "systemd-timesyn",
    "ptp4l",
    "phc2sys",
    "timemaster",
    "ntpd-rs",
    "openntpd",
    "ntp-daemon",
];

/// Clocks further apart than this are told as wrong.
const WIDEST: Duration = Duration::from_secs(1);

pub(super) fn time(node: &Node, wanted: &Wanted) -> Finding {
    let keeper = node
        .programs()
        .into_iter()
        .find(|name| KEEPERS.contains(&name.as_str()));
    let by = keeper
        .as_deref()
        .map_or(String::new(), |name| format!(" by {name}"));
    let remedy = "start a time service, such as `systemctl enable --now chronyd`, or `timedatectl set-ntp true`; then look \
                  with `timedatectl`, and with `daos_shell preflight` at all nodes";
    let error = |us: u64| format!("{:.1} ms", us as f64 / 1000.0);
    match node.clock {
        None => TIME.warn("the kernel does not say whether its clock is kept in step", remedy),
        Some(clock) if clock.synchronised && u128::from(clock.max_error_us) > WIDEST.as_micros() => TIME.warn(
            format!("kept in step{by}, but it may be off by {}", error(clock.max_error_us)),
            "look at the sources of the time service (`chronyc sources`)",
        ),
        Some(clock) if clock.synchronised => TIME.ok(format!(
            "kept in step{by}, at most {} off",
            error(clock.max_error_us)
        )),
        Some(_) => match keeper {
            Some(name) => TIME.warn(
                format!("{name} runs, but the clock is not in step yet"),
                "wait for it, or look at its sources (`chronyc sources`, `timedatectl timesync-status`)",
            ),
            // Who serves this machine only has nobody to be in step with.
            None if wanted.is_local => TIME.warn("nothing keeps the clock in step", remedy),
            None => TIME.fail("nothing keeps the clock in step", remedy),
        },
    }
}

/// Clocks that the kernel reads without leaving the program.
const FAST: [&str; 5] = [
    "tsc",
    "arch_sys_counter",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "timebase",
];

pub(super) fn clock(node: &Node) -> Vec<Finding> {
    // A day: files come from other machines in other time zones.
    let early = node
        .installed
        .is_some_and(|installed| node.now + Duration::from_secs(86_400) < installed);
    let mut findings = Vec::new();
    if early {
        findings.push(CLOCK.fail(
            "it shows a time from before this program was installed",
            "set it (`timedatectl set-time`, `hwclock`), and see that a time service keeps it",
        ));
    }
    let source = node.read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    findings.push(match source.as_deref() {
        None => CLOCK.none("the kernel does not say how it reads the time"),
        Some(source) if FAST.contains(&source) => CLOCK.ok(format!("clock source {source}")),
        Some(source) => CLOCK.warn(
            format!("clock source {source} is slow to read"),
            "see why the kernel does not use tsc (`dmesg | grep -i clocksource`); on machines whose counters are in step, \
             boot with tsc=reliable",
        ),
    });
    findings
}

pub(super) fn hugepages(node: &Node, wanted: &Wanted) -> Finding {
    if !wanted.nvme {
        return HUGEPAGES.none("only bdev_class nvme needs them");
    }
    let size = node.meminfo("Hugepagesize").filter(|size| *size > 0);
    let Some(size) = size else {
        return HUGEPAGES.fail(
            "this kernel has none",
            "boot a kernel with CONFIG_HUGETLBFS",
        );
    };
    let dir = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", size >> 10);
    let number = |name: &str| node.number(format!("{dir}/{name}"));
    let (have, free) = (
        number("nr_hugepages").unwrap_or(0),
        number("free_hugepages"),
    );
    let need = u64::from(wanted.hugepages);
    let remedy = format!("sudo daos_server storage prepare --nvme-only -p {need}");
    if have >= need {
        let free = free.map_or_else(String::new, |free| format!(", {free} of them free"));
        let mounted = node
            .mounts()
            .iter()
            .any(|mounted| mounted.kind == "hugetlbfs");
        if !mounted {
            return HUGEPAGES.fail(
                format!("{have} of {}{free}, but no hugetlbfs is mounted", bytes(size)),
                "mount -t hugetlbfs nodev /dev/hugepages (systemd does it with dev-hugepages.mount)",
            );
        }
        return HUGEPAGES.ok(format!("{have} of {}{free}", bytes(size)));
    }
    let found = format!(
        "{have} of {}, and nr_hugepages asks for {need}",
        bytes(size)
    );
    let memory = node.meminfo("MemTotal").unwrap_or(u64::MAX);
    if need.saturating_mul(size) > memory {
        return HUGEPAGES.fail(
            format!("{found}, more than the {} of memory", bytes(memory)),
            "lower nr_hugepages",
        );
    }
    let remedy = format!(
        "{remedy}; if the kernel finds too few, memory is in pieces: reserve them at boot with hugepages={need}"
    );
    // Some may be enough where nobody said how many.
    let finding = match have > 0 && !wanted.hugepages_set {
        true => HUGEPAGES.warn(found, remedy),
        false => HUGEPAGES.fail(found, remedy),
    };
    finding.with(Fix(vec![Step::Kernel {
        path: format!("{dir}/nr_hugepages").into(),
        value: need.to_string(),
    }]))
}

pub(super) fn iommu(node: &Node, wanted: &Wanted) -> Finding {
    let groups = node.names("/sys/kernel/iommu_groups").len();
    if groups > 0 {
        return IOMMU.ok(format!("on, {groups} groups"));
    }
    if !wanted.nvme {
        return IOMMU.none("off; only bdev_class nvme needs it");
    }
    let is_amd = node
        .read("/proc/cpuinfo")
        .is_some_and(|text| text.contains("AuthenticAMD"));
    let (option, firmware) = match is_amd {
        true => ("amd_iommu=on", "AMD-Vi"),
        false => ("intel_iommu=on", "VT-d"),
    };
    let asked = node
        .read("/proc/cmdline")
        .is_some_and(|line| line.split(' ').any(|word| word == option));
    let remedy = match asked {
        true => format!(
            "switch {firmware} on in the firmware: the kernel was told to use it and finds none"
        ),
        false => format!("boot with {option} iommu=pt, and switch {firmware} on in the firmware"),
    };
    // Through uio, devices can be used all the same, by root alone.
    match node.is_root() && !wanted.other_user {
        true => IOMMU.warn("off: devices are used through uio, by root alone", remedy),
        false => IOMMU.fail("off: only root can use devices then", remedy),
    }
}

const IPC_LOCK: u32 = 14;

pub(super) fn memlock(node: &Node, wanted: &Wanted) -> Finding {
    let limits = node.read("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max locked memory"));
    let limit = line.and_then(|rest| rest.split_whitespace().next());
    let Some(limit) = limit else {
        return MEMLOCK.warn("the kernel does not say", "look with `ulimit -l`");
    };
    let limit: Option<u64> = match limit {
        "unlimited" => None,
        number => Some(number.parse().unwrap_or(0)),
    };
    let shown = limit.map_or_else(|| "unlimited".to_owned(), bytes);
    if !wanted.nvme && !wanted.rdma {
        return MEMLOCK.none(format!("{shown}; only NVMe and RDMA lock much"));
    }
    let Some(limit) = limit else {
        return MEMLOCK.ok("unlimited");
    };
    if node.may(IPC_LOCK) && !wanted.other_user {
        return MEMLOCK.ok(format!(
            "{shown}, which does not hold for a process with CAP_IPC_LOCK"
        ));
    }
    let size = node.meminfo("Hugepagesize").unwrap_or(2 << 20);
    // RDMA registers the engine's memory, which without NVMe is some GiB at most.
    let need = match wanted.nvme {
        true => u64::from(wanted.hugepages).saturating_mul(size),
        false => 1 << 30,
    };
    if limit >= need {
        return MEMLOCK.ok(format!("{shown}, and {} are needed", bytes(need)));
    }
    MEMLOCK.fail(
        format!("{shown} for who runs this, and {} are needed", bytes(need)),
        "LimitMEMLOCK=infinity in the unit (ours has it); for a server started by hand `* - memlock unlimited` in \
         /etc/security/limits.d/daos.conf and a new login",
    )
}

pub(super) fn thp(node: &Node, wanted: &Wanted) -> Finding {
    const PATH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Some(text) = node.read(PATH) else {
        return THP.none("this kernel has none");
    };
    let chosen = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    // Engines of DAOS refuse anything but never; ours ask for no such pages, so that madvise is as good.
    let best = if wanted.foreign_engine {
        "never"
    } else {
        "madvise"
    };
    let remedy = format!("echo {best} > {PATH}; for good: boot with transparent_hugepage={best}");
    let fix = Fix(vec![Step::Kernel {
        path: PATH.into(),
        value: best.to_owned(),
    }]);
    match chosen {
        Some("never") => THP.ok("never"),
        Some("madvise") if !wanted.foreign_engine => THP.ok("madvise"),
        Some(other) if wanted.foreign_engine => THP
            .fail(
                format!("{other}, and the engine of engine_path wants never"),
                remedy,
            )
            .with(fix),
        Some(other) => THP.warn(other, remedy).with(fix),
        None => THP.none(format!("the kernel says {text:?}")),
    }
}
