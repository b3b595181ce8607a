//! Bringing controllers to rest on made-up machines.

mod made_up;

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::Error;
use made_up::Kernel;
use nvme_pci::{Processes, System, quiesce};
use std::fs;

const A: &str = "0000:41:00.0";

/// Status register (all bits set), and a command register with memory decoding and bus mastering.
const MASTER: [u8; 8] = [0x86, 0x80, 0x54, 0x0a, 0x06, 0x04, 0xff, 0xff];

fn config() -> String {
    format!("/sys/bus/pci/devices/{A}/config")
}

/// A controller bound to `driver`, which may move data.
fn machine(driver: &str) -> Kernel {
    let mut kernel = Kernel::new();
    kernel.controller(A, Some(12), 0);
    kernel.bound(A, driver);
    fs::write(kernel.path(&config()), MASTER).unwrap();
    kernel
}

fn run(kernel: &mut Kernel) -> Result<Vec<String>, Error> {
    let processes = Processes::read(kernel.tree());
    quiesce(kernel, A.parse().unwrap(), &processes)
}

fn registers(kernel: &Kernel) -> Vec<u8> {
    fs::read(kernel.path(&config())).unwrap()
}

#[test]
fn bus_mastering_is_taken_from_a_controller_that_nobody_holds() {
    for driver in ["uio_pci_generic", "vfio-pci"] {
        let mut kernel = machine(driver);
        kernel.put(&format!("/sys/bus/pci/devices/{A}/reset"), "");
        let notes = run(&mut kernel).unwrap();
        assert!(
            notes.len() == 2 && notes.iter().all(|note| note.contains(A)),
            "{notes:?}"
        );
        let mut expected = MASTER;
        expected[4] = 0x02;
        assert_eq!(registers(&kernel), expected, "only that bit");
        assert_eq!(
            kernel.text(&format!("/sys/bus/pci/devices/{A}/reset")),
            "1",
            "it was reset after that"
        );
        // At rest now.
        assert_eq!(run(&mut kernel).unwrap(), [] as [&str; 0]);
    }
}

#[test]
fn a_controller_that_somebody_holds_is_left_alone() {
    let mut kernel = machine("vfio-pci");
    kernel.process(77, "io_server", &["/dev/vfio/12"]);
    let error = run(&mut kernel).unwrap_err();
    assert_eq!(error.status, Status::BUSY, "{error}");
    assert!(error.to_string().contains("pid 77 (io_server)"), "{error}");
    assert_eq!(registers(&kernel), MASTER);
    kernel.process_ends(77);
    assert_eq!(run(&mut kernel).unwrap().len(), 1);
}

#[test]
fn what_the_kernel_drives_and_what_is_not_there_is_at_rest() {
    let mut kernel = machine("nvme");
    assert_eq!(run(&mut kernel).unwrap(), [] as [&str; 0]);
    assert_eq!(registers(&kernel), MASTER);
    // A controller that does not answer moves nothing either.
    let mut kernel = machine("vfio-pci");
    fs::write(kernel.path(&config()), [0xff; 8]).unwrap();
    assert_eq!(run(&mut kernel).unwrap(), [] as [&str; 0]);
    let processes = Processes::read(kernel.tree());
    let absent = "0000:99:00.0".parse().unwrap();
    assert!(quiesce(&mut kernel, absent, &processes).unwrap().is_empty());
}

#[test]
fn a_register_that_cannot_be_changed_is_an_error_with_a_remedy() {
    let mut kernel = machine("uio_pci_generic");
    kernel.broken.insert(config());
    let error = run(&mut kernel).unwrap_err();
    assert!(error.to_string().contains(A), "{error}");
    assert!(error.remedy.contains("root"), "{error}");
}
