//! A target's side of the catalogue: looks names up, hands changes in, and takes jobs.

use super::keeper::Command;
use super::snapshot::{Capacity, Container, Missing, Snapshot};
use super::{Answer, CatalogueError};
use crate::storage::quota::Usage;
use crate::wake::Wake;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use uuid::Uuid;

/// What the catalogue wants of a target.
pub enum Job {
    /// Remove everything under a prefix, and say so once its space is free.
    Remove {
        /// Prefix of keys.
        prefix: Vec<u8>,
        /// Names the job.
        incarnation: u64,
    },
    /// Say what a pool uses.
    Usage {
        /// The pool.
        pool: Uuid,
        /// Takes the number of the target and what is used.
        answer: Arc<dyn Fn(u32, Usage) + Send + Sync>,
    },
}

/// A change that a request of a client waits for has ended.
pub struct Done {
    /// Request.
    pub index: u32,
    /// The container that was made; `None` if one was destroyed.
    pub result: Result<Option<Container>, CatalogueError>,
}

/// Container that was named last.
struct Seen {
    pool: Uuid,
    container: Uuid,
    incarnation: u64,
}

/// A target's side of the catalogue.
pub struct Desk {
    number: u32,
    view: arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    capacity: Capacity,
    commands: Sender<Command>,
    jobs: Receiver<Job>,
    reply: Sender<Done>,
    done: Receiver<Done>,
    wake: Wake,
    /// Most requests in a row name the same container.
    seen: Option<Seen>,
    /// Version that `seen` is of.
    version: Option<u64>,
}

impl Desk {
    pub(super) fn new(
        number: u32,
        view: Arc<ArcSwap<Snapshot>>,
        capacity: Capacity,
        commands: Sender<Command>,
        jobs: Receiver<Job>,
        wake: Wake,
    ) -> Self {
        let (reply, done) = mpsc::channel();
        Self {
            number,
            view: arc_swap::Cache::new(view),
            capacity,
            commands,
            jobs,
            reply,
            done,
            wake,
            seen: None,
            version: None,
        }
    }

    /// Everything as of now.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        Arc::clone(self.view.load())
    }

    /// Everything as of now, if it is not what this function returned last.
    pub fn changed(&mut self) -> Option<Arc<Snapshot>> {
        let now = self.view.load();
        if self.version == Some(now.version) {
            return None;
        }
        self.version = Some(now.version);
        self.seen = None;
        Some(Arc::clone(now))
    }

    /// What there is to be divided among pools.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The incarnation of a container that can be used.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn admit(&mut self, pool: Uuid, container: Uuid) -> Result<u64, Missing> {
        let now = self.view.load();
        if self.version == Some(now.version)
            && let Some(seen) = &self.seen
            && (seen.pool, seen.container) == (pool, container)
        {
            return Ok(seen.incarnation);
        }
        let incarnation = now.container(pool, container)?.incarnation;
        // Of another version it is not kept: `changed` comes first in every round.
        self.seen = (self.version == Some(now.version)).then_some(Seen {
            pool,
            container,
            incarnation,
        });
        Ok(incarnation)
    }

    /// The next job.
    pub fn job(&self) -> Option<Job> {
        self.jobs.try_recv().ok()
    }

    /// This target's part is gone, and its space free.
    pub fn removed(&self, incarnation: u64) {
        let target = self.number;
        self.send(Command::Removed {
            target,
            incarnation,
        });
    }

    /// The next request whose change has ended.
    pub fn done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Makes a container for request `index`.
    pub fn create_container(&self, index: u32, pool: Uuid, id: Uuid, label: String) {
        let answer = self.answer(index, Some);
        self.send(Command::CreateContainer {
            pool,
            id,
            label,
            answer,
        });
    }

    /// Destroys a container for request `index`.
    pub fn destroy_container(&self, index: u32, pool: Uuid, id: Uuid) {
        let answer = self.answer(index, |()| None);
        self.send(Command::DestroyContainer { pool, id, answer });
    }

    fn answer<T: 'static>(&self, index: u32, made: fn(T) -> Option<Container>) -> Answer<T> {
        let (reply, wake) = (self.reply.clone(), self.wake.clone());
        Box::new(move |result| {
            let result = result.map(made);
            // A target that is gone needs no answer.
            if reply.send(Done { index, result }).is_ok() {
                wake.wake();
            }
        })
    }

    fn send(&self, command: Command) {
        // The thread ends after the targets.
        let _ = self.commands.send(command);
    }
}
