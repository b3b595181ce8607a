//! Threads that carry out tasks with blocking system calls: the engine where io_uring is not
//! allowed, and the helper of ring queues for what rings cannot do.

use crate::memory::PageBuf;
use crate::sys;
use crate::target::Target;
use crate::task::{BOUNCE, Task};
use daos_plugin_api::abi::{Completion, Status};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What became of a task that was to be aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aborted {
    /// It had not begun and is forgotten.
    Removed,
    /// It runs or is complete, and will be reported.
    TooLate,
    /// No such task.
    Unknown,
}

struct State {
    jobs: VecDeque<Task>,
    running: Vec<u64>,
    done: VecDeque<Completion>,
    /// Somebody sleeps, or is about to, on the bell.
    armed: bool,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    done: AtomicUsize,
    bell: Arc<OwnedFd>,
    target: Arc<Target>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A few threads with a queue of tasks.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads` threads; room for `depth` tasks is made at once. `bell` is an eventfd that
    /// they signal, see [`Pool::arm`].
    pub(crate) fn new(
        target: Arc<Target>,
        bell: Arc<OwnedFd>,
        threads: usize,
        depth: u32,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                jobs: VecDeque::with_capacity(depth as usize),
                running: Vec::with_capacity(threads),
                done: VecDeque::with_capacity(depth as usize),
                armed: false,
                stop: false,
            }),
            work: Condvar::new(),
            done: AtomicUsize::new(0),
            bell,
            target,
        });
        let mut pool = Self {
            shared,
            threads: Vec::with_capacity(threads),
        };
        for index in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("bdev-io-{index}"));
            pool.threads.push(thread.spawn(move || work(&shared))?);
        }
        Ok(pool)
    }

    /// Hands tasks over.
    pub(crate) fn submit(&self, tasks: impl Iterator<Item = Task>) {
        let mut state = self.shared.state();
        let before = state.jobs.len();
        state.jobs.extend(tasks);
        let added = state.jobs.len() - before;
        drop(state);
        if added > 1 {
            self.shared.work.notify_all();
        } else if added == 1 {
            self.shared.work.notify_one();
        }
    }

    /// Takes up to `most` completions.
    pub(crate) fn take(&self, most: usize, mut each: impl FnMut(Completion)) {
        if self.shared.done.load(Ordering::Acquire) == 0 || most == 0 {
            return;
        }
        let mut state = self.shared.state();
        let count = state.done.len().min(most);
        state.done.drain(..count).for_each(&mut each);
        self.shared.done.store(state.done.len(), Ordering::Release);
    }

    /// Forgets a task that has not begun.
    pub(crate) fn abort(&self, tag: u64) -> Aborted {
        let mut state = self.shared.state();
        if let Some(at) = state.jobs.iter().position(|task| task.tag == tag) {
            state.jobs.remove(at);
            return Aborted::Removed;
        }
        let busy = state.running.contains(&tag) || state.done.iter().any(|done| done.tag == tag);
        if busy {
            Aborted::TooLate
        } else {
            Aborted::Unknown
        }
    }

    /// Asks for the bell at the next completion. True if completions wait already, in which case
    /// sleeping would be wrong.
    pub(crate) fn arm(&self) -> bool {
        let mut state = self.shared.state();
        state.armed = true;
        !state.done.is_empty()
    }
}

impl Drop for Pool {
    /// Forgets what has not begun and waits for what has.
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stop = true;
        state.jobs.clear();
        drop(state);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported by the panic hook; nothing is left to wait for.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared) {
    let mut bounce = PageBuf::new(BOUNCE);
    let mut state = shared.state();
    loop {
        if state.stop {
            return;
        }
        let Some(task) = state.jobs.pop_front() else {
            state = shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.running.push(task.tag);
        drop(state);
        let status = carry_out(task, &shared.target, &mut bounce);
        state = shared.state();
        if let Some(at) = state.running.iter().position(|tag| *tag == task.tag) {
            state.running.swap_remove(at);
        }
        state.done.push_back(Completion {
            tag: task.tag,
            status,
            reserved: 0,
        });
        shared.done.store(state.done.len(), Ordering::Release);
        if std::mem::take(&mut state.armed) {
            // Fails only when the counter is full, and then the bell rings anyway.
            let _ = rustix::io::write(&*shared.bell, &1u64.to_ne_bytes());
        }
    }
}

fn carry_out(mut task: Task, target: &Target, bounce: &mut PageBuf) -> Status {
    loop {
        let result = sys::perform(target.fd(), &task.action(), bounce);
        let read = usize::try_from(result).unwrap_or(0).min(bounce.len());
        if let Some(status) = task.finish(result, bounce.filled(read), target) {
            return status;
        }
    }
}
