//! The suite bites: working plugins with one defect at a time are found out by the case that is about it,
//! and without a defect they pass.

use daos_kit::check::{self, Options, Verdict};
use daos_kit::{Choice, Helper, Subject, choose};
use daos_loader::{PluginFile, Policy};
use fixture_files::{BROKEN, built};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;

/// Defect, the case that finds it.
type Defects = &'static [(&'static str, &'static str)];

const MALLOC: Defects = &[
    ("any config will do", "control.wrong_types"),
    ("refuses without a word", "control.wrong_types"),
    ("malformed documents are fine", "control.malformed"),
    ("does not listen to a cancel", "control.cancel"),
    ("calls a cancel an error", "control.cancel"),
    ("a cancelled format is the last one", "control.cancel"),
    ("devices have one number", "control.same_devices"),
    ("devices change their addresses", "control.same_devices"),
    ("scans another kind", "control.scan"),
    ("a thread attaches once only", "control.threads"),
    ("dies without descriptors", "errors.no_descriptors"),
    ("does not recover", "errors.no_descriptors"),
    ("keeps what it has got", "errors.no_descriptors"),
    ("shrinks", "life.geometry"),
    ("reserved is set", "life.geometry"),
    ("the block is odd", "life.geometry"),
    ("opens twice", "life.exclusive"),
    ("says busy without a word", "life.exclusive"),
    ("calls busy an error", "life.exclusive"),
    ("is formatted once only", "life.format"),
    ("is smaller after its format", "life.format"),
    ("is formatted under its user", "life.format_open"),
    ("opens what does not exist", "life.unknown_device"),
    ("leaks a descriptor", "life.leaks"),
    ("one device for all", "life.two_devices"),
    ("memory is not aligned", "life.memory"),
    ("administration fails", "life.admin"),
    ("an event from nowhere", "life.admin"),
    ("is somebody else", "life.identity"),
    ("health is no document", "life.health"),
    ("comes to rest once only", "life.quiesce"),
    ("rests under its user", "life.quiesce_open"),
    ("unknown outcomes", "io.write_read"),
    ("drops a write now and then", "io.model"),
    ("drops writes to the last block", "io.first_and_last"),
    ("large transfers end early", "io.largest"),
    ("moves the first segment", "io.segments"),
    ("reads a byte more", "io.neighbours"),
    ("writes a block more", "io.other_blocks"),
    ("flushes fail", "ops.flush"),
    ("unmaps a block more", "ops.unmap"),
    ("zeroes nothing", "ops.write_zeroes"),
    ("zeroes little at once", "ops.large_zeroes"),
    ("compares nothing", "ops.compare"),
    ("claims less than it does", "ops.unclaimed"),
    ("takes more than it holds", "queue.depth"),
    ("swallows requests", "queue.exactly_once"),
    ("completes twice", "queue.exactly_once"),
    ("mixes up tags", "queue.exactly_once"),
    ("writes behind its completions", "queue.exactly_once"),
    ("completes what nobody asked for", "queue.idle"),
    ("returns more than there is room for", "queue.capacity"),
    ("any depth will do", "queue.wrong_depth"),
    ("has a queue less", "queue.queue_count"),
    ("has a queue more", "queue.queue_count"),
    ("queues are never given back", "queue.queue_count"),
    ("an abort loses the request", "queue.abort"),
    ("aborts anything", "queue.abort_unknown"),
    ("writes to memory of closed queues", "queue.close_busy"),
    ("queues share completions", "queue.two_threads"),
    ("sleeps through completions", "queue.arm_wait"),
    ("waiting is refused", "queue.arm_idle"),
    ("ends beyond the end", "faults.beyond_the_end"),
    ("no blocks are fine", "faults.no_blocks"),
    ("any size is fine", "faults.too_large"),
    ("the sum does not matter", "faults.wrong_sum"),
    ("any number of segments", "faults.too_many_segments"),
    ("misaligned memory is forgotten", "faults.misaligned"),
    ("any operation is fine", "faults.unknown_op"),
    ("one bad request spoils the batch", "faults.mixed_batch"),
    ("crashes in a compare", "ops.compare"),
    ("exits in an unmap", "ops.unmap"),
    ("hangs in a flush", "ops.flush"),
];

/// Of a device whose cache goes with its closing.
const CACHED: Defects = &[
    ("cannot be formatted", "life.format"),
    ("flushes keep nothing", "durable.flush"),
    ("flushes keep a few blocks", "durable.flush"),
    ("a flush is for its own queue", "durable.queues"),
    ("a flush keeps the first of two writes", "durable.order"),
    ("flushes forget zeroes", "durable.zeroes"),
    ("FUA is not listened to", "durable.fua"),
    ("an older write overtakes FUA", "durable.fua_order"),
    ("durable only at close", "durable.killed"),
    ("FUA is durable only at close", "durable.killed_fua"),
];

const RAM: Defects = &[
    ("dies without descriptors", "errors.no_descriptors"),
    ("does not recover", "errors.no_descriptors"),
    ("keeps what it has got", "errors.no_descriptors"),
    ("an odd granularity", "life.info"),
    ("a relative mount point", "life.mount_point"),
    ("opens twice", "life.exclusive"),
    ("open memory is listed as free", "life.in_use"),
    ("opens what does not exist", "life.unknown"),
    ("mounts once only", "life.mount_again"),
    ("leaks a descriptor", "life.leaks"),
    ("new regions are dirty", "regions.new_region"),
    ("regions are not aligned", "regions.new_region"),
    ("forgets contents", "regions.contents_persist"),
    ("removes nothing", "regions.removed_contents"),
    ("regions share their memory", "regions.separate"),
    ("makes what exists", "regions.exists"),
    ("makes what is missing", "regions.not_found"),
    ("removes what is missing", "regions.not_found"),
    ("maps regions twice", "regions.busy"),
    ("any name will do", "regions.names"),
    ("drains fail", "regions.ranges"),
    ("empty ranges fail", "regions.ranges"),
    ("one thread only", "regions.threads"),
    ("space is never taken", "space.accounting"),
    ("durable only at close", "durable.killed"),
    ("drains keep nothing", "durable.killed_drain"),
    ("takes less when there is no space", "space.too_large"),
    ("no bytes are fine", "space.no_bytes"),
    ("calls no space an error", "space.fill"),
];

const TCP: Defects = &[
    ("calls a cancelled scan an error", "control.cancel"),
    ("dies without descriptors", "errors.no_descriptors"),
    ("does not recover", "errors.no_descriptors"),
    ("keeps what it has got", "errors.no_descriptors"),
    ("moves no remote memory", "basics.info"),
    ("describes itself anew", "basics.info"),
    ("any provider will do", "basics.unknown_provider"),
    ("any interface will do", "basics.unknown_interface"),
    ("one address for all", "basics.addresses"),
    ("addresses are longer than promised", "basics.addresses"),
    ("numbers peers anew", "basics.resolve_twice"),
    ("any address will do", "basics.garbage_address"),
    ("any operation is fine", "basics.unknown_op"),
    ("completes what nobody asked for", "basics.idle"),
    ("leaks a descriptor", "basics.leaks"),
    ("lengths are zero", "message.sizes"),
    ("messages end early", "message.sizes"),
    ("everything was a send", "message.to_self"),
    ("nothing completes", "message.order"),
    ("tags do not matter", "message.tags"),
    ("tags are short", "message.tag_bits"),
    ("truncation is fine", "message.truncated"),
    ("cancelled is fine", "message.cancel"),
    ("cancels anything", "message.cancel_unknown"),
    ("writes end early", "remote.write"),
    ("reads end early", "remote.read"),
    ("every access is fine", "remote.wrong_key"),
    ("every access is fine", "remote.out_of_bounds"),
    ("gives every right", "remote.missing_right"),
    ("keeps registrations", "remote.ended"),
    ("unreachable is fine", "peers.absent"),
    ("releases anything", "peers.unknown_peer"),
    ("reaches its own process only", "peers.other_process"),
    ("unreachable is fine", "peers.other_process"),
    ("sleeps too long", "threads.wakes_up"),
    ("waiting is refused", "threads.arm_idle"),
];

fn helper() -> Helper {
    Helper {
        program: env!("CARGO_BIN_EXE_daos_server_helper").into(),
        log_level: "error".to_owned(),
    }
}

/// The plugin with a defect; the directory is for SCM and goes with the test.
fn subject(of: &str, defect: &str, directory: &TempDir) -> Subject {
    let info = PluginFile::inspect(&built(BROKEN), &Policy::default()).expect("a plugin");
    let mount = directory.path().join("scm");
    let config = match of {
        "malloc" => json!({ "bdev_size_mib": 64, "bdev_number": 2 }),
        "cached" => json!({ "bdev_list": [directory.path().join("cached")] }),
        "ram" => json!({ "scm_mount": mount, "scm_size_mib": 8 }),
        _ => json!({}),
    };
    let Value::Object(config) = config else {
        unreachable!("an object")
    };
    let Value::Object(settings) = json!({ "of": of, "defect": defect }) else {
        unreachable!("an object")
    };
    let choice = Choice {
        class: Some(of.to_owned()),
        config,
        settings,
        ..Choice::default()
    };
    choose(&info, &choice).expect("a subject")
}

fn directory() -> TempDir {
    TempDir::with_prefix_in("kit-broken-", "/dev/shm").expect("a tmpfs")
}

fn all_are_found(of: &str, defects: Defects) {
    let directory = directory();
    let mut survivors = Vec::new();
    for (defect, case) in defects {
        let options = Options {
            cases: Some(glob::Pattern::new(case).expect("a pattern")),
            // Those that wait for what never comes; a working plugin takes a fraction of it.
            deadline: Duration::from_secs(15),
            ..Options::default()
        };
        let subject = subject(of, defect, &directory);
        let report = check::run(&helper(), &subject, &options, &mut |_| ()).expect("a report");
        let found = report.cases.iter().find(|row| row.case == *case);
        let setup = report.cases.iter().find(|row| row.case == "setup");
        // What cannot even start is found, too, if the case is about what `setup` does.
        let failed =
            |row: Option<&check::CaseRow>| row.is_some_and(|r| r.verdict == Verdict::Failed);
        if !failed(found) {
            survivors.push(format!("{defect:?} passes {case}: {found:?} {setup:?}"));
        } else if let Some(row) = found {
            println!("{of}: {defect}: {case}: {}", row.reason);
        }
    }
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
}

fn passes_without_a_defect(of: &str, rounds: u32) {
    let directory = directory();
    let options = Options {
        repeat: rounds,
        deadline: Duration::from_secs(60),
        ..Options::default()
    };
    let subject = subject(of, "", &directory);
    let report = check::run(&helper(), &subject, &options, &mut |_| ()).expect("a report");
    assert!(report.is_ok(), "{}", report.summary());
    println!("{}", report.summary());
}

/// Runs of the whole suite on a plugin without a defect: one, or 20 in a long run.
fn rounds() -> u32 {
    match std::env::var_os("SOAK") {
        Some(_) => 20,
        None => 1,
    }
}

#[test]
fn each_defect_of_malloc_is_found_by_its_case() {
    passes_without_a_defect("malloc", rounds());
    all_are_found("malloc", MALLOC);
}

#[test]
fn each_defect_of_durability_is_found_by_its_case() {
    passes_without_a_defect("cached", rounds());
    all_are_found("cached", CACHED);
}

#[test]
fn each_defect_of_ram_is_found_by_its_case() {
    passes_without_a_defect("ram", rounds());
    all_are_found("ram", RAM);
}

#[test]
fn each_defect_of_tcp_is_found_by_its_case() {
    passes_without_a_defect("tcp", rounds());
    all_are_found("tcp", TCP);
}

#[test]
fn there_are_as_many_defects_as_a_mutation_run_needs() {
    assert!(MALLOC.len() + CACHED.len() + RAM.len() + TCP.len() >= 110);
    let known = |kind| {
        check::catalogue(kind)
            .into_iter()
            .map(|c| c.id)
            .collect::<Vec<_>>()
    };
    use daos_plugin_api::control::ClassKind;
    for (kind, defects) in [
        (ClassKind::Bdev, MALLOC),
        (ClassKind::Bdev, CACHED),
        (ClassKind::Scm, RAM),
        (ClassKind::Fabric, TCP),
    ] {
        for (defect, case) in defects {
            assert!(
                known(kind).contains(case),
                "{defect}: there is no case {case}"
            );
        }
    }
}
