//! The suite that every block-device backend passes.

use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::conformance::{Counts, PrintReporter, Target, catalogue, run};
use daos_plugin_api::control::ClassKind;
use serde_json::json;

/// Runs the suite on the device at `address`, or those of its cases that are named, by their short names; prints a line
/// per case.
///
/// # Errors
/// There is no such case.
pub(crate) fn passes(
    table: &'static PluginTable,
    address: &str,
    only: &[String],
) -> Result<bool, String> {
    let config = json!({ "bdev_list": [address] });
    let mut target = Target::new(ClassKind::Bdev, "nvme", config)
        .loaded()
        .nonsense(json!({ "bdev_list": ["/dev/nvme0n1"] }))
        .nonsense(json!({ "bdev_list": ["0000:41:00.0/0"] }));
    if !only.is_empty() {
        let known = catalogue(ClassKind::Bdev);
        if let Some(unknown) = only.iter().find(|id| known.iter().all(|k| k.id != **id)) {
            return Err(format!("the suite has no case {unknown}"));
        }
        target = target.only(only.iter().cloned());
    }
    let summary = run(table, &target, &mut PrintReporter);
    let Counts {
        passed,
        skipped,
        failed,
    } = summary.counts();
    println!("conformance on {address}: {passed} passed, {failed} failed, {skipped} skipped");
    // What was asked for has run, beside the suite's own preparation.
    Ok(failed == 0 && passed + skipped > only.len())
}
