//! A run that is killed before any of its changes is finished, or undone, by the next one.

mod made_up;

use daos_plugin_api::control::PrepareRequest;
use made_up::{Kernel, Killed, request};
use nvme_pci::Direction::{self, Prepare, Release};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Two controllers, a pool of some pages, a file of a dead process; with a hugetlbfs or without one.
fn machine(mounted: bool) -> Kernel {
    let mut kernel = Kernel::new();
    kernel.controller("0000:41:00.0", Some(12), 0);
    kernel.controller("0000:81:00.0", None, 1);
    kernel.set_pages(0, 3, 3);
    if mounted {
        kernel.hugetlbfs();
        fs::write(kernel.path("/dev/hugepages/spdk_pid70map_0"), "").unwrap();
    }
    kernel
}

fn wanted() -> PrepareRequest {
    PrepareRequest {
        hugepages: Some(64),
        user: "bob".to_owned(),
        ..request()
    }
}

/// Runs until the change number `at`; tells whether it got that far.
fn killed_at(kernel: &mut Kernel, direction: Direction, at: usize) -> bool {
    kernel.changes_left = Some(at);
    let result = catch_unwind(AssertUnwindSafe(|| kernel.run(direction, &wanted())));
    kernel.changes_left = None;
    match result {
        Ok(report) => {
            assert_eq!(report.unwrap().faults, []);
            false
        }
        Err(payload) => {
            assert!(payload.is::<Killed>(), "it failed by itself");
            true
        }
    }
}

/// What is left behind when nothing is killed, after a preparation and after a release.
fn undisturbed(mounted: bool) -> (String, String) {
    let mut kernel = machine(mounted);
    assert_eq!(kernel.run(Prepare, &wanted()).unwrap().faults, []);
    let prepared = kernel.shape();
    assert_eq!(kernel.run(Release, &wanted()).unwrap().faults, []);
    (prepared, kernel.shape())
}

#[test]
fn a_preparation_that_is_killed_anywhere_can_be_run_again() {
    for mounted in [true, false] {
        let (prepared, released) = undisturbed(mounted);
        for at in 0.. {
            let mut kernel = machine(mounted);
            let killed = killed_at(&mut kernel, Prepare, at);
            assert_eq!(
                kernel.run(Prepare, &wanted()).unwrap().faults,
                [],
                "after {at} changes"
            );
            assert_eq!(kernel.shape(), prepared, "after {at} changes");
            // What was found first is what is remembered.
            assert_eq!(kernel.run(Release, &wanted()).unwrap().faults, []);
            assert_eq!(kernel.shape(), released, "after {at} changes");
            if !killed {
                assert!(at > 10, "{at} changes are too few to be a preparation");
                break;
            }
        }
    }
}

#[test]
fn a_preparation_that_is_killed_anywhere_can_be_undone() {
    for mounted in [true, false] {
        let (_, released) = undisturbed(mounted);
        for at in 0.. {
            let mut kernel = machine(mounted);
            let killed = killed_at(&mut kernel, Prepare, at);
            assert_eq!(
                kernel.run(Release, &wanted()).unwrap().faults,
                [],
                "after {at} changes"
            );
            assert_eq!(kernel.shape(), released, "after {at} changes");
            if !killed {
                break;
            }
        }
    }
}

#[test]
fn a_release_that_is_killed_anywhere_can_be_run_again() {
    for mounted in [true, false] {
        let (prepared, released) = undisturbed(mounted);
        for at in 0.. {
            for next in [Release, Prepare] {
                let mut kernel = machine(mounted);
                kernel.run(Prepare, &wanted()).unwrap();
                let killed = killed_at(&mut kernel, Release, at);
                let report = kernel.run(next, &wanted()).unwrap();
                assert_eq!(report.faults, [], "after {at} changes");
                let shape = if next == Release {
                    &released
                } else {
                    &prepared
                };
                assert_eq!(kernel.shape(), *shape, "{next:?} after {at} changes");
                if next == Prepare {
                    kernel.run(Release, &wanted()).unwrap();
                    assert_eq!(kernel.shape(), released, "after {at} changes");
                    if !killed {
                        return;
                    }
                }
            }
        }
    }
}
