//! What takes long and needs no device: commits of index batches and checksums of large values, on
//! helper threads, or on the target's own when there are none.
//!
//! A buffer goes to the helper with its job and comes back with the result, so that it has one owner
//! at any time.

use crate::index::{IndexError, Writer, overlay::Batch};
use crate::memory::Buffer;
use crate::wake::Wake;
use daos_wire::crc32c;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Smallest value whose checksum is worth the way to a helper and back, if the target has other things
/// to do meanwhile. The way takes as much CPU as the checksum of some hundred thousand bytes, most of it to
/// wake two threads: a target that would only wait is faster on its own.
pub const CHECKSUM_MIN: usize = 128 << 10;

/// A job that has ended.
pub enum Finished {
    /// A commit.
    Commit {
        /// Log sequence of the batch.
        upto: u64,
        /// How it went.
        result: Result<(), IndexError>,
    },
    /// A checksum.
    Checksum {
        /// As given when it began.
        user: u64,
        /// Its buffer.
        buffer: Buffer,
        /// CRC-32C of the bytes asked for.
        crc: u32,
    },
    /// Checksums of several parts of a buffer.
    Checksums {
        /// As given when it began.
        user: u64,
        /// The buffer.
        buffer: Buffer,
        /// CRC-32C of each part.
        crcs: Vec<u32>,
    },
}

impl Finished {
    /// The buffer that comes back with it.
    pub fn buffer(self) -> Option<Buffer> {
        match self {
            Self::Commit { .. } => None,
            Self::Checksum { buffer, .. } | Self::Checksums { buffer, .. } => Some(buffer),
        }
    }
}

enum Work {
    Commit {
        writer: Writer,
        batch: Batch,
    },
    Checksum {
        user: u64,
        buffer: Buffer,
        len: usize,
    },
    Checksums {
        user: u64,
        buffer: Buffer,
        parts: Vec<Range<usize>>,
    },
}

impl Work {
    fn run(self) -> Finished {
        match self {
            Self::Commit { writer, batch } => Finished::Commit {
                upto: batch.upto,
                result: writer.commit(&batch),
            },
            Self::Checksum { user, buffer, len } => Finished::Checksum {
                user,
                crc: crc32c(&buffer.bytes()[..len]),
                buffer,
            },
            Self::Checksums {
                user,
                buffer,
                parts,
            } => {
                let of = |part: Range<usize>| crc32c(&buffer.bytes()[part]);
                Finished::Checksums {
                    user,
                    crcs: parts.into_iter().map(of).collect(),
                    buffer,
                }
            }
        }
    }
}

struct Job {
    work: Work,
    reply: Sender<Finished>,
    wake: Wake,
}

/// The way to one thread.
#[derive(Clone)]
struct Lane {
    jobs: Sender<Job>,
    /// Jobs that have not ended.
    load: Arc<AtomicUsize>,
}

/// Threads that work for the targets; they end when all [`Helper`]s are gone.
pub struct Helpers {
    lanes: Vec<Lane>,
    threads: Vec<JoinHandle<()>>,
}

impl Helpers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let mut helpers = Self {
            lanes: Vec::new(),
            threads: Vec::new(),
        };
        for n in 0..count {
            let (jobs, receiver) = channel();
            let load = Arc::new(AtomicUsize::new(0));
            let own = Arc::clone(&load);
            let thread = std::thread::Builder::new()
                .name(format!("helper-{n}"))
                .spawn(move || serve(&receiver, &own))?;
            helpers.lanes.push(Lane { jobs, load });
            helpers.threads.push(thread);
        }
        Ok(helpers)
    }

    /// The helper of a target.
    pub fn helper(&self, target: u32, wake: Wake) -> Helper {
        let (reply, done) = channel();
        let lane = match self.lanes.len() {
            0 => None,
            count => Some(self.lanes[target as usize % count].clone()),
        };
        Helper {
            lane,
            reply,
            done,
            wake,
        }
    }

    /// Waits for the threads; all helpers are gone.
    pub fn join(self) {
        drop(self.lanes);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a helper thread panicked");
            }
        }
    }
}

fn serve(jobs: &Receiver<Job>, load: &AtomicUsize) {
    while let Ok(Job { work, reply, wake }) = jobs.recv() {
        let finished = work.run();
        load.fetch_sub(1, Ordering::Relaxed);
        // A target that is gone needs no answer.
        if reply.send(finished).is_ok() {
            wake.wake();
        }
    }
}

/// How one target has work done.
pub struct Helper {
    lane: Option<Lane>,
    reply: Sender<Finished>,
    done: Receiver<Finished>,
    wake: Wake,
}

impl Helper {
    /// Starts a commit; its end comes out of [`Helper::poll`], at once if there is no helper.
    pub fn commit(&self, writer: Writer, batch: Batch) {
        let work = Work::Commit { writer, batch };
        let work = match &self.lane {
            Some(lane) => match self.hand_over(lane, work) {
                Ok(()) => return,
                Err(work) => work,
            },
            None => work,
        };
        // The receiver is in `self`.
        let _ = self.reply.send(work.run());
    }

    /// Starts the checksum of the first `len` bytes of `buffer`; it comes out of [`Helper::poll`].
    ///
    /// # Errors
    /// The buffer, if the caller has to do it itself: no helper, or one that is busy, possibly for long
    /// with a commit.
    pub fn checksum(&self, user: u64, buffer: Buffer, len: usize) -> Result<(), Buffer> {
        let idle = |lane: &&Lane| lane.load.load(Ordering::Relaxed) == 0;
        match self.lane.as_ref().filter(idle) {
            Some(lane) => {
                let work = Work::Checksum { user, buffer, len };
                match self.hand_over(lane, work) {
                    Err(Work::Checksum { buffer, .. }) => Err(buffer),
                    _ => Ok(()),
                }
            }
            None => Err(buffer),
        }
    }

    /// Likewise of several parts of `buffer`.
    ///
    /// # Errors
    /// Buffer and parts, as for [`Helper::checksum`].
    pub fn checksums(
        &self,
        user: u64,
        buffer: Buffer,
        parts: Vec<Range<usize>>,
    ) -> Result<(), (Buffer, Vec<Range<usize>>)> {
        let idle = |lane: &&Lane| lane.load.load(Ordering::Relaxed) == 0;
        match self.lane.as_ref().filter(idle) {
            Some(lane) => {
                let work = Work::Checksums {
                    user,
                    buffer,
                    parts,
                };
                match self.hand_over(lane, work) {
                    Err(Work::Checksums { buffer, parts, .. }) => Err((buffer, parts)),
                    _ => Ok(()),
                }
            }
            None => Err((buffer, parts)),
        }
    }

    fn hand_over(&self, lane: &Lane, work: Work) -> Result<(), Work> {
        lane.load.fetch_add(1, Ordering::Relaxed);
        let job = Job {
            work,
            reply: self.reply.clone(),
            wake: self.wake.clone(),
        };
        lane.jobs.send(job).map_err(|refused| {
            lane.load.fetch_sub(1, Ordering::Relaxed);
            refused.0.work
        })
    }

    /// A job that has ended.
    pub fn poll(&self) -> Option<Finished> {
        self.done.try_recv().ok()
    }

    /// Waits for a job under way to end.
    pub fn wait(&self) -> Option<Finished> {
        self.done.recv().ok()
    }
}
