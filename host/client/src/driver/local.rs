//! The endpoint in a task of the caller's thread.
//!
//! A call then takes no thread switch: the caller's task queues the request, this task sends it and
//! looks for the reply, between the other tasks of the thread. It never blocks the thread; while a
//! reply is due it keeps the runtime from sleeping for a moment, as the engine does.

use super::crowd::Crowd;
use super::link::{Sleep, watch};
use super::{
    Call, Command, Driver, Loop, RingOnDrop, SPIN, Started, TICK, failed, open_link, provider,
};
use crate::Error;
use daos_plugin_api::abi::Status;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::yield_now;
use uuid::Uuid;

/// Opens the fabric here.
pub(super) fn start(
    provider: &str,
    interface: &str,
    plugins_dir: Option<PathBuf>,
    client: Uuid,
) -> Result<Started, Error> {
    let fabric = provider::open(provider, interface, plugins_dir.as_deref())?;
    let opened = open_link(&fabric).map_err(|cause| failed(provider, cause))?;
    let (commands, queue) = mpsc::channel();
    let notify = Arc::new(Notify::new());
    let task = Task {
        queue,
        notify: notify.clone(),
        watch: None,
        tick: Box::pin(tokio::time::sleep(TICK)),
    };
    tokio::task::spawn_local(async move {
        // Kept until the endpoint is closed.
        let _attached = opened.attached;
        task.run(Loop::new(opened.link, client)).await;
    });
    Ok(Started {
        driver: Driver {
            commands,
            bell: Arc::new(RingOnDrop(Call::Task(notify))),
        },
        pool: opened.pool,
        address: opened.address,
    })
}

struct Task {
    queue: mpsc::Receiver<Command>,
    notify: Arc<Notify>,
    /// The endpoint's descriptor, as the runtime watches it: a duplicate, so that closing it is ours.
    watch: Option<(RawFd, AsyncFd<OwnedFd>)>,
    /// When deadlines and silent targets are to be looked at.
    tick: Pin<Box<tokio::time::Sleep>>,
}

impl Task {
    async fn run(mut self, mut driver: Loop) {
        let cause = loop {
            loop {
                match self.queue.try_recv() {
                    Ok(command) => driver.obey(command),
                    Err(TryRecvError::Empty) => break,
                    // Nobody is left who could wait for an outcome.
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            match self.turn(&mut driver).await {
                Ok(()) => {}
                Err(cause) => break cause,
            }
        };
        tracing::error!("{cause}");
        driver.peers.fail(&cause);
        drop(driver);
        loop {
            match self.queue.try_recv() {
                Ok(command) => command.fail(&cause),
                Err(TryRecvError::Empty) => self.notify.notified().await,
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Sends what is to be sent, and waits until there is something to do.
    async fn turn(&mut self, driver: &mut Loop) -> Result<(), String> {
        let fault = |status: Status| format!("the endpoint failed: {status}");
        driver.link.flush().map_err(fault)?;
        let wait = match driver.link.arm_wait().map_err(fault)? {
            Sleep::Not => Wait::Poll,
            Sleep::Until { fd, timer } => {
                if let Some(fd) = fd
                    && self.watch.as_ref().is_none_or(|w| w.0 != fd.as_raw_fd())
                {
                    let watched = watch(fd)
                        .map_err(|e| format!("the endpoint's descriptor cannot be watched: {e}"))?;
                    self.watch = Some((fd.as_raw_fd(), watched));
                }
                let watched = fd.is_some();
                let due = !driver.peers.is_idle();
                self.rest(watched, timer, due).await
            }
        };
        if wait == Wait::Poll {
            let progress = driver.progress().map_err(fault)?;
            if driver.replied || !progress {
                // Callers that got a reply ask for more: that is sent in one go.
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits, without sleeping at first while replies are due.
    async fn rest(&mut self, watched: bool, timer: Option<Duration>, due: bool) -> Wait {
        let watch = self.watch.as_ref().filter(|_| watched);
        let spin = if due { Spin::begin() } else { None };
        loop {
            let spinning = spin.as_ref().is_some_and(Spin::goes_on);
            tokio::select! {
                biased;
                () = self.notify.notified() => return Wait::Commands,
                () = readable(watch.map(|w| &w.1)) => return Wait::Poll,
                () = give_way(), if spinning => {}
                () = self.tick.as_mut(), if due => {
                    // One timer for all waits: setting it for each would cost more than it is worth.
                    self.tick.as_mut().reset(tokio::time::Instant::now() + TICK);
                    return Wait::Poll;
                }
                () = sleep(timer), if !spinning && timer.is_some() => return Wait::Poll,
            }
        }
    }
}

/// How a wait ended.
#[derive(PartialEq, Eq)]
enum Wait {
    /// The endpoint is to be polled.
    Poll,
    /// Commands have come.
    Commands,
}

thread_local! {
    /// Whether a task of this thread keeps its runtime awake: one does for all.
    static SPINNING: Cell<bool> = const { Cell::new(false) };
    static CROWD: RefCell<Crowd> = const { RefCell::new(Crowd::new()) };
}

/// Keeps the runtime of this thread from sleeping, for a moment.
struct Spin {
    begun: Instant,
    last: Cell<Instant>,
}

impl Spin {
    /// `None` if another task does that, or if it does not pay.
    fn begin() -> Option<Self> {
        if SPINNING.get() {
            return None;
        }
        let begun = Instant::now();
        if CROWD.with_borrow(|crowd| crowd.is_here(begun)) {
            return None;
        }
        SPINNING.set(true);
        Some(Self {
            begun,
            last: Cell::new(begun),
        })
    }

    fn goes_on(&self) -> bool {
        let now = Instant::now();
        let left = self.last.replace(now);
        let crowded = CROWD.with_borrow_mut(|crowd| crowd.gave_way(left, now));
        !crowded && now.duration_since(self.begun) < SPIN
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        SPINNING.set(false);
    }
}

/// Waits until the descriptor has something; forgets that before the endpoint is polled, so that
/// whatever comes meanwhile is noticed.
async fn readable(watch: Option<&AsyncFd<OwnedFd>>) {
    match watch {
        Some(watch) => match watch.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Lets other tasks run, and before them other threads: on a small machine the engine may need this
/// core.
async fn give_way() {
    std::thread::yield_now();
    yield_now().await;
}

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}
