//! A target: one thread that owns an endpoint, a queue of a block device and its storage.
//!
//! Each round takes what the network, the device and the commits have finished, moves the requests
//! concerned on, makes the log durable once for all of them, and only then sends their replies.

mod array;
mod idle;
mod names;
mod once;
mod ops;
mod ping;
mod requests;

pub use ops::Limits;

use crate::array::locks::Locks;
use crate::catalogue::Desk;
use crate::defect::Defect;
use crate::extents::device::{Device, Done, TICK};
use crate::helpers::{Finished, Helper};
use crate::index::IndexError;
use crate::layers::Order;
use crate::memory::Buffers;
use crate::net::{Event, Kind, Net};
use crate::scm::ScmLog;
use crate::storage::Storage;
use crate::wake::{self, Wake};
use idle::Idle;
use names::Removals;
use ops::Op;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Longest time that a change waits for its index commit.
const COMMIT_DELAY: Duration = Duration::from_secs(1);
/// Changes that make a commit worth while at once. Many, since a commit rewrites every page that
/// it touches: the more changes fall on a page, the less each costs.
const COMMIT_BATCH: usize = 16 << 10;
/// Longest sleep while clients keep operations.
const CLOCK: Duration = Duration::from_secs(1);
/// How long a stop waits for requests under way.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What the main thread and a target share.
#[derive(Debug)]
pub struct Shared {
    /// The target shall end.
    pub stop: AtomicBool,
    /// Requests answered.
    pub requests: AtomicU64,
    /// Wakes the target.
    pub wake: Wake,
    /// The target's block device is gone.
    pub device_gone: AtomicBool,
    /// Why the target must not serve any more.
    pub lost: OnceLock<String>,
    /// Why the target serves nothing any more.
    pub failed: OnceLock<String>,
    /// Other layers for the target's device.
    pub layers: Order,
    /// Counts rounds; one that takes long is seen by who watches it.
    pub rounds: AtomicU64,
    /// The target sleeps, or has ended.
    pub asleep: AtomicBool,
    /// When it last slept nothing was under way on the target.
    pub idle: AtomicBool,
    /// The target looks at its endpoint.
    pub in_fabric: AtomicBool,
    /// The target's thread, for the kernel; 0 before it runs.
    pub thread: AtomicI32,
    /// Seconds that a block device may take for a request.
    pub patience: u32,
}

/// What a target is made of.
pub struct Parts {
    /// Number of the target, from 0.
    pub number: u32,
    /// Targets of the engine.
    pub targets: u32,
    /// Log, index and space.
    pub storage: Storage<ScmLog>,
    /// Its share of a block device.
    pub device: Device,
    /// Its endpoint.
    pub net: Net,
    /// Its buffers.
    pub buffers: Buffers,
    /// Does its long work.
    pub helper: Helper,
    /// Its side of the catalogue.
    pub desk: Desk,
    /// Shared with the main thread.
    pub shared: Arc<Shared>,
}

/// A running target.
pub struct Target {
    // Device and endpoint go first: buffers may still be with them.
    device: Device,
    net: Net,
    number: u32,
    targets: u32,
    storage: Storage<ScmLog>,
    buffers: Buffers,
    helper: Helper,
    desk: Desk,
    removals: Removals,
    shared: Arc<Shared>,
    ops: Vec<Op>,
    /// Changes that are not finished yet, by client and sequence.
    changing: HashMap<(Uuid, u64), u32>,
    /// Requests that wait for a data buffer, for room in the log, for space on the device.
    wait_buffer: VecDeque<u32>,
    wait_log: VecDeque<u32>,
    wait_space: Vec<u32>,
    /// Who changes what, and who waits for it.
    locks: Locks,
    /// Requests that hold the lock that they waited for.
    unlocked: VecDeque<u32>,
    /// Replies that are ready, sent after the seal: request and length.
    replies: Vec<(u32, usize)>,
    events: Vec<Event>,
    done: Vec<Done>,
    /// Scratch for encoded keys.
    key: Vec<u8>,
    from: Vec<u8>,
    from_next: Vec<u8>,
    committing: bool,
    /// Buffers that are with a helper.
    checking: usize,
    oldest_change: Option<Instant>,
    commit_retry: Option<Instant>,
    stopping: bool,
    /// Receives that failed since the last request.
    bad_receives: u32,
    /// The last order about layers that was looked at.
    layers_seen: u64,
    /// Why the target must end, so that its engine is started again.
    gave_up: Option<String>,
}

impl Target {
    /// Puts a target together and offers its message buffers to the fabric.
    pub fn new(mut parts: Parts) -> Self {
        let messages = std::mem::take(&mut parts.buffers.messages);
        let mut target = Self {
            device: parts.device,
            net: parts.net,
            number: parts.number,
            targets: parts.targets,
            storage: parts.storage,
            buffers: parts.buffers,
            helper: parts.helper,
            desk: parts.desk,
            removals: Removals::default(),
            shared: parts.shared,
            ops: Vec::with_capacity(messages.len()),
            changing: HashMap::new(),
            wait_buffer: VecDeque::new(),
            wait_log: VecDeque::new(),
            wait_space: Vec::new(),
            locks: Locks::default(),
            unlocked: VecDeque::new(),
            replies: Vec::new(),
            events: Vec::new(),
            done: Vec::new(),
            key: Vec::new(),
            from: Vec::new(),
            from_next: Vec::new(),
            committing: false,
            checking: 0,
            oldest_change: None,
            commit_retry: None,
            stopping: false,
            bad_receives: 0,
            layers_seen: 0,
            gave_up: None,
        };
        for (index, message) in messages.into_iter().enumerate() {
            target.ops.push(Op::default());
            target.net.receive(index as u64, message);
        }
        target
    }

    /// Serves until it is told to stop; ends with everything committed to the index.
    ///
    /// # Errors
    /// Why the target had to give up earlier.
    pub fn run(&mut self) -> Result<(), String> {
        wake::sleep_exactly();
        let mut idle = Idle::default();
        let mut stop_by = None;
        loop {
            let busy = self.round();
            let rounds = self.shared.rounds.load(Ordering::Relaxed); // nobody else counts
            self.shared.rounds.store(rounds + 1, Ordering::Relaxed);
            if let Some(why) = self.gave_up.take() {
                return Err(why);
            }
            if self.shared.stop.load(Ordering::Acquire) {
                let by = *stop_by.get_or_insert_with(|| Instant::now() + STOP_PATIENCE);
                self.stopping = true;
                if self.is_idle() || Instant::now() > by {
                    return self.finish();
                }
            }
            if busy {
                idle.busy();
            } else if idle.should_sleep() {
                self.sleep();
                idle.slept();
                if let Err(why) = self.device.watch(self.shared.patience) {
                    self.give_up(why);
                }
            }
        }
    }

    /// One round; whether anything happened.
    fn round(&mut self) -> bool {
        let mut busy = self.serve_catalogue();
        if self.failure().is_none()
            && let Some(why) = self.shared.lost.get()
        {
            self.fail(why.clone());
        }
        if self.shared.layers.number() != self.layers_seen {
            self.layers_seen = self.shared.layers.number();
            if let Some(device) = self.shared.layers.take() {
                self.device.change(device);
            }
        }
        let mut events = std::mem::take(&mut self.events);
        self.shared.in_fabric.store(true, Ordering::Relaxed);
        let polled = self.net.poll(&mut events);
        self.shared.in_fabric.store(false, Ordering::Relaxed);
        if let Err(defect) = polled {
            self.lose_endpoint(&defect);
        }
        for event in events.drain(..) {
            // That a reply is out leads to nothing that cannot wait for the next sleep to end.
            busy |= event.kind != Kind::Sent;
            self.on_net(event);
        }
        self.events = events;
        let mut done = std::mem::take(&mut self.done);
        if self.device.is_busy()
            && let Err(defect) = self.device.poll(&mut done)
        {
            self.lose_queue(&defect);
        }
        if let Some(result) = self.device.changed() {
            self.shared.layers.done(self.layers_seen, result);
        }
        busy |= !done.is_empty();
        for done in done.drain(..) {
            self.on_device(done);
        }
        self.done = done;
        while let Some(finished) = self.helper.poll() {
            busy = true;
            match finished {
                Finished::Commit { upto, result } => self.on_commit(upto, &result),
                Finished::Checksums { user, buffer, crcs } => {
                    self.checking -= 1;
                    self.on_array_checked(user as u32, buffer, crcs); // as below
                }
                Finished::Checksum { user, buffer, crc } => {
                    self.checking -= 1;
                    self.on_checked(user as u32, buffer, crc); // numbers of `ops`
                }
            }
        }
        self.retry_waiting();
        self.seal();
        self.maybe_commit();
        busy || !self.unlocked.is_empty()
    }

    /// Makes the round's changes durable and sends its replies.
    fn seal(&mut self) {
        if self.failure().is_none()
            && let Err(error) = self.storage.seal()
        {
            self.fail(format!("changes could not be made durable: {error}"));
        }
        for (index, len) in std::mem::take(&mut self.replies) {
            self.send_reply(index, len);
        }
        let mut events = std::mem::take(&mut self.events);
        if let Err(defect) = self.net.submit(&mut events) {
            self.lose_endpoint(&defect);
        }
        for event in events.drain(..) {
            self.on_net(event);
        }
        self.events = events;
    }

    fn maybe_commit(&mut self) {
        if self.storage.waiting() == 0 || self.committing || self.failure().is_some() {
            return;
        }
        let now = Instant::now();
        if self.commit_retry.is_some_and(|at| now < at) {
            return;
        }
        let oldest = *self.oldest_change.get_or_insert(now);
        let due = now.duration_since(oldest) >= COMMIT_DELAY
            || self.storage.waiting() >= COMMIT_BATCH
            || self.storage.is_log_crowded()
            || !self.wait_log.is_empty()
            || !self.wait_space.is_empty()
            || self.removals.want_commit();
        if due && let Some(batch) = self.storage.start_commit() {
            self.committing = true;
            self.oldest_change = None;
            self.helper.commit(self.storage.writer(), batch);
        }
    }

    fn on_commit(&mut self, upto: u64, result: &Result<(), IndexError>) {
        self.committing = false;
        self.commit_retry = None;
        match result {
            Ok(()) => {}
            Err(error @ IndexError::NoSpace(_)) => {
                tracing::error!(target_number = self.number, %error, "index commit failed; puts are refused until one succeeds");
                self.commit_retry = Some(Instant::now() + Duration::from_secs(1));
            }
            // The log still has what the commit was about: a restart replays it, if it can.
            Err(error) => self.fail(format!("an index commit failed: {error}")),
        }
        if let Err(error) = self.storage.finish_commit(upto, result) {
            self.fail(format!("the log could not be trimmed: {error}"));
        }
        self.retry_space();
    }

    /// Stops serving: what is durable is not known to be what was promised any more.
    fn fail(&mut self, why: String) {
        if self.failure().is_none() {
            tracing::error!(
                target_number = self.number,
                why,
                "target failed; restart the engine to recover it"
            );
            // Nobody else sets it.
            let _ = self.shared.failed.set(why);
        }
    }

    /// Why it serves nothing any more, if it does not.
    fn failure(&self) -> Option<&str> {
        self.shared.failed.get().map(String::as_str)
    }

    fn lose_queue(&mut self, defect: &Defect) {
        let why = format!("the device queue failed: {defect}");
        match defect.needs_new_process() {
            // What it did to memory nobody knows, or it does nothing any more.
            true => self.give_up(why),
            false => self.fail(why),
        }
    }

    /// Without an endpoint nobody can be told that the target has failed: a new process may get another one.
    fn lose_endpoint(&mut self, defect: &Defect) {
        self.give_up(format!("the endpoint failed: {defect}"));
    }

    /// Ends the target, and with it the engine, which its daemon starts again: what is durable is there then.
    fn give_up(&mut self, why: String) {
        self.fail(why.clone());
        self.gave_up.get_or_insert(why);
    }

    fn is_idle(&self) -> bool {
        self.failure().is_some()
            || (!self.net.is_busy()
                && !self.device.is_busy()
                && !self.committing
                && self.checking == 0
                && self.wait_buffer.is_empty()
                && self.wait_log.is_empty()
                && self.wait_space.is_empty()
                && self.locks.is_empty())
    }

    fn finish(&mut self) -> Result<(), String> {
        // No helper may be the last owner of a buffer: its registration ends on this thread.
        while self.checking > 0
            && let Some(finished) = self.helper.wait()
        {
            if let Some(buffer) = finished.buffer() {
                self.checking -= 1;
                self.buffers.put(buffer);
            }
        }
        if let Some(why) = self.failure() {
            return Err(why.to_owned());
        }
        if let Some(batch) = self.storage.start_commit() {
            let result = self.storage.writer().commit(&batch);
            // Whatever is not in the index is in the log: the next start replays it.
            if let Err(error) = &result {
                tracing::warn!(target_number = self.number, %error, "last index commit failed");
            }
            self.storage
                .finish_commit(batch.upto, &result)
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn sleep(&mut self) {
        if self.net.is_busy()
            && let Err(defect) = self.net.look_at_clock()
        {
            self.lose_endpoint(&defect);
        }
        let mut waits = [daos_plugin_api::abi::Wait::BUSY; 2];
        let mut count = 0;
        match self.net.arm_wait() {
            Ok(wait) => {
                waits[0] = wait;
                count = 1;
            }
            Err(defect) => self.lose_endpoint(&defect),
        }
        if self.failure().is_none() && self.device.is_busy() {
            match self.device.arm_wait() {
                Ok(wait) => {
                    waits[1] = wait;
                    count = 2;
                }
                Err(defect) => self.lose_queue(&defect),
            }
        }
        let limit = if self.failure().is_some() {
            // Requests are still answered, with errors, and the stop is waited for.
            Some(Duration::from_secs(1))
        } else if self.storage.waiting() > 0 && !self.committing {
            let until = self
                .commit_retry
                .or(self.oldest_change.map(|at| at + COMMIT_DELAY));
            Some(until.map_or(COMMIT_DELAY, |at| {
                at.saturating_duration_since(Instant::now())
            }))
        } else if self.stopping {
            Some(Duration::from_millis(10))
        } else {
            None
        };
        // Clients that keep an operation are looked at while nothing else happens, too.
        let limit = if self.net.is_busy() {
            Some(limit.map_or(CLOCK, |limit| limit.min(CLOCK)))
        } else {
            limit
        };
        // Requests that take long are looked at, too.
        let limit = match self.device.is_busy() {
            true => Some(limit.map_or(TICK, |limit| limit.min(TICK))),
            false => limit,
        };
        self.shared.idle.store(self.is_idle(), Ordering::Relaxed);
        self.shared.asleep.store(true, Ordering::Relaxed);
        wake::sleep(&self.shared.wake, &waits[..count], limit);
        self.shared.asleep.store(false, Ordering::Relaxed);
    }
}
