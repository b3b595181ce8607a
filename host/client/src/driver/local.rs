//! The endpoint in a task of the caller's thread.
//!
//! A call then takes no thread switch: the caller's task queues the request, this task sends it and
//! looks for the reply, between the other tasks of the thread. It never blocks the thread; while a
//! reply is due it keeps the runtime from sleeping for a moment, as the engine does.

use super::alarm::Alarm;
use super::link::{Sleep, watch};
use super::spin::{Look, Spin, give_way};
use super::{Call, Command, Driver, Loop, RingOnDrop, Started, TICK, failed, open_link, provider};
use crate::Error;
use daos_plugin_api::abi::Status;
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
        look: Look::default(),
        is_blind: false,
        alarm: Alarm::new(),
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
    /// The endpoint has no descriptor, as the last wait showed: it has to be looked at.
    is_blind: bool,
    look: Look,
    alarm: Alarm,
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
        driver.flush().map_err(fault)?;
        let due = !driver.peers.is_idle();
        let spin = due.then(|| driver.spin(Instant::now()));
        let looks = self.is_blind && spin.is_some_and(|spin| self.look.goes_on(spin));
        let wait = if looks {
            give_way().await;
            Wait::Poll
        } else {
            self.look.ends();
            match driver.link.arm_wait().map_err(fault)? {
                Sleep::Not => Wait::Poll,
                Sleep::Until { fd, timer } => {
                    if let Some(fd) = fd
                        && self.watch.as_ref().is_none_or(|w| w.0 != fd.as_raw_fd())
                    {
                        let watched = watch(fd).map_err(|e| {
                            format!("the endpoint's descriptor cannot be watched: {e}")
                        })?;
                        self.watch = Some((fd.as_raw_fd(), watched));
                    }
                    self.is_blind = fd.is_none();
                    self.rest(timer, spin).await
                }
            }
        };
        if wait == Wait::Poll {
            let progress = driver.progress().map_err(fault)?;
            if progress {
                self.look.restart();
            }
            if driver.replied || !progress && !looks {
                // Callers that got a reply ask for more: that is sent in one go.
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits, without sleeping at first for the time `spin` while replies are due.
    async fn rest(&mut self, timer: Option<Duration>, spin: Option<Duration>) -> Wait {
        let due = spin.is_some();
        let watch = self.watch.as_ref().filter(|_| !self.is_blind);
        // Without a descriptor waiting shows nothing: then it is `turn` that looks for a moment.
        let spin = match watch {
            Some(_) => spin.and_then(Spin::begin),
            None => None,
        };
        // Nobody waits for anything: what moves meanwhile may take its time.
        let timer = match due || watch.is_some() {
            true => timer,
            false => timer.map(|timer| timer.max(TICK)),
        };
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
                () = self.alarm.after(timer), if !spinning && timer.is_some() => return Wait::Poll,
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
