//! Property tests for block-device plugins: one suite for every backend, run through the same
//! tables that the engine uses.
//!
//! ```ignore
//! fn make() -> Option<bdev_model::Subject> { ... }
//! bdev_model::suite!(ring, crate::make);
//! ```

pub mod cases;
pub mod driver;
pub mod machine;
pub mod model;
pub mod shared_object;

use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::control::{ClassRequest, DeviceSpec};
use daos_plugin_api::host::{BdevDevice, CallOptions, Instance, InstanceOptions};
use serde_json::{Map, Value};
use std::any::Any;

pub use daos_plugin_api::sdk::serde_json;

/// What a suite runs on: one device of a plugin, formatted, not open.
pub struct Subject {
    /// The plugin.
    pub instance: Instance,
    /// The device.
    pub spec: DeviceSpec,
    /// What is put over the device when it is opened.
    pub wrap: Option<fn(BdevDevice) -> BdevDevice>,
    /// Keeps alive, and cleans up, what the device lives on. Dropped last.
    pub guard: Box<dyn Any>,
}

impl Subject {
    /// Opens the device.
    pub fn open(&self) -> BdevDevice {
        let device = self
            .instance
            .open_bdev(&self.spec, CallOptions::default())
            .expect("the device opens");
        match self.wrap {
            Some(wrap) => wrap(device),
            None => device,
        }
    }
}

/// Makes an instance of a plugin of this binary.
///
/// # Panics
/// If the plugin refuses.
pub fn instance(table: &'static PluginTable, settings: Value) -> Instance {
    let options = InstanceOptions::built_in().settings(object(settings));
    Instance::create(table, options).expect("the plugin is created")
}

/// Class config from a JSON object.
///
/// # Panics
/// If it is no object.
pub fn class(name: &str, config: Value) -> ClassRequest {
    ClassRequest {
        class: name.to_owned(),
        config: object(config),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// Generates one `#[test]` per case in a module `$name`; `$make` is a `fn() -> Option<Subject>`
/// that reports itself why there is none.
#[macro_export]
macro_rules! suite {
    ($name:ident, $make:path) => {
        $crate::suite!(@cases $name, $make,
            random_operations random_operations_on_foreign_memory random_operations_deep
            exactly_once full_queue_takes_a_prefix invalid_requests_complete_as_invalid
            largest_transfers last_block write_zeroes unmap compare flush_and_fua abort
            drop_with_outstanding_requests two_queues_on_two_threads contents_survive_reopening
            waiting_ends_when_something_completes second_open_is_busy queue_depths_have_limits
            identity_and_health);
    };
    (@cases $name:ident, $make:path, $($case:ident)*) => {
        mod $name {
            $(#[test]
            fn $case() {
                if let Some(subject) = $make() {
                    $crate::cases::$case(&subject);
                }
            })*
        }
    };
}
