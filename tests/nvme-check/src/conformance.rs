//! The suite that every block-device backend passes.

use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::conformance::{Counts, PrintReporter, Target, run};
use daos_plugin_api::control::ClassKind;
use serde_json::json;

/// Runs the suite on the device at `address`, or those of its cases whose name has `filter` in it;
/// prints a line per case.
pub(crate) fn passes(table: &'static PluginTable, address: &str, filter: Option<&str>) -> bool {
    let config = json!({ "bdev_list": [address] });
    let mut target = Target::new(ClassKind::Bdev, "nvme", config)
        .loaded()
        .nonsense(json!({ "bdev_list": ["/dev/nvme0n1"] }))
        .nonsense(json!({ "bdev_list": ["0000:41:00.0/0"] }));
    target.filter = filter.map(str::to_owned);
    let summary = run(table, &target, &mut PrintReporter);
    let Counts {
        passed,
        skipped,
        failed,
    } = summary.counts();
    println!("conformance on {address}: {passed} passed, {failed} failed, {skipped} skipped");
    // The first case is the suite's own preparation: a filter that matches nothing is no success.
    failed == 0 && passed + skipped > 1
}
