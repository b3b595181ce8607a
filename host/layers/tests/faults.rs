//! What each fault does to requests and to what the device holds.

use bdev_malloc::BdevMalloc;
use bdev_model::driver::{Arena, Driver, Io};
use bdev_model::{class, instance, serde_json::json};
use daos_layers::{Stack, parse};
use daos_plugin_api::abi::{BdevEvent, BdevOp, Status};
use daos_plugin_api::host::{BdevDevice, CallOptions};
use daos_plugin_api::sdk::thunks::table;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;

struct Rig {
    stack: Stack,
    base: BdevDevice,
}

impl Rig {
    fn new() -> Self {
        let instance = instance(table::<BdevMalloc>(), json!({ "block_size": BLOCK }));
        let request = class("malloc", json!({ "bdev_size_mib": 16 }));
        let devices = instance.devices(&request, CallOptions::default());
        let base = instance
            .open_bdev(&devices.unwrap()[0], CallOptions::default())
            .unwrap();
        Self {
            stack: Stack::new(0, base.clone()),
            base,
        }
    }

    /// With one rule of the layer of faults.
    fn fault(rule: &str) -> Self {
        Self::layers(&format!(
            r#"[{{"fault": {{"seed": 5, "rules": [{rule}]}}}}]"#
        ))
    }

    fn layers(layers: &str) -> Self {
        let mut rig = Self::new();
        rig.stack.set(&parse(layers).unwrap()).unwrap();
        rig
    }

    fn driver(&self, depth: u32) -> Driver {
        Driver::new(
            self.stack.top(),
            depth,
            Arena::pool(self.stack.top(), 2 << 20),
        )
    }

    /// What the device itself holds.
    fn medium(&self, lba: u64, blocks: u64) -> Vec<u8> {
        let mut driver = Driver::new(&self.base, 4, Arena::pool(&self.base, 2 << 20));
        let len = blocks as usize * BLOCK;
        assert!(
            driver
                .run(&Io::with(BdevOp::READ, lba, blocks, 0..len))
                .is_ok()
        );
        driver.memory()[..len].to_vec()
    }

    fn fired(&self) -> Vec<u64> {
        let layers = self.stack.state();
        layers
            .iter()
            .flat_map(|l| l.rules.iter().map(|r| r.fired))
            .collect()
    }
}

fn write(driver: &mut Driver, lba: u64, blocks: u64, byte: u8) -> Status {
    let len = blocks as usize * BLOCK;
    driver.memory()[..len].fill(byte);
    driver.run(&Io::with(BdevOp::WRITE, lba, blocks, 0..len))
}

fn read(driver: &mut Driver, lba: u64, blocks: u64) -> (Status, Vec<u8>) {
    let len = blocks as usize * BLOCK;
    let status = driver.run(&Io::with(BdevOp::READ, lba, blocks, 0..len));
    (status, driver.memory()[..len].to_vec())
}

fn bits_that_differ(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

#[test]
fn errors_hit_the_range_the_operation_and_the_count_that_were_named() {
    let rig = Rig::fault(
        r#"{"do": "error", "op": ["read"], "first_block": 10, "last_block": 19, "skip": 1, "count": 2, "status": "media"}"#,
    );
    let mut driver = rig.driver(4);
    assert_eq!(write(&mut driver, 8, 16, 1), Status::OK);
    let outside = [read(&mut driver, 0, 10).0, read(&mut driver, 20, 4).0];
    assert_eq!(outside, [Status::OK; 2]);
    let inside: Vec<_> = [9, 19, 12, 10]
        .map(|lba| read(&mut driver, lba, 2).0)
        .into();
    assert_eq!(
        inside,
        [Status::OK, Status::MEDIA, Status::MEDIA, Status::OK]
    );
    assert_eq!(rig.fired(), [2]);
}

#[test]
fn chance_repeats_with_its_seed() {
    let run = || {
        let rig = Rig::fault(r#"{"do": "error", "probability": 0.25}"#);
        let mut driver = rig.driver(4);
        (0..400)
            .map(|n| read(&mut driver, n, 1).0.is_ok())
            .collect::<Vec<_>>()
    };
    let first = run();
    assert_eq!(first, run());
    let failed = first.iter().filter(|ok| !**ok).count();
    assert!((60..=140).contains(&failed), "{failed} of 400");
}

#[test]
fn dropped_writes_and_flushes_are_told_to_be_done_and_are_not() {
    let rig = Rig::fault(r#"{"do": "drop", "op": ["write", "flush"], "skip": 1}"#);
    let mut driver = rig.driver(4);
    assert_eq!(write(&mut driver, 3, 2, 0xaa), Status::OK);
    assert_eq!(write(&mut driver, 3, 2, 0xbb), Status::OK);
    assert_eq!(driver.run(&Io::bare(BdevOp::FLUSH, 0, 0)), Status::OK);
    assert_eq!(rig.medium(3, 2), vec![0xaa; 2 * BLOCK]);
    assert_eq!(rig.fired(), [2]);
}

#[test]
fn torn_writes_leave_a_front_behind() {
    let rig = Rig::fault(r#"{"do": "torn", "skip": 2}"#);
    let mut driver = rig.driver(8);
    assert_eq!(write(&mut driver, 0, 8, 0x11), Status::OK);
    assert_eq!(write(&mut driver, 20, 1, 0x11), Status::OK);
    assert_eq!(write(&mut driver, 0, 8, 0x22), Status::OK);
    assert_eq!(write(&mut driver, 20, 1, 0x22), Status::OK);
    for (lba, blocks, grain) in [(0, 8, BLOCK), (20, 1, 512)] {
        let held = rig.medium(lba, blocks);
        let front = held.iter().take_while(|byte| **byte == 0x22).count();
        assert!(
            front > 0 && front < held.len(),
            "{front} bytes of {}",
            held.len()
        );
        assert!(front.is_multiple_of(grain));
        assert!(held[front..].iter().all(|byte| *byte == 0x11));
    }
}

#[test]
fn torn_writes_can_be_reported() {
    let rig = Rig::fault(r#"{"do": "torn", "status": "io"}"#);
    let mut driver = rig.driver(8);
    assert_eq!(write(&mut driver, 0, 8, 0x22), Status::IO);
    assert_eq!(write(&mut driver, 20, 1, 0x22), Status::IO);
    assert_eq!(rig.medium(0, 1), vec![0x22; BLOCK]);
}

#[test]
fn one_bit_flips_on_the_way_or_on_the_medium() {
    let rig = Rig::fault(r#"{"do": "flip", "count": 1}"#);
    let mut driver = rig.driver(4);
    assert_eq!(write(&mut driver, 0, 8, 0), Status::OK);
    let (status, got) = read(&mut driver, 0, 8);
    assert_eq!(
        (status, bits_that_differ(&got, &vec![0; 8 * BLOCK])),
        (Status::OK, 1)
    );
    assert_eq!(rig.medium(0, 8), vec![0; 8 * BLOCK], "only on the way");

    let rig = Rig::fault(r#"{"do": "flip", "op": ["write"], "count": 1}"#);
    let mut driver = rig.driver(4);
    assert_eq!(write(&mut driver, 0, 8, 0x5a), Status::OK);
    assert!(
        driver.memory()[..8 * BLOCK]
            .iter()
            .all(|byte| *byte == 0x5a),
        "the writer's memory is as it was"
    );
    let held = rig.medium(0, 8);
    assert_eq!(bits_that_differ(&held, &vec![0x5a; 8 * BLOCK]), 1);
    assert_eq!(read(&mut driver, 0, 8), (Status::OK, held));
}

#[test]
fn a_removed_device_says_so_once_and_stays_away() {
    let rig = Rig::fault(r#"{"do": "remove", "skip": 3}"#);
    let mut driver = rig.driver(8);
    for n in 0..8u64 {
        let at = n as usize * BLOCK..(n as usize + 1) * BLOCK;
        driver.stage(&Io::with(BdevOp::WRITE, n, 1, at));
    }
    let done = driver.finish();
    assert_eq!(done.len(), 8, "each completes once");
    assert!(done.values().filter(|s| **s == Status::DEVICE_GONE).count() >= 5);
    assert_eq!(read(&mut driver, 100, 1).0, Status::DEVICE_GONE);
    assert_eq!(
        rig.driver(2).run(&Io::bare(BdevOp::FLUSH, 0, 0)),
        Status::DEVICE_GONE
    );
    let top = rig.stack.top();
    assert_eq!(top.next_event().map(|e| e.kind), Some(BdevEvent::REMOVED));
    assert!(top.next_event().is_none());
}

#[test]
fn delayed_completions_wake_a_sleeper_in_time_and_in_their_own_order() {
    let rig = Rig::layers(
        r#"[{"delay": {"rules": [{"op": ["write"], "fixed_us": 60000}, {"op": ["read"], "fixed_us": 20000}]}}]"#,
    );
    let mut driver = rig.driver(4);
    let start = Instant::now();
    let slow = driver.stage(&Io::with(BdevOp::WRITE, 0, 1, 0..BLOCK));
    let fast = driver.stage(&Io::with(BdevOp::READ, 9, 1, BLOCK..2 * BLOCK));
    assert_eq!(driver.submit(), 2);
    let mut order = Vec::new();
    while order.len() < 2 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "nobody woke the sleeper"
        );
        driver.wait();
        order.extend(
            driver
                .poll(4)
                .into_iter()
                .map(|(tag, _)| (tag, start.elapsed())),
        );
    }
    assert_eq!((order[0].0, order[1].0), (fast, slow));
    assert!(order[0].1 >= Duration::from_millis(20) && order[1].1 >= Duration::from_millis(60));
}

#[test]
fn an_aborted_request_that_is_kept_back_ends_at_once() {
    let rig = Rig::layers(r#"[{"delay": {"rules": [{"fixed_us": 3600000000}]}}]"#);
    let mut driver = rig.driver(4);
    let tag = driver.stage(&Io::with(BdevOp::WRITE, 0, 1, 0..BLOCK));
    assert_eq!(driver.submit(), 1);
    assert!(driver.poll(4).is_empty());
    assert_eq!(driver.abort(tag), Ok(()));
    assert_eq!(driver.poll(4).len(), 1);
    assert_eq!(driver.abort(tag), Err(Status::NOT_FOUND));
    // What is kept back when the queue goes is nobody's any more.
    driver.stage(&Io::with(BdevOp::WRITE, 0, 1, 0..BLOCK));
    assert_eq!(driver.submit(), 1);
    assert!(driver.poll(4).is_empty());
    drop(driver.close());
}

#[test]
fn statistics_count_by_operation_and_size_and_outlive_a_change_of_layers() {
    let mut rig = Rig::layers(
        r#"[{"stats": {}}, {"fault": {"rules": [{"do": "error", "op": ["read"], "count": 1}]}}]"#,
    );
    let mut driver = rig.driver(4);
    assert_eq!(read(&mut driver, 0, 1).0, Status::IO);
    assert_eq!(read(&mut driver, 0, 1).0, Status::OK);
    assert_eq!(write(&mut driver, 0, 32, 1), Status::OK);
    drop(driver);
    rig.stack
        .set(&parse(r#"[{"stats": {}}]"#).unwrap())
        .unwrap();
    let mut driver = rig.driver(4);
    assert_eq!(write(&mut driver, 0, 32, 1), Status::OK);
    let layers = rig.stack.state();
    let rows: Vec<_> = layers[0]
        .stats
        .iter()
        .map(|r| (r.op.as_str(), r.size.as_str(), r.count, r.failed))
        .collect();
    assert_eq!(rows, [("read", "4k", 2, 1), ("write", "256k", 2, 0)]);
}

#[test]
fn layers_lie_over_the_devices_that_they_name() {
    let mut rig = Rig::new();
    let layers = parse(r#"[{"stats": {"devices": [1]}}, {"fault": {"devices": [0, 2]}}]"#).unwrap();
    rig.stack.set(&layers).unwrap();
    assert_eq!(rig.stack.names(), ["fault"]);
    rig.stack.set(&[]).unwrap();
    assert!(rig.stack.state().is_empty());
}
