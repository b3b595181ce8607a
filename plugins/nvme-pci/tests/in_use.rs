//! What is in use is left alone, on made-up machines: a reason for each, and both directions.

mod made_up;

use daos_plugin_api::control::{PrepareRequest, PrepareState};
use made_up::{A, B, Kernel, SIZE, device, pages, request, two};
use nvme_pci::Direction::{Prepare, Release};
use std::fs;

/// A kernel in which the first controller is used, and what the reason must say.
fn in_use(use_it: impl Fn(&mut Kernel), reason: &str) {
    let mut kernel = two();
    use_it(&mut kernel);
    let report = kernel.run(Prepare, &request()).unwrap();
    let skipped = device(&report, A);
    assert_eq!(skipped.state, PrepareState::Skipped, "{reason}");
    assert!(
        skipped.reason.contains(reason),
        "{:?} has no {reason:?}",
        skipped.reason
    );
    assert_eq!(kernel.driver(A), "nvme", "{reason}");
    assert_eq!(kernel.driver(B), "vfio-pci", "the other one is prepared");
    assert_eq!(report.faults, [], "nobody asked for this one");
    let asked = PrepareRequest {
        devices: vec![A.to_owned()],
        ..request()
    };
    let report = kernel.run(Prepare, &asked).unwrap();
    assert_eq!(report.faults.len(), 1, "{reason}");
    assert!(report.faults[0].cause.contains(reason));
    assert_eq!(kernel.driver(A), "nvme", "{reason}");
}

#[test]
fn what_is_in_use_is_left_alone_and_says_why() {
    in_use(
        |k| k.mounted("5 1 259:53 / /my\\040home rw - ext4 /dev/nvme0n1 rw"),
        "nvme0n1 is mounted at /my home",
    );
    in_use(
        |k| k.mounted("5 1 0:44 / /b rw - btrfs /dev/nvme0n1 rw"),
        "nvme0n1 is mounted at /b",
    );
    let partition = "/sys/class/block/nvme0n1/nvme0n1p2";
    in_use(
        |k| {
            k.put(&format!("{partition}/partition"), "2");
            k.put(&format!("{partition}/dev"), "259:99");
            k.mounted("5 1 259:99 / / rw - xfs /dev/root rw");
        },
        "nvme0n1p2 is mounted at /",
    );
    in_use(
        |k| {
            k.put(&format!("{partition}/partition"), "2");
            k.folder(&format!("{partition}/holders/dm-0"));
        },
        "nvme0n1p2 is part of dm-0",
    );
    in_use(
        |k| k.folder("/sys/class/block/nvme0n1/holders/md127"),
        "nvme0n1 is part of md127",
    );
    in_use(
        |k| {
            k.put(
                "/proc/swaps",
                "Filename Type\n/dev/nvme0n1 partition 1 0 -2",
            )
        },
        "nvme0n1 is used as swap space",
    );
    in_use(
        |k| k.process(77, "fio", &["/dev/null", "/dev/nvme0n1"]),
        "nvme0n1 is open in pid 77 (fio)",
    );
    in_use(
        |k| k.busy.extend(["/dev/nvme0n1".to_owned()]),
        "nvme0n1 is held exclusively",
    );
    in_use(
        |k| {
            let mut bytes = vec![0; SIZE as usize];
            bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
            fs::write(k.path("/dev/nvme0n1"), bytes).unwrap();
        },
        "nvme0n1 holds data: ext",
    );
    in_use(
        |k| {
            k.function("0000:41:00.1", "0x020000", Some(12));
            k.bound("0000:41:00.1", "e1000e");
        },
        "IOMMU group also holds 0000:41:00.1 (e1000e)",
    );
}

#[test]
fn bridges_and_fellow_controllers_share_a_group() {
    let mut kernel = Kernel::new();
    kernel.controller(A, Some(12), 0);
    kernel.controller(B, Some(12), 0);
    kernel.function("0000:40:01.0", "0x060400", Some(12));
    kernel.bound("0000:40:01.0", "pcieport");
    assert_eq!(kernel.run(Prepare, &request()).unwrap().faults, []);
    assert_eq!(
        (kernel.driver(A), kernel.driver(B)),
        ("vfio-pci".to_owned(), "vfio-pci".to_owned())
    );
    // Alone, neither can be taken.
    kernel.run(Release, &request()).unwrap();
    let one = PrepareRequest {
        devices: vec![A.to_owned()],
        ..request()
    };
    let report = kernel.run(Prepare, &one).unwrap();
    assert!(
        report.faults[0]
            .cause
            .contains("IOMMU group also holds 0000:81:00.0 (nvme)"),
        "{:?}",
        report.faults
    );
}

#[test]
fn a_held_device_is_not_given_back() {
    for (group, node, file) in [
        (Some(12), "vfio", "/dev/vfio/12"),
        (None, "uio", "/dev/uio0"),
        (
            None,
            "uio",
            "/sys/devices/pci0000:40/0000:41:00.0/resource0",
        ),
    ] {
        let mut kernel = Kernel::new();
        kernel.controller(A, group, 0);
        kernel.controller(B, Some(13), 1);
        kernel.run(Prepare, &pages(64)).unwrap();
        kernel.process(99, "daos_io_server", &[file]);
        let report = kernel.run(Release, &request()).unwrap();
        let held = device(&report, A);
        assert_eq!(held.state, PrepareState::Skipped);
        assert_eq!(
            held.in_use,
            [format!("held through {node} by pid 99 (daos_io_server)")]
        );
        assert_eq!(report.faults.len(), 1);
        assert_ne!(kernel.driver(A), "nvme");
        assert_eq!(kernel.driver(B), "nvme", "the other one is given back");
        assert_eq!(kernel.pages(0), 32, "its huge pages stay, too");
        kernel.process_ends(99);
        assert_eq!(kernel.run(Release, &request()).unwrap().faults, []);
        assert_eq!((kernel.driver(A).as_str(), kernel.pages(0)), ("nvme", 0));
    }
}

#[test]
fn a_running_engine_does_not_stop_a_second_preparation() {
    let mut kernel = two();
    kernel.run(Prepare, &request()).unwrap();
    kernel.process(99, "daos_io_server", &["/dev/vfio/12"]);
    let report = kernel.run(Prepare, &pages(16)).unwrap();
    assert_eq!(report.faults, []);
    assert_eq!(device(&report, A).state, PrepareState::Ready);
    assert_eq!(device(&report, A).in_use.len(), 1);
}
