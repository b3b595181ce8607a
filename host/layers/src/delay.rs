//! Keeps completions back.
//!
//! A request goes to the device at once; its completion is seen when the device has it and is told after
//! the delay. So a delayed write is on the device before its writer knows.

use crate::forward;
use crate::random::{hash, normal, unit};
use crate::slots::{BATCH, EMPTY, Slots};
use crate::spec::{DelaySpec, Distribution, Op};
use daos_plugin_api::abi::{BdevEvent, BdevOp, Completion, Request, Status, Wait, WaitKind};
use daos_plugin_api::host::{self, BdevDevice, CallOptions};
use daos_plugin_api::sdk::{Bdev, BdevQueue, CallContext, Error};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest delay that a distribution without an end can give.
const LONGEST: Duration = Duration::from_secs(3600);

/// Delays of a device, shared by its queues.
struct Delays {
    seed: u64,
    rules: Vec<(Vec<Op>, Distribution)>,
    drawn: AtomicU64,
}

impl Delays {
    fn draw(&self, op: BdevOp) -> Duration {
        let Some(op) = Op::of(op) else {
            return Duration::ZERO;
        };
        let named = |(ops, _): &&(Vec<Op>, _)| ops.is_empty() || ops.contains(&op);
        let Some((_, distribution)) = self.rules.iter().find(named) else {
            return Duration::ZERO;
        };
        let random = hash(self.seed, self.drawn.fetch_add(1, Ordering::Relaxed));
        let us = match *distribution {
            Distribution::Fixed(us) => us as f64,
            Distribution::Uniform(from, to) => from as f64 + unit(random) * (to - from) as f64,
            Distribution::Normal(mean, deviation) => mean + deviation * normal(random),
            Distribution::LogNormal(mean, deviation) => (mean + deviation * normal(random)).exp(),
        };
        Duration::try_from_secs_f64(us.max(0.0) / 1e6).map_or(LONGEST, |d| d.min(LONGEST))
    }
}

/// A device whose completions come late.
pub(crate) struct DelayedDevice {
    below: BdevDevice,
    delays: Arc<Delays>,
}

impl DelayedDevice {
    pub(crate) fn new(below: BdevDevice, spec: &DelaySpec) -> Result<Self, Error> {
        let rules = spec.rules.iter().map(|rule| {
            let distribution = rule
                .distribution()
                .map_err(|e| Error::new(Status::INVALID, e.to_string()))?;
            Ok((rule.op.clone(), distribution))
        });
        Ok(Self {
            below,
            delays: Arc::new(Delays {
                seed: spec.seed,
                rules: rules.collect::<Result<_, Error>>()?,
                drawn: AtomicU64::new(0),
            }),
        })
    }
}

impl Bdev for DelayedDevice {
    type Queue = DelayedQueue;

    forward::admin!();

    fn next_event(&self) -> Option<BdevEvent> {
        self.below.next_event()
    }

    fn open_queue(
        &self,
        _: CallContext<'_>,
        depth: u32,
    ) -> daos_plugin_api::sdk::Result<DelayedQueue> {
        Ok(DelayedQueue {
            below: self.below.open_queue(depth, CallOptions::default())?,
            delays: Arc::clone(&self.delays),
            slots: Slots::new(depth),
            outstanding: 0,
            kept: BinaryHeap::with_capacity(depth as usize),
            batch: Vec::with_capacity(depth as usize),
        })
    }
}

/// A request under way: how long it is kept back, and how it ended below.
struct Late {
    delay: Duration,
    status: Status,
}

/// A queue whose completions come late.
pub(crate) struct DelayedQueue {
    below: host::BdevQueue,
    delays: Arc<Delays>,
    slots: Slots<Late>,
    /// Requests that the device has.
    outstanding: usize,
    /// Completions by the time at which they are told.
    kept: BinaryHeap<Reverse<(Instant, u32)>>,
    batch: Vec<Request>,
}

impl DelayedQueue {
    /// Takes what the device has completed.
    fn collect(&mut self) -> Result<(), Status> {
        while self.outstanding > 0 {
            let mut done = [EMPTY; BATCH];
            let count = self.below.poll(&mut done)?;
            let now = Instant::now();
            for completion in &done[..count] {
                let late = self.slots.get_mut(completion.tag).ok_or(Status::INTERNAL)?;
                late.status = completion.status;
                self.outstanding -= 1;
                // The tag is a slot, see above.
                self.kept
                    .push(Reverse((now + late.delay, completion.tag as u32)));
            }
            if count < BATCH {
                break;
            }
        }
        Ok(())
    }
}

impl BdevQueue for DelayedQueue {
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        self.batch.clear();
        for request in requests {
            let late = Late {
                delay: self.delays.draw(request.op),
                status: Status::OK,
            };
            let Some(slot) = self.slots.take(request.tag, late) else {
                break;
            };
            self.batch.push(Request {
                tag: slot.into(),
                ..*request
            });
        }
        // SAFETY: the caller vouches for what the requests name until their completion is polled, which
        // comes after the one below.
        let taken = unsafe { self.below.submit(&self.batch) };
        let count = *taken.as_ref().unwrap_or(&0);
        for refused in &self.batch[count..] {
            self.slots.release(refused.tag);
        }
        self.outstanding += count;
        taken
    }

    fn poll(&mut self, out: &mut [Completion]) -> Result<usize, Status> {
        self.collect()?;
        let now = Instant::now();
        let mut count = 0;
        while count < out.len()
            && let Some(Reverse((due, slot))) = self.kept.peek()
            && *due <= now
        {
            if let Some((tag, late)) = self.slots.release((*slot).into()) {
                out[count] = Completion {
                    tag,
                    status: late.status,
                    reserved: 0,
                };
                count += 1;
            }
            self.kept.pop();
        }
        Ok(count)
    }

    fn arm_wait(&mut self) -> Wait {
        let below = match self.outstanding {
            0 => None,
            _ => Some(self.below.arm_wait().unwrap_or(Wait::BUSY)),
        };
        let Some(Reverse((due, _))) = self.kept.peek() else {
            return below.unwrap_or(Wait::timer(1000));
        };
        let left = due.saturating_duration_since(Instant::now());
        // A microsecond more rather than one less: who is woken early only sleeps again.
        let left = left.as_micros() as u64 + 1;
        match below {
            None => Wait::timer(left),
            Some(wait) if wait.kind == WaitKind::BUSY => wait,
            Some(wait) => Wait {
                timeout_us: match wait.timeout_us {
                    0 => left,
                    own => own.min(left),
                },
                ..wait
            },
        }
    }

    fn abort(&mut self, tag: u64) -> Result<(), Status> {
        let slot = self.slots.of_tag(tag).ok_or(Status::NOT_FOUND)?;
        let known = |Reverse((_, kept)): &Reverse<(Instant, u32)>| *kept == slot;
        if self.kept.iter().any(known) {
            // It has ended below: whoever waits for it is told at once.
            self.kept.retain(|entry| !known(entry));
            self.kept.push(Reverse((Instant::now(), slot)));
            return Ok(());
        }
        if let Some(late) = self.slots.get_mut(slot.into()) {
            late.delay = Duration::ZERO;
        }
        self.below.abort(slot.into())
    }

    fn reconnect(&mut self) -> Result<(), Status> {
        self.below.reconnect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(distribution: Distribution) -> Vec<f64> {
        let delays = Delays {
            seed: 3,
            rules: vec![(vec![Op::Read], distribution)],
            drawn: AtomicU64::new(0),
        };
        assert_eq!(delays.draw(BdevOp::WRITE), Duration::ZERO);
        let draw = |_| delays.draw(BdevOp::READ).as_secs_f64() * 1e6;
        let mut all: Vec<f64> = (0..10_000).map(draw).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    #[test]
    fn delays_have_the_distribution_that_was_asked_for() {
        let near = |value: f64, wanted: f64| {
            assert!(
                (value - wanted).abs() <= wanted * 0.1,
                "{value}, not {wanted}"
            );
        };
        let fixed = sorted(Distribution::Fixed(50));
        assert_eq!((fixed[0].round(), fixed[9999].round()), (50.0, 50.0));
        let uniform = sorted(Distribution::Uniform(100, 200));
        assert!(uniform[0] >= 99.9 && uniform[9999] <= 200.1);
        near(uniform[5000], 150.0);
        let normal = sorted(Distribution::Normal(100.0, 20.0));
        near(normal[5000], 100.0);
        near(normal[8413], 120.0);
        let rule = crate::DelayRule {
            op: Vec::new(),
            fixed_us: None,
            uniform_us: None,
            normal_us: None,
            lognormal_us: Some([80, 2000]),
        };
        let lognormal = sorted(rule.distribution().unwrap());
        near(lognormal[5000], 80.0);
        assert!(
            (1400.0..2800.0).contains(&lognormal[9900]),
            "{}",
            lognormal[9900]
        );
    }
}
