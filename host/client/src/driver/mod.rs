//! What owns the fabric endpoint: a thread, or a task on the caller's.
//!
//! Callers hand it [`Attempt`]s: one request each, to one target. Each ends with exactly one
//! [`Outcome`]: the reply, or why there is none. Whether to try again is the caller's business.

mod alarm;
mod crowd;
pub(crate) mod link;
mod local;
mod peers;
mod spin;
mod wake;

use crate::pool::{Lease, Pool};
use crate::provider::{self, Fabric};
use crate::{Error, Progress};
use crowd::Crowd;
use daos_plugin_api::abi::Status;
use daos_plugin_api::host::{CallOptions, ThreadGuard};
use daos_wire::{Reply, WireStatus};
use link::{Event, Link, Sleep};
use peers::Peers;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;
use wake::Bell;

/// How often deadlines and silent targets are looked at while requests are under way: deadlines
/// are kept this accurately.
const TICK: Duration = Duration::from_millis(50);
/// How long to look for replies before sleeping, while some are due: about what it costs to be woken,
/// and longer than an engine needs for a small request.
const SPIN: Duration = Duration::from_micros(50);
/// The same when there was no reply for [`REST`]: the engine has to be woken first, and both sides' code and data have left
/// the caches meanwhile. To be woken, too, would come on top.
const SPIN_AFTER_REST: Duration = Duration::from_micros(300);
/// From which pause on an engine sleeps for sure.
const REST: Duration = Duration::from_millis(2);

/// One request to one target.
pub(crate) struct Attempt {
    /// Fabric address of the target.
    pub(crate) target: Arc<[u8]>,
    /// Sequence in the message.
    pub(crate) sequence: u64,
    /// The encoded request.
    pub(crate) message: Vec<u8>,
    /// Memory that the message names.
    pub(crate) memory: Option<Lease>,
    /// When to give up.
    pub(crate) expires: Instant,
    /// Told the outcome, unless nobody listens any more.
    pub(crate) answer: oneshot::Sender<Outcome>,
}

/// End of an attempt.
pub(crate) struct Outcome {
    /// As in the attempt.
    pub(crate) memory: Option<Lease>,
    /// The reply, or why there is none.
    pub(crate) result: Result<Answer, Lost>,
}

/// A reply, without borrows.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: WireStatus,
    pub(crate) more: bool,
    pub(crate) value_len: u64,
    pub(crate) checksum: u32,
    pub(crate) count: u32,
    pub(crate) targets: u32,
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) inline: Vec<u8>,
}

impl From<&Reply<'_>> for Answer {
    fn from(reply: &Reply<'_>) -> Self {
        Self {
            status: reply.status,
            more: reply.more,
            value_len: reply.value_len,
            checksum: reply.checksum,
            count: reply.count,
            targets: reply.targets,
            total: reply.total,
            free: reply.free,
            inline: reply.inline.to_vec(),
        }
    }
}

/// Why there is no reply. Whether the engine carried the request out is unknown.
#[derive(Clone, Debug)]
pub(crate) enum Lost {
    /// The target cannot be reached (any more).
    Unreachable(Status),
    /// Nothing came in time; the text says what did come instead, if anything.
    Expired(String),
    /// The fabric of this process failed and stays so.
    Fabric(String),
}

enum Command {
    Try(Attempt),
    Forget(Arc<[u8]>),
}

impl Command {
    /// Ends it because the fabric is broken.
    fn fail(self, cause: &str) {
        if let Self::Try(attempt) = self {
            let lost = Err(Lost::Fabric(cause.to_owned()));
            peers::end(attempt.memory, attempt.answer, lost);
        }
    }
}

/// Handle of the thread or task, which ends when the last clone is gone.
#[derive(Clone)]
pub(crate) struct Driver {
    // Declared before the bell's guard: the queue is closed when the guard rings.
    commands: mpsc::Sender<Command>,
    bell: Arc<RingOnDrop>,
}

/// How the owner of the endpoint is told that there are commands.
#[derive(Clone)]
enum Call {
    Thread(Arc<Bell>),
    Task(Arc<Notify>),
}

impl Call {
    fn ring(&self) {
        match self {
            Self::Thread(bell) => bell.ring(),
            Self::Task(notify) => notify.notify_one(),
        }
    }
}

struct RingOnDrop(Call);

impl Drop for RingOnDrop {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// What the thread found when it started.
pub(crate) struct Started {
    pub(crate) driver: Driver,
    /// Whose domain the endpoint is of.
    pub(crate) pool: Arc<Pool>,
    /// Fabric address of this client, for the header of requests.
    pub(crate) address: Vec<u8>,
}

impl Driver {
    /// Opens the fabric on a new thread, or in a task of the current `LocalSet`.
    pub(crate) async fn start(
        progress: Progress,
        provider: String,
        interface: String,
        plugins_dir: Option<PathBuf>,
        client: Uuid,
    ) -> Result<Started, Error> {
        match progress {
            Progress::Thread => Self::start_thread(provider, interface, plugins_dir, client).await,
            Progress::Local => local::start(&provider, &interface, plugins_dir, client),
        }
    }

    async fn start_thread(
        provider: String,
        interface: String,
        plugins_dir: Option<PathBuf>,
        client: Uuid,
    ) -> Result<Started, Error> {
        let bell = Bell::new()
            .map_err(|error| failed(&provider, format!("no event descriptor: {error}")))?;
        let bell = Arc::new(bell);
        let (commands, queue) = mpsc::channel();
        let (ready, started) = oneshot::channel();
        let name = provider.clone();
        let own_bell = bell.clone();
        let thread = move || {
            let fabric = match provider::open(&provider, &interface, plugins_dir.as_deref()) {
                Ok(fabric) => fabric,
                Err(error) => return drop(ready.send(Err(error))),
            };
            match open_link(&fabric) {
                Ok(opened) => {
                    // Kept until the endpoint is closed.
                    let _attached = opened.attached;
                    if ready.send(Ok((opened.pool, opened.address))).is_ok() {
                        Loop::new(opened.link, client).run(&queue, &own_bell);
                    }
                }
                Err(cause) => drop(ready.send(Err(failed(&provider, cause)))),
            }
        };
        std::thread::Builder::new()
            .name("daos-fabric".to_owned())
            .spawn(thread)
            .map_err(|error| failed(&name, format!("no thread for it: {error}")))?;
        let (pool, address) = started
            .await
            .map_err(|_| failed(&name, "the plugin panicked while it opened".to_owned()))??;
        Ok(Started {
            driver: Self {
                commands,
                bell: Arc::new(RingOnDrop(Call::Thread(bell))),
            },
            pool,
            address,
        })
    }

    /// Starts an attempt. If the thread is gone, the attempt's receiver sees a closed channel.
    pub(crate) fn attempt(&self, attempt: Attempt) {
        self.command(Command::Try(attempt));
    }

    /// Forgets an address that no engine has any more.
    pub(crate) fn forget(&self, target: Arc<[u8]>) {
        self.command(Command::Forget(target));
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.bell.0.ring();
        }
    }
}

fn failed(provider: &str, cause: String) -> Error {
    Error::Provider {
        provider: provider.to_owned(),
        cause,
        remedy: String::new(),
    }
}

/// An endpoint with its memory, what keeps the thread known to the plugin, and the endpoint's address.
pub(crate) struct Opened {
    pub(crate) link: Link,
    pub(crate) pool: Arc<Pool>,
    pub(crate) attached: ThreadGuard,
    pub(crate) address: Vec<u8>,
}

pub(crate) fn open_link(fabric: &Fabric) -> Result<Opened, String> {
    let attached = fabric
        .instance
        .attach_thread()
        .map_err(|error| error.to_string())?;
    let endpoint = fabric
        .domain
        .open_endpoint(CallOptions::default())
        .map_err(|error| error.to_string())?;
    let pool = Pool::new(fabric.domain.clone());
    let link = Link::new(endpoint, &pool).map_err(|error| error.to_string())?;
    let address = link
        .address()
        .map_err(|status| format!("the endpoint has no address: {status}"))?;
    Ok(Opened {
        link,
        pool,
        attached,
        address,
    })
}

struct Loop {
    link: Link,
    peers: Peers,
    events: Vec<Event>,
    ticked: Instant,
    /// Since when nothing has happened.
    quiet: Option<Instant>,
    crowd: Crowd,
    /// The last progress was, among others, a reply.
    replied: bool,
    /// When the last reply came.
    replied_at: Instant,
}

impl Loop {
    fn new(link: Link, client: Uuid) -> Self {
        Self {
            link,
            peers: Peers::new(client),
            events: Vec::new(),
            ticked: Instant::now(),
            quiet: None,
            crowd: Crowd::new(),
            replied: false,
            replied_at: Instant::now(),
        }
    }

    fn run(mut self, queue: &mpsc::Receiver<Command>, bell: &Bell) {
        let mut next = None;
        let cause = loop {
            let mut busy = false;
            let mut open = true;
            loop {
                let command = match next.take() {
                    Some(command) => command,
                    None => match queue.try_recv() {
                        Ok(command) => command,
                        Err(mpsc::TryRecvError::Empty) => break,
                        Err(mpsc::TryRecvError::Disconnected) => {
                            open = false;
                            break;
                        }
                    },
                };
                busy = true;
                self.obey(command);
            }
            if !open {
                return; // nobody is left who could wait for an outcome
            }
            match self.progress() {
                Ok(progress) => busy |= progress,
                Err(status) => break format!("the endpoint failed: {status}"),
            }
            if busy {
                self.quiet = None;
                continue;
            }
            if self.expects_soon() {
                // On a small machine the engine may need this core.
                let left = Instant::now();
                std::thread::yield_now();
                self.crowd.gave_way(left, Instant::now());
                continue;
            }
            bell.going_to_sleep();
            match queue.try_recv() {
                Ok(command) => {
                    bell.stay_awake();
                    next = Some(command);
                }
                Err(mpsc::TryRecvError::Disconnected) => return,
                Err(mpsc::TryRecvError::Empty) => {
                    if let Err(status) = self.sleep(bell) {
                        break format!("the endpoint failed: {status}");
                    }
                }
            }
        };
        tracing::error!("{cause}");
        self.fail(queue, &cause);
    }

    /// How long to look for a reply at `now` before sleeping.
    fn spin(&self, now: Instant) -> Duration {
        match now.duration_since(self.replied_at) < REST {
            true => SPIN,
            false => SPIN_AFTER_REST,
        }
    }

    /// Nothing happened: whether looking again is better than sleeping.
    fn expects_soon(&mut self) -> bool {
        if self.peers.is_idle() {
            return false;
        }
        let now = Instant::now();
        let spin = self.spin(now);
        now.duration_since(*self.quiet.get_or_insert(now)) < spin && !self.crowd.is_here(now)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Try(attempt) => self.peers.start(&mut self.link, attempt),
            Command::Forget(target) => self.peers.retire(&mut self.link, &target),
        }
    }

    /// Hands the fabric what it takes.
    fn flush(&mut self) -> Result<(), Status> {
        if self.link.flush()? && self.replied_at.elapsed() >= REST {
            // An engine that sleeps is woken by that; where cores are few, on this one, and it would have to wait until
            // this thread has looked in vain at all that it looks at before it gives way.
            std::thread::yield_now();
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<bool, Status> {
        self.flush()?;
        let mut events = std::mem::take(&mut self.events);
        let progress = self.link.poll(&mut events)?;
        self.replied = !events.is_empty();
        if self.replied {
            self.replied_at = Instant::now();
        }
        for event in events.drain(..) {
            match event {
                Event::Received(message) => self.peers.received(&message),
                Event::NotSent { peer, status } => self.peers.lose(&mut self.link, peer, status),
            }
        }
        self.events = events;
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.peers.tick(&mut self.link, self.ticked);
        }
        self.flush()?;
        Ok(progress)
    }

    fn sleep(&mut self, bell: &Bell) -> Result<(), Status> {
        let tick = (!self.peers.is_idle()).then_some(TICK);
        match self.link.arm_wait()? {
            Sleep::Not => bell.stay_awake(),
            Sleep::Until { fd, timer } => {
                bell.sleep(fd, [tick, timer].into_iter().flatten().min());
            }
        }
        Ok(())
    }

    /// The fabric is broken: ends everything, and whatever still comes, in the same way.
    fn fail(mut self, queue: &mpsc::Receiver<Command>, cause: &str) {
        self.peers.fail(cause);
        drop(self.link);
        while let Ok(command) = queue.recv() {
            command.fail(cause);
        }
    }
}
