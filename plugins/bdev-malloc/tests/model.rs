//! The plugin behind its tables, against the common suite and its own rules.

use bdev_malloc::BdevMalloc;
use bdev_model::{Subject, class, instance, serde_json::json};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Status};
use daos_plugin_api::control::{DeviceState, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::thunks::table;

fn subject(block_size: u32) -> Subject {
    let instance = instance(table::<BdevMalloc>(), json!({ "block_size": block_size }));
    let request = class("malloc", json!({ "bdev_size_mib": 64 }));
    let spec = instance
        .devices(&request, CallOptions::default())
        .unwrap()
        .remove(0);
    Subject {
        instance,
        spec,
        wrap: None,
        guard: Box::new(()),
    }
}

fn blocks_of_512() -> Option<Subject> {
    Some(subject(512))
}

fn blocks_of_4096() -> Option<Subject> {
    Some(subject(4096))
}

bdev_model::suite!(b512, crate::blocks_of_512);
bdev_model::suite!(b4096, crate::blocks_of_4096);

#[test]
fn devices_are_numbered_and_sized() {
    let Subject { instance, .. } = subject(4096);
    let request = class("malloc", json!({ "bdev_number": 3, "bdev_size": 1 }));
    let devices = instance.devices(&request, CallOptions::default()).unwrap();
    let names: Vec<_> = devices.iter().map(|d| d.address.as_str()).collect();
    assert_eq!(names, ["malloc0", "malloc1", "malloc2"]);
    for (index, device) in devices.iter().enumerate() {
        assert_eq!(device.index as usize, index);
        assert_eq!(device.size, 999_997_440);
        assert_eq!(device.state, DeviceState::Present);
        let open = instance.open_bdev(device, CallOptions::default()).unwrap();
        assert_eq!(open.size(), device.size);
        assert!(open.geometry().flags & BdevGeometry::EPHEMERAL != 0);
        assert!(open.geometry().flags & BdevGeometry::VOLATILE_CACHE == 0);
        let now = instance.devices(&request, CallOptions::default()).unwrap();
        assert_eq!(now[index].state, DeviceState::InUse);
    }
    let mut fourth = devices[2].clone();
    fourth.address = "malloc3".to_owned();
    let error = instance
        .open_bdev(&fourth, CallOptions::default())
        .err()
        .unwrap();
    assert_eq!(error.status, Status::NOT_FOUND, "{error}");
}

#[test]
fn format_wipes_a_closed_device_and_refuses_an_open_one() {
    use bdev_model::driver::{Arena, Driver, Io};
    let subject = subject(4096);
    let format = FormatRequest {
        device: subject.spec.clone(),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    let device = subject.open();
    let error = subject
        .instance
        .format(&format, CallOptions::default())
        .unwrap_err();
    assert_eq!(error.status, Status::BUSY);
    let mut driver = Driver::new(&device, 1, Arena::foreign(4096));
    driver.memory().fill(9);
    assert_eq!(
        driver.run(&Io::with(BdevOp::WRITE, 0, 1, 0..4096)),
        Status::OK
    );
    drop((driver, device));
    let report = subject
        .instance
        .format(&format, CallOptions::default())
        .unwrap();
    assert_eq!(report.size, 64 << 20);
    let device = subject.open();
    let mut driver = Driver::new(&device, 1, Arena::foreign(4096));
    driver.memory().fill(9);
    assert_eq!(
        driver.run(&Io::with(BdevOp::READ, 0, 1, 0..4096)),
        Status::OK
    );
    assert!(driver.memory().iter().all(|byte| *byte == 0));
}

#[test]
fn more_memory_than_the_machine_has_is_refused() {
    let Subject { instance, .. } = subject(4096);
    let request = class("malloc", json!({ "bdev_size": 1_000_000 }));
    let spec = instance
        .devices(&request, CallOptions::default())
        .unwrap()
        .remove(0);
    let error = instance
        .open_bdev(&spec, CallOptions::default())
        .err()
        .unwrap();
    assert_eq!(error.status, Status::NO_MEMORY, "{error}");
    assert!(
        error.what.contains("malloc0") && error.remedy.contains("bdev_size"),
        "{error}"
    );
}

#[test]
fn settings_are_checked() {
    for settings in [json!({ "block_size": 520 }), json!({ "blocksize": 512 })] {
        let options = InstanceOptions::built_in().settings(settings.as_object().unwrap().clone());
        let error = Instance::create(table::<BdevMalloc>(), options)
            .err()
            .unwrap();
        assert_eq!(error.status, Status::INVALID);
        assert!(error.to_string().contains("bdev-malloc"), "{error}");
    }
}
