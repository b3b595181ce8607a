//! The suite that every block-device backend passes.

use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::conformance::{
    Counts, PrintReporter, Record, Reporter, Summary, Target, cases, run,
};
use daos_plugin_api::control::ClassKind;
use serde_json::{Map, Value, json};

/// What depends on the block size or on a controller shared with another namespace: the rest of
/// the suite would only repeat itself, at a second for each time that it attaches the controller.
pub(crate) const ABOUT_BLOCKS: &[&str] = &[
    "geometry",
    "identity",
    "reset",
    "written",
    "block",
    "segments",
    "zeroes",
    "compare",
    "depth",
    "as many queues",
    "batch",
];

/// Runs the suite on the device at `address`, or those of its cases whose name has one of the
/// `words`; prints a line per case.
pub(crate) fn passes(
    table: &'static PluginTable,
    settings: &Map<String, Value>,
    address: &str,
    words: &[&str],
) -> bool {
    let config = json!({ "bdev_list": [address] });
    let mut target = Target::new(ClassKind::Bdev, "nvme", config)
        .loaded()
        .nonsense(json!({ "bdev_list": ["/dev/nvme0n1"] }))
        .nonsense(json!({ "bdev_list": ["0000:41:00.0/0"] }));
    target.settings = settings.clone();
    let summary = if words.is_empty() {
        run(table, &target, &mut PrintReporter)
    } else {
        let names = cases(ClassKind::Bdev);
        if let Some(gone) = words
            .iter()
            .find(|word| !names.iter().any(|name| name.contains(**word)))
        {
            println!("no case of the suite has {gone:?} in its name");
            return false;
        }
        let mut all = Summary::default();
        for name in names
            .into_iter()
            .filter(|name| words.iter().any(|word| name.contains(word)))
        {
            target.filter = Some(name.to_owned());
            let one = run(table, &target, &mut Quiet);
            for record in one.records.into_iter().filter(|record| record.case == name) {
                PrintReporter.ended(&record);
                all.records.push(record);
            }
        }
        all
    };
    let Counts {
        passed,
        skipped,
        failed,
    } = summary.counts();
    println!("conformance on {address}: {passed} passed, {failed} failed, {skipped} skipped");
    summary.is_ok()
}

/// Prints nothing: each of these runs repeats the suite's preparation.
struct Quiet;

impl Reporter for Quiet {
    fn ended(&mut self, _record: &Record) {}
}
