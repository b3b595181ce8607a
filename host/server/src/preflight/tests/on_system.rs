use super::*;

#[test]
fn clocks_are_kept_in_step_or_not() {
    let wanted = Wanted::default();
    let (_dir, mut node) = machine(&[("/proc/7/comm", "chronyd\n"), ("/proc/x/comm", "ntpd\n")]);
    let clock = |synchronised, max_error_us| {
        Some(Clock {
            synchronised,
            max_error_us,
        })
    };
    assert_found(&system::time(&node, &wanted), Warn, "does not say");
    node.clock = clock(true, 1500);
    assert_found(
        &system::time(&node, &wanted),
        Good,
        "by chronyd, at most 1.5 ms off",
    );
    node.clock = clock(true, 3_000_000);
    assert_found(&system::time(&node, &wanted), Warn, "off by 3000.0 ms");
    node.clock = clock(false, 0);
    assert_found(&system::time(&node, &wanted), Warn, "chronyd runs");
    let (_dir, mut node) = machine(&[]);
    node.clock = clock(false, 0);
    assert_found(&system::time(&node, &wanted), Fail, "nothing keeps");
    let local = Wanted {
        is_local: true,
        ..Wanted::default()
    };
    assert_found(&system::time(&node, &local), Warn, "nothing keeps");
}

#[test]
fn a_clock_from_before_the_installation_is_wrong() {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let (_dir, mut node) = machine(&[(SOURCE, "tsc\n")]);
    assert_found(&system::clock(&node)[0], Good, "tsc");
    node.installed = Some(node.now + Duration::from_secs(3600));
    assert_eq!(system::clock(&node).len(), 1, "another time zone");
    node.installed = Some(node.now + Duration::from_secs(90_000));
    assert_found(&system::clock(&node)[0], Fail, "before this program");
    let (_dir, node) = machine(&[(SOURCE, "acpi_pm\n")]);
    assert_found(&system::clock(&node)[0], Warn, "acpi_pm is slow");
    let (_dir, node) = machine(&[]);
    assert_found(&system::clock(&node)[0], NotApplicable, "does not say");
}

const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const MEMORY: (&str, &str) = (
    "/proc/meminfo",
    "MemTotal: 16777216 kB\nHugepagesize:       2048 kB\n",
);

#[test]
fn hugepages_are_enough_or_not() {
    let have = |pages: &str, mounts: &str| {
        let (dir, node) = machine(&[
            MEMORY,
            (&format!("{PAGES}/nr_hugepages"), pages),
            (&format!("{PAGES}/free_hugepages"), "7\n"),
            ("/proc/self/mountinfo", mounts),
        ]);
        (dir, system::hugepages(&node, &nvme()), node)
    };
    let mounted = "30 1 0:30 / /dev/hugepages rw - hugetlbfs none rw\n";
    assert_found(
        &have("1024\n", mounted).1,
        Good,
        "1024 of 2.0 MiB, 7 of them free",
    );
    assert_found(&have("1024\n", "").1, Fail, "no hugetlbfs");
    let (dir, few, node) = have("12\n", mounted);
    assert_found(&few, Fail, "asks for 1024");
    assert!(few.remedy.contains("-p 1024"), "{few:?}");
    few.fix.unwrap().apply(&node).unwrap();
    let after = fs::read_to_string(
        dir.path()
            .join(format!("{PAGES}/nr_hugepages").trim_start_matches('/')),
    );
    assert_eq!(after.unwrap(), "1024");
    // What the memory has no room for is not asked of the kernel.
    let (_dir, node) = machine(&[MEMORY]);
    let many = Wanted {
        hugepages: 9000,
        ..nvme()
    };
    let finding = system::hugepages(&node, &many);
    assert_found(&finding, Fail, "more than");
    assert!(finding.fix.is_none());
    let (_dir, node) = machine(&[]);
    assert_found(&system::hugepages(&node, &nvme()), Fail, "kernel has none");
    assert_found(
        &system::hugepages(&node, &Wanted::default()),
        NotApplicable,
        "nvme",
    );
}

#[test]
fn huge_pages_are_reserved_at_start_where_somebody_says_how_many() {
    let at = |pages: &str, wanted: &Wanted| {
        let path = format!("{PAGES}/nr_hugepages");
        let (dir, mut node) = machine(&[
            MEMORY,
            (&path, pages),
            (
                "/proc/self/mountinfo",
                "30 1 0:30 / /h rw - hugetlbfs none rw\n",
            ),
        ]);
        node.euid = 0;
        let done = reserve(&node, wanted);
        let now = fs::read_to_string(dir.path().join(path.trim_start_matches('/'))).unwrap();
        (done, now)
    };
    let (done, now) = at("12", &nvme());
    assert!(done.unwrap().unwrap().contains("write 1024"));
    assert_eq!(now, "1024");
    // What there is, is never made less.
    assert_eq!(at("4096", &nvme()), (None, "4096".to_owned()));
    let unsaid = Wanted {
        hugepages_set: false,
        ..nvme()
    };
    let (done, now) = at("12", &unsaid);
    assert!(
        done.unwrap()
            .unwrap_err()
            .contains("12 of 2.0 MiB, and nr_hugepages asks for 1024")
    );
    assert_eq!(now, "12");
    assert_eq!(at("0", &Wanted::default()).0, None);
    let more = Wanted {
        hugepages: 1_000_000,
        ..nvme()
    };
    let (done, now) = at("12", &more);
    assert!(done.unwrap().unwrap_err().contains("lower nr_hugepages"));
    assert_eq!(now, "12");
    // Without the rights to it nothing is tried.
    let (dir, mut node) = machine(&[MEMORY, (&format!("{PAGES}/nr_hugepages"), "12")]);
    me(&mut node);
    node.euid = node.euid.wrapping_add(4711);
    node.egid = node.egid.wrapping_add(4711);
    mode(
        &dir,
        format!("{PAGES}/nr_hugepages").trim_start_matches('/'),
        0o644,
    );
    assert!(
        reserve(&node, &nvme())
            .unwrap()
            .unwrap_err()
            .contains("sudo daos_server storage prepare")
    );
}

#[test]
fn the_iommu_is_on_or_not() {
    let (_dir, node) = machine(&[
        ("/sys/kernel/iommu_groups/0/type", ""),
        ("/sys/kernel/iommu_groups/1/type", ""),
    ]);
    assert_found(&system::iommu(&node, &Wanted::default()), Good, "2 groups");
    let (_dir, mut node) = machine(&[("/proc/cpuinfo", "vendor_id : AuthenticAMD\n")]);
    assert_found(
        &system::iommu(&node, &Wanted::default()),
        NotApplicable,
        "off",
    );
    assert_found(&system::iommu(&node, &nvme()), Fail, "amd_iommu=on");
    node.euid = 0;
    assert_found(&system::iommu(&node, &nvme()), Warn, "uio");
    let other = Wanted {
        other_user: true,
        ..nvme()
    };
    assert_found(&system::iommu(&node, &other), Fail, "only root");
    let (_dir, node) = machine(&[("/proc/cmdline", "quiet intel_iommu=on\n")]);
    assert_found(&system::iommu(&node, &nvme()), Fail, "switch VT-d on");
}

#[test]
fn locked_memory_is_enough_or_not() {
    let limits = |limit: &str, capabilities: &str| {
        let limits =
            format!("Limit Soft Hard Units\nMax locked memory         {limit} {limit} bytes\n");
        machine(&[
            MEMORY,
            ("/proc/self/limits", &limits),
            ("/proc/self/status", &format!("CapEff:\t{capabilities}\n")),
        ])
    };
    let (_dir, node) = limits("8388608", "0");
    assert_found(&system::memlock(&node, &nvme()), Fail, "2.0 GiB are needed");
    assert_found(
        &system::memlock(&node, &Wanted::default()),
        NotApplicable,
        "8.0 MiB",
    );
    let rdma = Wanted {
        rdma: true,
        ..Wanted::default()
    };
    assert_found(&system::memlock(&node, &rdma), Fail, "1.0 GiB are needed");
    let (_dir, node) = limits("unlimited", "0");
    assert_found(&system::memlock(&node, &nvme()), Good, "unlimited");
    let (_dir, node) = limits("4294967296", "0");
    assert_found(&system::memlock(&node, &nvme()), Good, "4.0 GiB");
    let (_dir, node) = limits("0", "4000");
    assert_found(&system::memlock(&node, &nvme()), Good, "CAP_IPC_LOCK");
    let (_dir, node) = machine(&[]);
    assert_found(&system::memlock(&node, &nvme()), Warn, "does not say");
}

#[test]
fn transparent_huge_pages_are_off_or_not() {
    const PATH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let foreign = Wanted {
        foreign_engine: true,
        ..Wanted::default()
    };
    for (text, ours, theirs) in [
        ("always madvise [never]\n", Good, Good),
        ("always [madvise] never\n", Good, Fail),
        ("[always] madvise never\n", Warn, Fail),
        ("nonsense\n", NotApplicable, NotApplicable),
    ] {
        let (_dir, node) = machine(&[(PATH, text)]);
        let found = system::thp(&node, &Wanted::default());
        assert_eq!(found.state, ours, "{text}");
        assert_eq!(found.fix.is_some(), ours == Warn);
        assert_eq!(system::thp(&node, &foreign).state, theirs, "{text}");
    }
    let (_dir, node) = machine(&[]);
    assert_found(&system::thp(&node, &foreign), NotApplicable, "none");
}
