//! A device with layers that do not make it fail is as good as one without: the common suite for devices.

use bdev_file::BdevFile;
use bdev_malloc::BdevMalloc;
use bdev_model::{Subject, class, instance, serde_json::json};
use daos_layers::{Stack, parse};
use daos_plugin_api::control::FormatRequest;
use daos_plugin_api::host::{BdevDevice, CallOptions};
use daos_plugin_api::sdk::thunks::table;

fn layered(device: BdevDevice, layers: &str) -> BdevDevice {
    let mut stack = Stack::new(0, device);
    stack.set(&parse(layers).unwrap()).unwrap();
    stack.top().clone()
}

fn malloc(wrap: fn(BdevDevice) -> BdevDevice) -> Option<Subject> {
    let instance = instance(table::<BdevMalloc>(), json!({ "block_size": 4096 }));
    let request = class("malloc", json!({ "bdev_size_mib": 64 }));
    let devices = instance.devices(&request, CallOptions::default());
    Some(Subject {
        instance,
        spec: devices.unwrap().remove(0),
        wrap: Some(wrap),
        guard: Box::new(()),
    })
}

fn file(wrap: fn(BdevDevice) -> BdevDevice) -> Option<Subject> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let instance = instance(table::<BdevFile>(), json!({}));
    let path = dir.path().join("device");
    let request = class("file", json!({ "bdev_list": [path], "bdev_size_mib": 64 }));
    let devices = instance.devices(&request, CallOptions::default());
    let device = devices.unwrap().remove(0);
    let format = FormatRequest {
        device: device.clone(),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    instance.format(&format, CallOptions::default()).unwrap();
    Some(Subject {
        instance,
        spec: device,
        wrap: Some(wrap),
        guard: Box::new(dir),
    })
}

/// Rules that never fire, also such as make the layer keep memory of its own.
fn quiet_faults(device: BdevDevice) -> BdevDevice {
    layered(
        device,
        r#"[{"fault": {"rules": [{"do": "torn", "probability": 0}, {"do": "error", "skip": 1000000000}]}}]"#,
    )
}

fn delay(device: BdevDevice) -> BdevDevice {
    // Wide, so that completions overtake each other.
    layered(
        device,
        r#"[{"delay": {"rules": [{"uniform_us": [0, 300]}]}}]"#,
    )
}

fn all(device: BdevDevice) -> BdevDevice {
    layered(
        device,
        r#"[{"stats": {}}, {"fault": {"rules": []}}, {"delay": {"rules": [{"op": ["write"], "lognormal_us": [20, 200]}]}}, {"stats": {}}]"#,
    )
}

fn malloc_faults() -> Option<Subject> {
    malloc(quiet_faults)
}

fn malloc_delay() -> Option<Subject> {
    malloc(delay)
}

fn file_all() -> Option<Subject> {
    file(all)
}

bdev_model::suite!(faults_on_malloc, crate::malloc_faults);
bdev_model::suite!(delay_on_malloc, crate::malloc_delay);
bdev_model::suite!(all_on_file, crate::file_all);
