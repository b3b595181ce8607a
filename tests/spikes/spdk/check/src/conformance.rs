//! The suite that every block-device backend passes.

use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::conformance::{PrintReporter, Target, run};
use daos_plugin_api::control::ClassKind;
use serde_json::{Map, Value, json};

/// Runs the suite on the device at `address`; prints a line per case.
pub(crate) fn passes(
    table: &'static PluginTable,
    settings: &Map<String, Value>,
    address: &str,
) -> bool {
    let config = json!({ "bdev_list": [address] });
    let mut target = Target::new(ClassKind::Bdev, "nvme", config)
        .loaded()
        .nonsense(json!({ "bdev_list": ["/dev/nvme0n1"] }))
        .nonsense(json!({ "bdev_list": ["0000:41:00.0/0"] }));
    target.settings = settings.clone();
    let summary = run(table, &target, &mut PrintReporter);
    println!("conformance on {address}: {summary}");
    summary.is_ok()
}
