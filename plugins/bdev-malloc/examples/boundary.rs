//! What the boundary between host and plugin costs: the same reads through the plugin's tables and
//! through a statically linked queue, in batches of 32, interleaved; medians per I/O.

use bdev_malloc::{BdevMalloc, MallocDevice};
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status};
use daos_plugin_api::control::ClassRequest;
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::BdevQueue;
use daos_plugin_api::sdk::thunks::table;
use serde_json::json;
use std::time::Instant;

const BATCH: usize = 32;
const SIZE: usize = 64 << 20;
const ROUNDS: usize = 41;
const BATCHES: usize = 20_000;

fn main() {
    let options = CallOptions::default();
    let instance =
        Instance::create(table::<BdevMalloc>(), InstanceOptions::built_in()).expect("the plugin");
    let config = json!({ "bdev_size_mib": SIZE >> 20 });
    let config = config.as_object().expect("an object").clone();
    let request = ClassRequest {
        class: "malloc".to_owned(),
        config,
    };
    let spec = instance
        .devices(&request, options)
        .expect("a device")
        .remove(0);
    let device = instance.open_bdev(&spec, options).expect("it opens");
    let mut through_tables = device.open_queue(BATCH as u32, options).expect("a queue");
    let alone = MallocDevice::alone(SIZE, 4096).expect("a device");
    let mut linked = alone.queue(BATCH as u32).expect("a queue");

    for (name, op, blocks) in [("flush", BdevOp::FLUSH, 0), ("read 4 KiB", BdevOp::READ, 1)] {
        let mut memory = vec![0u8; BATCH * 4096];
        let base = memory.as_mut_ptr();
        let iovs: Vec<IoVec> = (0..BATCH)
            .map(|i| IoVec {
                ptr: base.wrapping_add(i * 4096),
                len: 4096,
            })
            .collect();
        let batch: Vec<Request> = (0..BATCH)
            .map(|i| Request {
                op,
                flags: 0,
                reserved: 0,
                iov_count: blocks as u32,
                lba: i as u64 * 16,
                blocks,
                iov: &iovs[i],
                tag: i as u64,
                scratch: std::ptr::null_mut(),
            })
            .collect();
        let (mut tables, mut statics) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            tables.push(nanoseconds(|done| {
                // SAFETY: `iovs` and `memory` live longer; all requests complete at once.
                let taken = unsafe { through_tables.submit(&batch) }.expect("submit");
                assert_eq!(taken, BATCH);
                through_tables.poll(done).expect("poll")
            }));
            statics.push(nanoseconds(|done| {
                // SAFETY: as above.
                let taken = unsafe { linked.submit(&batch) }.expect("submit");
                assert_eq!(taken, BATCH);
                linked.poll(done).expect("poll")
            }));
        }
        let (tables, statics) = (median(tables), median(statics));
        println!(
            "{name}: {tables:.2} ns through tables, {statics:.2} ns linked, {:.2} ns boundary",
            tables - statics
        );
    }
}

/// Nanoseconds per I/O of a round.
fn nanoseconds(mut batch: impl FnMut(&mut [Completion]) -> usize) -> f64 {
    let mut done = [Completion {
        tag: 0,
        status: Status::OK,
        reserved: 0,
    }; BATCH];
    let start = Instant::now();
    for _ in 0..BATCHES {
        assert_eq!(batch(&mut done), BATCH);
    }
    start.elapsed().as_nanos() as f64 / (BATCHES * BATCH) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
