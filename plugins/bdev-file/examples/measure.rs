//! Random or sequential I/O on a file through the plugin's tables: IOPS and CPU time per I/O, for a
//! comparison with `fio --ioengine=io_uring --direct=1` on the same file.
//!
//! Usage: `measure FILE MIB OP BLOCK DEPTH SECONDS [ENGINE] [IDLE]`, OP one of randread, randwrite,
//! read, write; ENGINE auto, uring or threads; IDLE busy (poll all the time, the default) or sleep
//! (as `arm_wait` says when a poll brings nothing). The file is made if it does not exist.

use bdev_file::BdevFile;
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status, WaitKind};
use daos_plugin_api::control::{ClassRequest, DeviceState, FormatRequest};
use daos_plugin_api::host::{BdevQueue, CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::thunks::table;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::json;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, mib, op, block, depth, seconds, rest @ ..] = args.as_slice() else {
        eprintln!("usage: measure FILE MIB OP BLOCK DEPTH SECONDS [ENGINE] [IDLE]");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let (mib, block, depth) = (number(mib), number(block), number(depth) as usize);
    let sleeps = rest.get(1).is_some_and(|idle| idle == "sleep");
    let settings = json!({ "io_engine": rest.first().map_or("auto", |engine| engine.as_str()) });
    let options = CallOptions::default();
    let instance = Instance::create(
        table::<BdevFile>(),
        InstanceOptions::built_in().settings(settings.as_object().expect("an object").clone()),
    )
    .expect("the plugin");
    let config = json!({ "bdev_list": [path], "bdev_size_mib": mib });
    let config = config.as_object().expect("an object").clone();
    let request = ClassRequest {
        class: "file".to_owned(),
        config,
    };
    let device = instance
        .devices(&request, options)
        .expect("the file")
        .remove(0);
    if device.state == DeviceState::Absent {
        let request = FormatRequest {
            device: device.clone(),
            overwrite_foreign: false,
        };
        instance
            .format(&request, options)
            .expect("the file is made");
    }
    let device = instance
        .open_bdev(&device, options)
        .expect("the file opens");
    let memory = device.allocate(depth * block as usize).expect("memory");
    let mut queue = device.open_queue(depth as u32, options).expect("a queue");

    let blocks = block / u64::from(device.geometry().block_size);
    let places = device.geometry().block_count / blocks;
    let random = op.starts_with("rand");
    let what = if op.ends_with("write") {
        BdevOp::WRITE
    } else {
        BdevOp::READ
    };
    let iovs: Vec<IoVec> = (0..depth)
        .map(|slot| IoVec {
            ptr: memory.ptr().wrapping_add(slot * block as usize),
            len: block as usize,
        })
        .collect();
    let (mut state, mut next) = (0x9e37_79b9_7f4a_7c15u64, 0u64);
    let mut request = |slot: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        next += 1;
        let place = if random { state } else { next } % places;
        Request {
            op: what,
            flags: 0,
            reserved: 0,
            iov_count: 1,
            lba: place * blocks,
            blocks,
            iov: &iovs[slot as usize],
            tag: slot,
            scratch: std::ptr::null_mut(),
        }
    };
    let mut batch: Vec<Request> = (0..depth as u64).map(&mut request).collect();
    let mut done = vec![
        Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0
        };
        depth
    ];
    let limit = Duration::from_secs(number(seconds));
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut count = 0u64;
    let mut outstanding = 0;
    loop {
        if !batch.is_empty() {
            // SAFETY: `iovs` and `memory` outlive the queue, which is dropped first below.
            let taken = unsafe { queue.submit(&batch) }.expect("submit");
            outstanding += taken;
            batch.drain(..taken);
        }
        let polled = queue.poll(&mut done).expect("poll");
        if polled == 0 && sleeps {
            sleep(&mut queue);
        }
        outstanding -= polled;
        count += polled as u64;
        let over = polled > 0 && start.elapsed() >= limit;
        for completion in &done[..polled] {
            assert!(completion.status.is_ok(), "{}", completion.status);
            if !over {
                batch.push(request(completion.tag));
            }
        }
        if over {
            break;
        }
    }
    let (wall, cpu) = (start.elapsed(), cpu_time() - cpu);
    while outstanding > 0 {
        outstanding -= queue.poll(&mut done).expect("poll");
    }
    drop(queue);
    println!(
        "{op} {block} B, depth {depth}: {:.0} IOPS, {:.2} us CPU per I/O",
        count as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count as f64
    );
}

/// Sleeps until something may have completed.
fn sleep(queue: &mut BdevQueue) {
    let wait = queue.arm_wait().expect("arm_wait");
    if wait.kind == WaitKind::FD {
        // SAFETY: the descriptor is the queue's, which is open.
        let fd = unsafe { BorrowedFd::borrow_raw(wait.fd) };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).expect("poll(2)");
    }
}

/// CPU time of this process, from /proc (in clock ticks, which is enough for seconds).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc");
    let fields = stat.rsplit(')').next().expect("a name");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(ticks * 10)
}
