//! Commits of index batches: on helper threads, or on the target's own when there are none.

use crate::index::{IndexError, Writer, overlay::Batch};
use crate::wake::Wake;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// A commit that has ended.
pub struct Committed {
    /// Log sequence of the batch.
    pub upto: u64,
    /// How it went.
    pub result: Result<(), IndexError>,
}

struct Job {
    writer: Writer,
    batch: Batch,
    reply: Sender<Committed>,
    wake: Wake,
}

/// Threads that commit for the targets; they end when all [`Committer`]s are gone.
pub struct Helpers {
    senders: Vec<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Helpers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let mut helpers = Self {
            senders: Vec::new(),
            threads: Vec::new(),
        };
        for n in 0..count {
            let (sender, receiver) = channel();
            let thread = std::thread::Builder::new()
                .name(format!("helper-{n}"))
                .spawn(move || serve(&receiver))?;
            helpers.senders.push(sender);
            helpers.threads.push(thread);
        }
        Ok(helpers)
    }

    /// The committer of a target.
    pub fn committer(&self, target: u32, wake: Wake) -> Committer {
        let (reply, done) = channel();
        let helper = match self.senders.len() {
            0 => None,
            count => Some(self.senders[target as usize % count].clone()),
        };
        Committer {
            helper,
            reply,
            done,
            wake,
        }
    }

    /// Waits for the threads; all committers are gone.
    pub fn join(self) {
        drop(self.senders);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a helper thread panicked");
            }
        }
    }
}

fn serve(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let result = job.writer.commit(&job.batch);
        let committed = Committed {
            upto: job.batch.upto,
            result,
        };
        // A target that is gone needs no answer.
        if job.reply.send(committed).is_ok() {
            job.wake.wake();
        }
    }
}

/// How one target commits.
pub struct Committer {
    helper: Option<Sender<Job>>,
    reply: Sender<Committed>,
    done: Receiver<Committed>,
    wake: Wake,
}

impl Committer {
    /// Starts a commit; its end comes out of [`Committer::poll`], at once if there is no helper.
    pub fn start(&self, writer: Writer, batch: Batch) {
        let job = Job {
            writer,
            batch,
            reply: self.reply.clone(),
            wake: self.wake.clone(),
        };
        let job = match &self.helper {
            Some(helper) => match helper.send(job) {
                Ok(()) => return,
                Err(refused) => refused.0,
            },
            None => job,
        };
        let committed = Committed {
            upto: job.batch.upto,
            result: job.writer.commit(&job.batch),
        };
        // The receiver is in `self`.
        let _ = self.reply.send(committed);
    }

    /// A commit that has ended.
    pub fn poll(&self) -> Option<Committed> {
        self.done.try_recv().ok()
    }
}
