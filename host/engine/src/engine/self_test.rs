//! The engine's test of its own fabric.
//!
//! A fabric that completes nothing cannot be told from one where nobody speaks: no message comes, no operation is late. So the
//! engine is a client of its own as well. When nobody has asked a target for a while, it is sent a ping, as any client would
//! send it: by another endpoint, over another domain of the plugin - on a port of its own, so that no provider need be able to
//! send to itself, and no port of a neighbour is taken. If the answer does not come, the fabric is of no use to anybody; the
//! engine ends, with the plugin's name, and is started again.
//!
//! What is not the fabric's fault does not count: a target that waits for its device, an interface that is down, a process
//! that was stopped. Where the fabric says that it cannot - it has no second endpoint, or does not reach its own machine -
//! that is told once, and nothing follows from it.

use crate::config::Options;
use crate::defect::Defect;
use crate::memory::{Buffer, BufferCounts, Buffers};
use crate::net::{Event, Kind, Net};
use crate::plugins::Plugins;
use crate::target::Shared;
use crate::wake::{self, Wake};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::{CallOptions, FabricDomain};
use daos_wire::{Opcode, Reply, Request};
use serde_json::Map;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A target that nobody has asked for so long is asked by the engine.
const QUIET: Duration = Duration::from_secs(10);
/// Time between two looks at an answer that does not come. Each counts for no more than this, whatever the machine is busy with.
const LOOK: Duration = Duration::from_millis(10);
/// How long the end of the test is waited for: it may be in a call that does not return.
const END_WITHIN: Duration = Duration::from_secs(2);
/// One ping at a time.
const COUNTS: BufferCounts = BufferCounts {
    messages: 3,
    small: 0,
    large: 0,
};
/// Operations at once.
const SLOTS: u32 = 4;

/// A running test. Ends when dropped.
pub(super) struct SelfTest {
    stop: Arc<AtomicBool>,
    wake: Wake,
    failure: Arc<OnceLock<String>>,
    thread: Option<JoinHandle<()>>,
}

impl SelfTest {
    /// Tests targets at these addresses, unless the options say that nothing is to be tested or the fabric cannot be.
    pub(super) fn start<'a>(
        options: &Options,
        plugins: &Plugins,
        targets: impl Iterator<Item = (&'a Vec<u8>, &'a Arc<Shared>)>,
    ) -> Option<Self> {
        if options.self_test == 0 {
            return None;
        }
        let limit = Duration::from_secs(options.self_test.into());
        let test = || {
            let request = FabricOpenRequest {
                provider: plugins.provider.clone(),
                interface: options.interface.clone(),
                port: 0,
                answers: false,
                config: Map::new(),
            };
            let opened = plugins.fabric.open_fabric(&request, CallOptions::default());
            let wake = Wake::new().map_err(|e| e.to_string())?;
            let tester = Tester {
                domain: opened.map_err(|e| e.to_string())?,
                targets: targets.map(Watched::new).collect(),
                interface: Interface::of(&options.interface),
                client: Uuid::new_v4(),
                sequence: 0,
                limit,
                stop: Arc::default(),
                wake: wake.clone(),
                is_told: false,
            };
            let (stop, failure) = (Arc::clone(&tester.stop), Arc::default());
            let told = Arc::clone(&failure);
            let thread = std::thread::Builder::new()
                .name("self-test".to_owned())
                .spawn(move || tester.run(&told))
                .map_err(|e| e.to_string())?;
            Ok::<_, String>(Self {
                stop,
                wake,
                failure,
                thread: Some(thread),
            })
        };
        match test() {
            Ok(test) => Some(test),
            Err(why) => {
                cannot(&why);
                None
            }
        }
    }

    /// Why the fabric is of no use, if it is not.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

impl Drop for SelfTest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let until = Instant::now() + END_WITHIN;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // A panic there has been told.
            let _ = thread.join();
        }
    }
}

fn cannot(why: &str) {
    tracing::warn!(
        "the fabric cannot be tested by the engine itself, only its clients will notice if it does nothing: {why}"
    );
}

/// The interface of the fabric, where its name is one of the kernel's.
struct Interface(Option<PathBuf>);

impl Interface {
    fn of(name: &str) -> Self {
        let path = PathBuf::from("/sys/class/net").join(name);
        let is_known = !name.is_empty() && !name.contains('/') && path.exists();
        Self(is_known.then_some(path))
    }

    /// Whether messages can pass, as far as anybody knows.
    fn is_up(&self) -> bool {
        /// IFF_UP of <linux/if.h>.
        const UP: u32 = 1;
        let Some(path) = &self.0 else { return true };
        let flags = std::fs::read_to_string(path.join("flags")).unwrap_or_default();
        let flags = flags.trim().trim_start_matches("0x");
        u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0)
    }
}

/// A target as the test sees it.
struct Watched {
    address: Vec<u8>,
    shared: Arc<Shared>,
    /// Requests that it had answered when it was looked at last.
    answered: u64,
}

impl Watched {
    fn new((address, shared): (&Vec<u8>, &Arc<Shared>)) -> Self {
        Self {
            address: address.clone(),
            shared: Arc::clone(shared),
            answered: 0,
        }
    }
}

struct Tester {
    domain: FabricDomain,
    targets: Vec<Watched>,
    interface: Interface,
    client: Uuid,
    sequence: u64,
    limit: Duration,
    stop: Arc<AtomicBool>,
    wake: Wake,
    /// That something cannot be tested was said.
    is_told: bool,
}

/// Why a ping has no answer.
enum Missing {
    /// The test ends.
    Stopped,
    /// That says nothing about the fabric: what is wrong, if it is worth telling.
    Untested(Option<String>),
    /// The fabric is of no use.
    Useless(String),
}

impl Tester {
    fn run(mut self, failure: &OnceLock<String>) {
        let attached = self.domain.instance().clone();
        let _attached = match attached.attach_thread() {
            Ok(guard) => guard,
            Err(error) => return cannot(&error.to_string()),
        };
        let mut lane = None;
        while !self.stop.load(Ordering::Acquire) {
            for number in 0..self.targets.len() {
                match self.test(number, &mut lane) {
                    Ok(()) => {}
                    Err(Missing::Stopped) => return,
                    Err(Missing::Untested(why)) => {
                        // What was connected may be of no use any more.
                        lane = None;
                        if let Some(why) = why
                            && !std::mem::replace(&mut self.is_told, true)
                        {
                            cannot(&why);
                        }
                    }
                    Err(Missing::Useless(why)) => {
                        // Nobody else sets it.
                        let _ = failure.set(why);
                        return;
                    }
                }
            }
            wake::sleep(&self.wake, &[], Some(QUIET.min(self.limit)));
        }
    }

    /// Pings a target that nobody has asked since the last time.
    fn test(&mut self, number: usize, lane: &mut Option<Lane>) -> Result<(), Missing> {
        let target = &mut self.targets[number];
        let answered = target.shared.requests.load(Ordering::Relaxed);
        if std::mem::replace(&mut target.answered, answered) != answered
            || target.shared.failed.get().is_some()
        {
            return Ok(());
        }
        if !self.interface.is_up() {
            return Err(Missing::Untested(None));
        }
        let lane = match lane {
            Some(lane) => lane,
            none => none.insert(Lane::open(&self.domain)?),
        };
        self.ping(number, lane)?;
        let target = &mut self.targets[number];
        target.answered = target.shared.requests.load(Ordering::Relaxed);
        Ok(())
    }

    fn ping(&mut self, number: usize, lane: &mut Lane) -> Result<(), Missing> {
        self.sequence += 1;
        let target = &self.targets[number];
        lane.send(&target.address, self.client, self.sequence)?;
        let (mut waited, mut rounds) = (Duration::ZERO, 0);
        loop {
            let before = Instant::now();
            if lane.has_answer(self.client, self.sequence)? {
                return Ok(());
            }
            let wait = lane.net.arm_wait().map_err(useless)?;
            wake::sleep(&self.wake, &[wait], Some(LOOK));
            if self.stop.load(Ordering::Acquire) {
                return Err(Missing::Stopped);
            }
            if target.shared.failed.get().is_some() || !self.interface.is_up() {
                return Err(Missing::Untested(None));
            }
            // One that works on something may have to wait for its device, or be in a call of it.
            let last = std::mem::replace(&mut rounds, target.shared.rounds.load(Ordering::Relaxed));
            let looks = last != rounds || target.shared.asleep.load(Ordering::Relaxed);
            if looks && target.shared.idle.load(Ordering::Relaxed) {
                waited += before.elapsed().min(LOOK);
            }
            if waited >= self.limit {
                return Err(Missing::Useless(format!(
                    "the fabric does nothing: plugin {} has let neither a request of the engine to its own target {number} nor the \
                     answer through for {} s (call poll)",
                    self.domain.instance().described(),
                    self.limit.as_secs()
                )));
            }
        }
    }
}

fn useless(defect: Defect) -> Missing {
    let why = format!("the endpoint of the test failed: {defect}");
    match defect.needs_new_process() {
        true => Missing::Useless(why),
        false => Missing::Untested(Some(why)),
    }
}

/// The endpoint of the test.
struct Lane {
    net: Net,
    events: Vec<Event>,
    address: Vec<u8>,
    /// What is not on its way.
    message: Option<Buffer>,
    /// The answer to what was sent last is here.
    has_come: bool,
}

impl Lane {
    fn open(domain: &FabricDomain) -> Result<Self, Missing> {
        let untested = |why: String| Missing::Untested(Some(why));
        let endpoint = domain
            .open_endpoint(CallOptions::default())
            .map_err(|e| untested(e.to_string()))?;
        let slots = SLOTS.min(domain.info().max_outstanding).max(1);
        let mut net = Net::of_client(endpoint, slots);
        let address = net.address().map_err(|s| untested(s.to_string()))?;
        let mut messages = Buffers::of_process(domain, COUNTS)
            .map_err(|e| untested(e.to_string()))?
            .messages;
        let message = messages.pop();
        for (number, message) in (0..).zip(messages) {
            net.receive(number, message);
        }
        Ok(Self {
            net,
            events: Vec::new(),
            address,
            message,
            has_come: false,
        })
    }

    fn send(&mut self, to: &[u8], client: Uuid, sequence: u64) -> Result<(), Missing> {
        let peer = self
            .net
            .resolve(to)
            .map_err(|s| Missing::Untested(Some(format!("its address is not known: {s}"))))?;
        // Where the last one did not get to its end the lane is not used again.
        let Some(mut message) = self.message.take() else {
            return Err(Missing::Untested(None));
        };
        let request = Request::new(Opcode::Ping, client, sequence, &self.address);
        let len = request.encoded_len();
        let encoded = request.encode(&mut message.bytes_mut()[..len]);
        encoded.map_err(|e| Missing::Untested(Some(e.to_string())))?;
        self.has_come = false;
        self.net.send(sequence, message, len, peer);
        Ok(())
    }

    /// Makes progress; whether the ping is over: its answer has come, whatever it says.
    fn has_answer(&mut self, client: Uuid, sequence: u64) -> Result<bool, Missing> {
        self.net.poll(&mut self.events).map_err(useless)?;
        for event in std::mem::take(&mut self.events) {
            let status = event.status;
            if event.kind == Kind::Received {
                let reply = Reply::decode(&event.buffer.bytes()[..event.len]);
                self.has_come |= status.is_ok()
                    && reply.is_ok_and(|r| (r.client, r.sequence) == (client, sequence));
                self.net.receive(event.user, event.buffer);
            } else {
                self.message = Some(event.buffer);
                if !status.is_ok() {
                    let why = format!("the engine does not reach itself: {status}");
                    return Err(Missing::Untested(Some(why)));
                }
            }
        }
        // That it was sent has to be known as well.
        Ok(self.has_come && self.message.is_some())
    }
}
