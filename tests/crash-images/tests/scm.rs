//! What a crash does to SCM: what was flushed and drained stays, of the rest any words may.

use crash_images::{Crash, Instruction, Method, Power, Tear};
use daos_plugin_api::abi::{ScmInfo, Status};
use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::{ClassKind, ClassRequest, DeviceSpec, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions, ScmMapping, ScmMemory};
use daos_plugin_api::sdk::thunks;
use scm_ram::ScmRam;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tempfile::TempDir;

/// Which plugin is wrapped: `ram`, or `dcpm` with its own way to the medium.
type Kind = Option<Method>;

/// Those that promise nothing before a drain.
const KINDS: [Kind; 4] = [
    None,
    Some(Method::Lines(Instruction::Clwb)),
    Some(Method::Lines(Instruction::ClflushOpt)),
    Some(Method::Lines(Instruction::Clflush)),
];
/// The kernel makes a flush durable at once.
const SYNC: Kind = Some(Method::Msync);

struct Bed {
    power: Power,
    instance: Instance,
    spec: DeviceSpec,
    _crash: Crash,
    _dir: TempDir,
}

fn options() -> CallOptions<'static> {
    CallOptions::default()
}

/// The wrapped plugin mounts a tmpfs if it may; without that capability it uses a directory.
fn forgo_mounting() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut sets = capabilities(None).expect("capabilities");
    sets.effective.remove(CapabilitySet::SYS_ADMIN);
    set_capabilities(None, sets).expect("drop a capability");
}

fn class(kind: Kind) -> &'static str {
    if kind.is_some() { "dcpm" } else { "ram" }
}

fn config(dir: &TempDir, kind: Kind, mib: u64) -> Value {
    let mount = dir.path().join("scm");
    match kind {
        None => json!({"scm_mount": mount, "scm_size_mib": mib}),
        Some(_) => json!({"scm_mount": mount, "scm_list": [dir.path()], "scm_size_mib": mib}),
    }
}

fn wrap(kind: Kind, power: &Power) -> Crash {
    match kind {
        None => Crash::wrap(thunks::table::<ScmRam>(), power, Tear::Block),
        Some(method) => Crash::wrap_dcpm(power, method),
    }
    .expect("wrapped")
}

impl Bed {
    fn new(kind: Kind) -> Self {
        forgo_mounting();
        let dir = TempDir::with_prefix_in("crash-images-", "/dev/shm").expect("a tmpfs");
        let Value::Object(config) = config(&dir, kind, 8) else {
            unreachable!("an object literal")
        };
        let power = Power::on();
        let crash = wrap(kind, &power);
        let instance =
            Instance::create(crash.table(), InstanceOptions::built_in()).expect("instance");
        let request = ClassRequest {
            class: class(kind).into(),
            config,
        };
        let spec = instance
            .devices(&request, options())
            .expect("devices")
            .remove(0);
        let request = FormatRequest {
            device: spec.clone(),
            overwrite_foreign: false,
            nvme_format: false,
            check_only: false,
        };
        instance.format(&request, options()).expect("format");
        Self {
            power,
            instance,
            spec,
            _crash: crash,
            _dir: dir,
        }
    }

    fn open(&self) -> ScmMemory {
        self.instance.open_scm(&self.spec, options()).expect("open")
    }

    /// The region as a fresh opener sees it.
    fn words(&self) -> Vec<u64> {
        let memory = self.open();
        let region = memory.open_region("r", options()).expect("region");
        (0..512).map(|n| get(&region, n)).collect()
    }
}

fn put(region: &ScmMapping, word: usize, value: u64) {
    assert!(word * 8 + 8 <= region.len());
    // SAFETY: inside the mapping, aligned, and only this thread uses it.
    unsafe { region.ptr().cast::<u64>().add(word).write(value) }
}

fn get(region: &ScmMapping, word: usize) -> u64 {
    assert!(word * 8 + 8 <= region.len());
    // SAFETY: as above.
    unsafe { region.ptr().cast::<u64>().add(word).read() }
}

/// What is seen of the region after a crash with each seed, the same of each of the plugins.
fn outcomes<T: Ord + std::fmt::Debug>(
    kinds: &[Kind],
    work: impl Fn(&ScmMapping),
    see: impl Fn(&[u64]) -> T,
) -> BTreeSet<T> {
    let mut all = kinds.iter().map(|kind| outcomes_of(*kind, &work, &see));
    let first = all.next().expect("a kind");
    all.for_each(|other| assert_eq!(other, first));
    first
}

fn outcomes_of<T: Ord>(
    kind: Kind,
    work: impl Fn(&ScmMapping),
    see: impl Fn(&[u64]) -> T,
) -> BTreeSet<T> {
    (0..40)
        .map(|seed| {
            let bed = Bed::new(kind);
            let memory = bed.open();
            let region = memory.create_region("r", 4096, options()).expect("region");
            work(&region);
            bed.power.crash(seed).expect("crash");
            drop((region, memory));
            see(&bed.words())
        })
        .collect()
}

#[test]
fn stores_that_were_not_persisted_survive_word_by_word() {
    let seen = outcomes(
        &KINDS,
        |region| {
            put(region, 0, 1);
            put(region, 1, 2);
        },
        |words| (words[0], words[1]),
    );
    assert_eq!(seen, BTreeSet::from([(0, 0), (1, 0), (0, 2), (1, 2)]));
}

#[test]
fn persisted_words_cannot_vanish() {
    let seen = outcomes(
        &KINDS,
        |region| {
            put(region, 0, 1);
            region.persist(0, 8).expect("persist");
            put(region, 100, 2);
            region.flush(800, 8).expect("flush");
            region.drain().expect("drain");
            put(region, 200, 3);
        },
        |words| {
            assert_eq!((words[0], words[100]), (1, 2));
            words[200]
        },
    );
    assert_eq!(seen, BTreeSet::from([0, 3]));
}

#[test]
fn a_flush_without_its_drain_promises_nothing() {
    let seen = outcomes(
        &KINDS,
        |region| {
            put(region, 0, 1);
            region.flush(0, 8).expect("flush");
        },
        |words| words[0],
    );
    assert_eq!(seen, BTreeSet::from([0, 1]));
}

#[test]
fn a_drain_covers_the_flushes_of_its_own_thread_only() {
    let seen = outcomes(
        &KINDS,
        |region| {
            put(region, 0, 1);
            region.flush(0, 8).expect("flush");
            std::thread::scope(|scope| {
                scope.spawn(|| region.drain().expect("drain"));
            });
        },
        |words| words[0],
    );
    assert_eq!(seen, BTreeSet::from([0, 1]));
}

#[test]
fn a_drain_covers_what_was_flushed_not_what_was_stored_since() {
    let seen = outcomes(
        &KINDS,
        |region| {
            put(region, 0, 1);
            region.flush(0, 8).expect("flush");
            put(region, 0, 2);
            region.drain().expect("drain");
        },
        |words| words[0],
    );
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn persisting_covers_the_whole_line_and_not_the_next() {
    let seen = outcomes(
        &KINDS,
        |region| {
            put(region, 7, 1);
            put(region, 8, 2);
            region.persist(0, 1).expect("persist");
        },
        |words| {
            assert_eq!(words[7], 1);
            words[8]
        },
    );
    assert_eq!(seen, BTreeSet::from([0, 2]));
}

#[test]
fn the_same_seed_leaves_the_same_image() {
    KINDS
        .into_iter()
        .chain([SYNC])
        .for_each(the_same_seed_leaves_the_same_image_of);
}

fn the_same_seed_leaves_the_same_image_of(kind: Kind) {
    let image = |seed| {
        let bed = Bed::new(kind);
        let memory = bed.open();
        let region = memory.create_region("r", 4096, options()).expect("region");
        (0..512).for_each(|n| put(&region, n, n as u64 + 1));
        let survival = bed.power.crash(seed).expect("crash");
        drop((region, memory));
        (survival, bed.words())
    };
    let first = image(5);
    assert_eq!(first, image(5));
    assert_ne!(first, image(6));
    assert!(first.0.kept > 100 && first.0.lost > 100, "{:?}", first.0);
}

#[test]
fn what_was_mapped_stays_dead() {
    KINDS
        .into_iter()
        .chain([SYNC])
        .for_each(what_was_mapped_stays_dead_of);
}

fn what_was_mapped_stays_dead_of(kind: Kind) {
    let bed = Bed::new(kind);
    let memory = bed.open();
    let region = memory.create_region("r", 4096, options()).expect("region");
    put(&region, 0, 1);
    region.persist(0, 8).expect("persist");
    bed.power.fail();
    put(&region, 0, 9);
    assert_eq!(region.persist(0, 8), Err(Status::DEVICE_GONE));
    bed.power.crash(0).expect("crash");
    put(&region, 0, 9);
    assert_eq!(region.persist(0, 8), Err(Status::DEVICE_GONE));
    let status = memory
        .create_region("s", 4096, options())
        .err()
        .map(|e| e.status);
    assert_eq!(status, Some(Status::DEVICE_GONE));
    // The next life does not care when the last one lets go.
    let next = bed.open();
    let again = next.open_region("r", options()).expect("region");
    assert!([1, 9].contains(&get(&again, 0)));
    put(&again, 1, 5);
    drop((region, memory));
    again.persist(8, 8).expect("persist");
    let second = bed.instance.open_scm(&bed.spec, options()).err();
    assert_eq!(second.map(|e| e.status), Some(Status::BUSY));
}

#[test]
fn without_a_crash_nothing_is_lost_by_closing() {
    KINDS
        .into_iter()
        .chain([SYNC])
        .for_each(without_a_crash_nothing_is_lost_by_closing_of);
}

fn without_a_crash_nothing_is_lost_by_closing_of(kind: Kind) {
    let bed = Bed::new(kind);
    let memory = bed.open();
    assert_eq!(memory.info().expect("info").flags & ScmInfo::EPHEMERAL, 0);
    let region = memory.create_region("r", 4096, options()).expect("region");
    put(&region, 3, 7);
    drop((region, memory));
    assert_eq!(bed.words()[3], 7);
    // But it is still only in the cache.
    let lost = (0..40).any(|seed| {
        let bed = Bed::new(kind);
        let memory = bed.open();
        let region = memory.create_region("r", 4096, options()).expect("region");
        put(&region, 3, 7);
        drop((region, memory));
        bed.power.crash(seed).expect("crash");
        bed.words()[3] == 0
    });
    assert!(lost);
}

#[test]
fn the_kernel_makes_a_flush_durable_without_a_drain() {
    let seen = outcomes(
        &[SYNC],
        |region| {
            put(region, 0, 1);
            region.flush(0, 8).expect("flush");
            put(region, 8, 2);
        },
        |words| {
            assert_eq!(words[0], 1);
            words[8]
        },
    );
    assert_eq!(seen, BTreeSet::from([0, 2]));
}

#[test]
fn cached_scm_keeps_every_promise() {
    forgo_mounting();
    for kind in [None, KINDS[1], SYNC] {
        let dir = TempDir::with_prefix_in("crash-images-", "/dev/shm").expect("a tmpfs");
        let crash = wrap(kind, &Power::on());
        let target = Target::new(ClassKind::Scm, class(kind), config(&dir, kind, 16));
        check(crash.table(), target);
    }
}
