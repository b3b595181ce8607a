//! Keeps a queue of a block device full for a while and counts.

use anyhow::{Context, bail};
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status, WaitKind};
use daos_plugin_api::host::{BdevDevice, CallOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What to do.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) op: BdevOp,
    pub(crate) bytes: u32,
    pub(crate) depth: u32,
    pub(crate) sequential: bool,
    /// Each write durable when it ends, as the engine's are.
    pub(crate) durable: bool,
    /// Only this many bytes from the start of the device.
    pub(crate) span: u64,
}

/// What came of it.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) iops: f64,
    /// Microseconds of CPU per I/O, user and system.
    pub(crate) cpu_us: f64,
}

/// Runs a job on a device for `duration`. Sleeps on the queue's descriptor like the engine does.
pub(crate) fn run(device: &BdevDevice, job: Job, duration: Duration) -> anyhow::Result<Outcome> {
    let geometry = *device.geometry();
    let blocks = u64::from(job.bytes / geometry.block_size);
    let _thread = device.instance().attach_thread()?;
    let memory = device.allocate(job.bytes as usize * job.depth as usize)?;
    let mut queue = device.open_queue(job.depth, CallOptions::default())?;
    let slots = job.span / u64::from(job.bytes);
    if slots == 0 {
        bail!("the device is smaller than one I/O");
    }
    let iovs: Vec<IoVec> = (0..job.depth as usize)
        .map(|slot| IoVec {
            ptr: memory.ptr().wrapping_add(slot * job.bytes as usize),
            len: job.bytes as usize,
        })
        .collect();
    let mut scratch =
        vec![0u128; (geometry.scratch_size as usize / 16 + 4) * job.depth as usize + 4];
    let stride = (geometry.scratch_size as usize).next_multiple_of(64);
    let base = scratch.as_mut_ptr().cast::<u8>();
    let base = base.wrapping_add(base.align_offset(64));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = 0u64;
    let mut request = |slot: u64| {
        let at = match job.sequential {
            true => next % slots,
            false => {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % slots
            }
        };
        next += 1;
        Request {
            op: job.op,
            flags: if job.durable { Request::FUA } else { 0 },
            reserved: 0,
            iov_count: 1,
            lba: at * blocks,
            blocks,
            iov: &iovs[slot as usize],
            tag: slot,
            scratch: base.wrapping_add(slot as usize * stride),
        }
    };
    let mut pending: Vec<Request> = (0..u64::from(job.depth)).map(&mut request).collect();
    let mut done = vec![
        Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0
        };
        job.depth as usize
    ];
    let cpu_before = cpu();
    let begun = Instant::now();
    let (mut completed, mut outstanding, mut stopping) = (0u64, 0usize, false);
    loop {
        if !pending.is_empty() {
            // SAFETY: iovecs, memory and scratch live until the queue is dropped, which is before
            // them (declared after them).
            let n =
                unsafe { queue.submit(&pending) }.map_err(|s| anyhow::anyhow!("submit: {s}"))?;
            pending.drain(..n);
            outstanding += n;
        }
        let n = queue
            .poll(&mut done)
            .map_err(|s| anyhow::anyhow!("poll: {s}"))?;
        for completion in &done[..n] {
            if !completion.status.is_ok() {
                bail!("an I/O failed: {}", completion.status);
            }
            if !stopping {
                pending.push(request(completion.tag));
            }
        }
        completed += n as u64;
        outstanding -= n;
        if !stopping && begun.elapsed() >= duration {
            stopping = true;
            pending.clear();
        }
        if stopping && outstanding == 0 {
            break;
        }
        if n == 0 && pending.is_empty() {
            let wait = queue
                .arm_wait()
                .map_err(|s| anyhow::anyhow!("arm_wait: {s}"))?;
            if wait.kind == WaitKind::FD {
                // SAFETY: the descriptor belongs to the queue, which lives through the call.
                let fd = unsafe { BorrowedFd::borrow_raw(wait.fd) };
                poll(
                    &mut [PollFd::new(fd, PollFlags::POLLIN)],
                    PollTimeout::from(1000u16),
                )
                .context("poll")?;
            }
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let cpu = cpu() - cpu_before;
    Ok(Outcome {
        iops: completed as f64 / elapsed,
        cpu_us: cpu / completed.max(1) as f64,
    })
}

/// CPU time of this process so far, in microseconds.
fn cpu() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |u| {
        (u.user_time().num_microseconds() + u.system_time().num_microseconds()) as f64
    })
}
