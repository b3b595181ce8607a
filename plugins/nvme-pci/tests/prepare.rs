//! Preparation and release on made-up machines.

mod made_up;

use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{PrepareMode, PrepareRequest, PrepareState, StepState};
use made_up::{A, B, Kernel, STATE, device, pages, request, two};
use nvme_pci::Direction::{Prepare, Release};
use std::fs;

#[test]
fn all_is_handed_over_and_comes_back() {
    let mut kernel = two();
    kernel.hugetlbfs();
    let found = kernel.shape();
    let wanted = PrepareRequest {
        user: "bob".to_owned(),
        ..pages(1024)
    };
    let report = kernel.run(Prepare, &wanted).unwrap();
    assert_eq!(report.faults, []);
    for (address, node) in [(A, 0), (B, 1)] {
        let device = device(&report, address);
        assert_eq!(device.state, PrepareState::Ready);
        assert_eq!(
            (device.driver.as_str(), device.driver_before.as_str()),
            ("vfio-pci", "nvme")
        );
        assert_eq!(device.numa_node, node);
        assert_eq!(kernel.driver(address), "vfio-pci");
        assert_eq!(kernel.pages(node), 512);
    }
    let shape = kernel.shape();
    for path in ["/dev/vfio/12", "/dev/vfio/13", "/dev/hugepages"] {
        let line = shape.lines().find(|line| line.starts_with(path)).unwrap();
        assert!(line.contains("uid: 1000"), "{line}");
    }
    let limits = kernel.text("/etc/security/limits.d/90-daos-bob.conf");
    assert!(limits.contains("bob - memlock unlimited"), "{limits}");
    assert!(
        report.checks.iter().all(|check| check.ok),
        "{:#?}",
        report.checks
    );
    // The same again changes nothing.
    let again = kernel.run(Prepare, &wanted).unwrap();
    assert_eq!(again.faults, []);
    assert_eq!(kernel.shape(), shape);
    let report = kernel.run(Release, &request()).unwrap();
    assert_eq!(report.faults, []);
    assert_eq!(device(&report, A).state, PrepareState::Kernel);
    assert_eq!(kernel.shape(), found, "everything is as it was found");
    let nothing = kernel.run(Release, &request()).unwrap();
    assert_eq!((nothing.faults, nothing.steps), (vec![], vec![]));
}

#[test]
fn without_an_iommu_uio_is_used() {
    let mut kernel = Kernel::new();
    kernel.controller(A, None, 0);
    let report = kernel
        .run(
            Prepare,
            &PrepareRequest {
                user: "bob".to_owned(),
                ..request()
            },
        )
        .unwrap();
    assert_eq!(report.faults, []);
    assert_eq!(kernel.driver(A), "uio_pci_generic");
    assert!(
        report.notes.iter().any(|note| note.contains("only root")),
        "{:?}",
        report.notes
    );
    assert_eq!(kernel.run(Release, &request()).unwrap().faults, []);
    assert_eq!(kernel.driver(A), "nvme");
    // Neither the one nor the other.
    kernel.put("/lib/modules/6.1.0/modules.dep", "");
    fs::remove_dir_all(kernel.path("/sys/bus/pci/drivers/uio_pci_generic")).unwrap();
    let report = kernel.run(Prepare, &request()).unwrap();
    assert!(
        report.faults[0].remedy.contains("IOMMU"),
        "{:?}",
        report.faults
    );
    assert_eq!(kernel.driver(A), "nvme");
    kernel.folder("/sys/bus/pci/drivers/igb_uio");
    assert_eq!(kernel.run(Prepare, &request()).unwrap().faults, []);
    assert_eq!(kernel.driver(A), "igb_uio");
}

#[test]
fn only_what_was_asked_for_is_touched() {
    let mut kernel = two();
    let one = PrepareRequest {
        devices: vec!["0000.81.00.0".to_owned()],
        ..pages(16)
    };
    let report = kernel.run(Prepare, &one).unwrap();
    assert_eq!(device(&report, A).reason, "not asked for");
    assert_eq!(
        (kernel.driver(A).as_str(), kernel.driver(B).as_str()),
        ("nvme", "vfio-pci")
    );
    let but = PrepareRequest {
        exclude: vec![B.to_owned()],
        ..request()
    };
    let report = kernel.run(Release, &but).unwrap();
    assert_eq!(
        (report.faults.len(), kernel.driver(B).as_str()),
        (0, "vfio-pci")
    );
    assert_eq!(kernel.pages(0), 8);
    let report = kernel.run(Prepare, &but).unwrap();
    assert_eq!(device(&report, B).reason, "excluded");
    assert_eq!(kernel.driver(A), "vfio-pci");
}

#[test]
fn bad_lists_change_nothing() {
    let mut kernel = two();
    let shape = kernel.shape();
    let mut refused = |devices: &[&str], exclude: &[&str]| {
        let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        let request = PrepareRequest {
            devices: list(devices),
            exclude: list(exclude),
            ..request()
        };
        kernel.run(Prepare, &request).unwrap_err()
    };
    let error = refused(&["0000:41:00.1"], &[]);
    assert_eq!(error.status, Status::NOT_FOUND);
    assert_eq!(error.remedy, "did you mean 0000:41:00.0?");
    assert!(
        refused(&["0000:c7:12.3"], &[])
            .remedy
            .contains("0000:41:00.0, 0000:81:00.0")
    );
    assert_eq!(refused(&["sda"], &[]).status, Status::INVALID);
    assert!(
        refused(&[A], &["0000.41.00.0"])
            .what
            .contains("both included and excluded")
    );
    assert_eq!(kernel.shape(), shape);
    assert_eq!(kernel.changes, 0);
}

#[test]
fn a_dry_run_tells_all_and_changes_nothing() {
    let mut kernel = two();
    kernel.mounted("5 1 259:53 / /home rw - ext4 /dev/nvme0n1 rw");
    let plan = PrepareRequest {
        mode: PrepareMode::Plan,
        user: "bob".to_owned(),
        ..pages(64)
    };
    let planned = kernel.run(Prepare, &plan).unwrap();
    assert_eq!(kernel.changes, 0);
    assert_eq!(device(&planned, B).driver, "vfio-pci");
    assert_eq!(device(&planned, A).state, PrepareState::Skipped);
    assert_eq!(planned.hugepages[0].total, 32);
    let done = kernel
        .run(
            Prepare,
            &PrepareRequest {
                mode: PrepareMode::Apply,
                ..plan.clone()
            },
        )
        .unwrap();
    let whats = |steps: &[daos_plugin_api::control::PrepareStep]| -> Vec<String> {
        steps.iter().map(|step| step.what.clone()).collect()
    };
    assert_eq!(
        whats(&planned.steps),
        whats(&done.steps),
        "the plan was carried out"
    );
    assert!(
        planned
            .steps
            .iter()
            .all(|step| step.state == StepState::Planned)
    );
    assert!(done.steps.iter().all(|step| step.state == StepState::Done));
    let before = kernel.changes;
    let planned = kernel.run(Release, &plan).unwrap();
    assert_eq!(kernel.changes, before);
    assert_eq!(device(&planned, B).driver, "nvme");
    let status = PrepareRequest {
        mode: PrepareMode::Status,
        ..request()
    };
    let status = kernel.run(Prepare, &status).unwrap();
    assert_eq!(kernel.changes, before);
    assert_eq!(device(&status, B).state, PrepareState::Ready);
    assert!(status.steps.is_empty());
}

#[test]
fn too_few_pages_say_why() {
    let mut kernel = two();
    kernel.room.insert(1, 100);
    kernel.put(
        "/proc/buddyinfo",
        "Node 1, zone Normal 9 9 9 9 9 9 9 9 9 2 0",
    );
    let report = kernel.run(Prepare, &pages(1024)).unwrap();
    let fault = &report.faults[0];
    assert!(fault.cause.contains("only 100 of 512"), "{fault:?}");
    assert!(
        fault.cause.contains("fragmented") && fault.cause.contains("only 2 unbroken"),
        "{fault:?}"
    );
    assert_eq!(
        kernel.driver(A),
        "vfio-pci",
        "devices are prepared all the same"
    );
    assert_eq!(
        (kernel.pages(0), kernel.pages(1)),
        (512, 0),
        "too few are given back"
    );
    // Where it is clear that there is no room, none are taken: a machine without memory hangs.
    kernel.room.clear();
    let memory = "Node 1 MemTotal: 1600000 kB\nNode 1 MemFree: 1000000 kB\nNode 1 FilePages: 300000 kB\n\
                  Node 1 Shmem: 100000 kB\nNode 1 SReclaimable: 100000 kB";
    kernel.put("/sys/devices/system/node/node1/meminfo", memory);
    // 1000000 + 300000 - 100000 + 100000 - 1600000 / 16 = 1200000 KiB: 585 pages.
    let report = kernel.run(Prepare, &pages(2 * 586)).unwrap();
    let fault = &report.faults[0];
    assert!(fault.cause.contains("not enough memory"), "{fault:?}");
    assert_eq!(kernel.pages(1), 0);
    assert_eq!(kernel.run(Prepare, &pages(2 * 585)).unwrap().faults, []);
    assert_eq!(kernel.run(Release, &request()).unwrap().faults, []);
    assert_eq!((kernel.pages(0), kernel.pages(1)), (0, 0));
}

#[test]
fn nothing_is_made_ready_for_devices_that_cannot_be_had() {
    let mut kernel = two();
    kernel.busy.insert("/dev/nvme0n1".to_owned());
    let one = PrepareRequest {
        devices: vec![A.to_owned()],
        user: "bob".to_owned(),
        ..pages(64)
    };
    assert_eq!(kernel.run(Prepare, &one).unwrap().faults.len(), 1);
    assert_eq!(kernel.changes, 0);
}

#[test]
fn pools_are_kept_and_given_back() {
    let mut kernel = two();
    kernel.set_pages(0, 4096, 4096);
    kernel.run(Prepare, &pages(1024)).unwrap();
    assert_eq!(
        (kernel.pages(0), kernel.pages(1)),
        (4096, 512),
        "the larger pool is kept"
    );
    // Somebody else makes the pool larger still: not ours to take.
    kernel.set_pages(1, 600, 600);
    let report = kernel.run(Release, &request()).unwrap();
    assert_eq!((kernel.pages(0), kernel.pages(1)), (4096, 600));
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("somebody else")),
        "{:?}",
        report.notes
    );
    // Pages in use stay, and whoever uses them is named.
    let mut kernel = two();
    kernel.hugetlbfs();
    kernel.run(Prepare, &pages(64)).unwrap();
    kernel.set_pages(0, 32, 30);
    kernel.process(5, "qemu", &["/dev/hugepages/vm"]);
    let report = kernel.run(Release, &request()).unwrap();
    assert_eq!((kernel.pages(0), kernel.pages(1)), (32, 0));
    assert!(
        report.faults[0]
            .cause
            .contains("2 of its 32 pages are in use by pid 5 (qemu)"),
        "{:?}",
        report.faults
    );
    kernel.set_pages(0, 32, 32);
    assert_eq!(kernel.run(Release, &request()).unwrap().faults, []);
    assert_eq!(kernel.pages(0), 0);
}

#[test]
fn one_device_that_fails_does_not_stop_the_other() {
    let mut kernel = two();
    kernel
        .broken
        .insert(format!("/sys/bus/pci/devices/{A}/driver_override"));
    let report = kernel.run(Prepare, &request()).unwrap();
    assert_eq!(device(&report, A).state, PrepareState::Failed);
    assert_eq!(report.faults[0].address, A);
    assert_eq!(
        (kernel.driver(A).as_str(), kernel.driver(B).as_str()),
        ("nvme", "vfio-pci")
    );
    // A driver that does not take the device: the kernel's has it again.
    let mut kernel = two();
    kernel
        .broken
        .insert("/sys/bus/pci/drivers_probe".to_owned());
    let report = kernel.run(Prepare, &request()).unwrap();
    assert_eq!(report.faults.iter().filter(|f| f.address == A).count(), 1);
    assert_eq!(
        (kernel.driver(A).as_str(), kernel.override_of(A).as_str()),
        ("nvme", "(null)")
    );
    // A module that is not there.
    let mut kernel = two();
    kernel.modules.clear();
    let report = kernel.run(Prepare, &request()).unwrap();
    assert!(
        report
            .faults
            .iter()
            .any(|f| f.cause.contains("Module vfio-pci not found")),
        "{:?}",
        report.faults
    );
    assert_eq!(kernel.driver(A), "nvme");
}

#[test]
fn files_of_dead_processes_go_and_those_of_living_stay() {
    let mut kernel = two();
    kernel.hugetlbfs();
    let file = |name: &str| format!("/dev/hugepages/{name}");
    for name in [
        "spdk_pid70map_0",
        "spdk_pid71map_0",
        "spdk5map_1",
        "spdk6map_1",
        "spdk7map_1",
        "rtemap_0",
        "vm",
    ] {
        fs::write(kernel.path(&file(name)), "").unwrap();
    }
    kernel.process(71, "engine", &[]);
    kernel.process(72, "engine", &[]);
    kernel.put(
        "/proc/72/maps",
        "1-2 rw-s 0 0:9 7  /dev/hugepages/spdk5map_1",
    );
    // Held in a container whose processes are not seen here.
    let held = fs::File::open(kernel.path(&file("spdk7map_1"))).unwrap();
    held.lock_shared().unwrap();
    let report = kernel.run(Prepare, &request()).unwrap();
    let left: Vec<String> = nvme_pci::System::tree(&kernel).names("/dev/hugepages");
    assert_eq!(
        left,
        [
            "rtemap_0",
            "spdk5map_1",
            "spdk7map_1",
            "spdk_pid71map_0",
            "vm"
        ]
    );
    assert!(
        report.faults[0]
            .cause
            .contains("a process uses it after all"),
        "{:?}",
        report.faults
    );
    drop(held);
    assert_eq!(kernel.run(Prepare, &request()).unwrap().faults, []);
    assert!(!kernel.path(&file("spdk7map_1")).exists());
}

#[test]
fn after_a_reboot_only_what_outlives_it_is_undone() {
    let mut kernel = two();
    kernel
        .run(
            Prepare,
            &PrepareRequest {
                user: "bob".to_owned(),
                ..pages(64)
            },
        )
        .unwrap();
    let mut later = two();
    later.put("/proc/sys/kernel/random/boot_id", "boot-two");
    later.set_pages(0, 7, 7);
    later.folder(STATE);
    later.folder("/etc/security/limits.d");
    for file in [
        format!("{STATE}/nvme-prepare.json"),
        "/etc/security/limits.d/90-daos-bob.conf".to_owned(),
    ] {
        fs::copy(kernel.path(&file), later.path(&file)).unwrap();
    }
    let report = later.run(Release, &request()).unwrap();
    assert_eq!(report.faults, []);
    assert_eq!(later.pages(0), 7, "what the boot made is not ours");
    assert_eq!(report.steps.len(), 1, "{:?}", report.steps);
    assert!(
        !later
            .path("/etc/security/limits.d/90-daos-bob.conf")
            .exists()
    );
    assert!(!later.path(&format!("{STATE}/nvme-prepare.json")).exists());
}

#[test]
fn devices_that_others_left_in_user_space_go_back_to_the_kernel() {
    let mut kernel = two();
    kernel.run(Prepare, &request()).unwrap();
    fs::remove_dir_all(kernel.path(STATE)).unwrap();
    assert_eq!(kernel.run(Release, &request()).unwrap().faults, []);
    assert_eq!(
        (kernel.driver(A).as_str(), kernel.override_of(A).as_str()),
        ("nvme", "(null)")
    );
}

#[test]
fn a_damaged_state_file_is_no_reason_to_guess() {
    let mut kernel = two();
    kernel.put(&format!("{STATE}/nvme-prepare.json"), "{");
    let error = kernel.run(Release, &request()).unwrap_err();
    assert!(error.to_string().contains("nvme-prepare.json"), "{error}");
    assert_eq!(kernel.changes, 0);
}
