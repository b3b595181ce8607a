//! The catalogue of an engine: which pools and containers there are.
//!
//! A small database on the SCM mount ([`file`]) with one writer, a thread of its own (`keeper`), since
//! a durable change takes longer than a target may be kept. Everybody else reads an immutable
//! [`Snapshot`], which the writer replaces after each durable change.
//!
//! Destroying is marked first, durably: from then on nobody sees the pool or container, and its
//! destruction is carried out even if the engine is killed. Then every target removes its part
//! piece by piece, and last the entry goes. A start resumes what it finds marked.

pub mod desk;
mod error;
mod file;
mod keeper;
mod snapshot;

pub use desk::{Desk, Job};
pub use error::CatalogueError;
pub use file::CATALOGUE_BYTES;
pub use snapshot::{Capacity, Container, Missing, Pool, Snapshot, State};

use crate::storage::quota::Usage;
use crate::wake::Wake;
use arc_swap::ArcSwap;
use keeper::{Command, Keeper};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use uuid::Uuid;

/// The answer to a change, once it is durable. Called by the catalogue's thread, so it must not block.
pub type Answer<T> = Box<dyn FnOnce(Result<T, CatalogueError>) + Send>;

/// A pool to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPool {
    /// Its UUID.
    pub id: Uuid,
    /// Its label.
    pub label: String,
    /// Owning user and group; may be empty.
    pub owner: String,
    /// As above.
    pub owner_group: String,
    /// Bytes of SCM on this engine; rounded down so that every target gets as much as the others.
    pub scm_bytes: u64,
    /// Bytes of block device on this engine; rounded down likewise.
    pub bdev_bytes: u64,
}

/// How the catalogue reaches a target.
struct Link {
    jobs: Sender<Job>,
    wake: Wake,
}

impl Link {
    fn send(&self, job: Job) {
        // A target that has ended does nothing any more; the next start resumes.
        if self.jobs.send(job).is_ok() {
            self.wake.wake();
        }
    }
}

/// An opened catalogue; it gets its thread once all targets are linked.
pub struct Opening {
    file: file::File,
    view: Arc<ArcSwap<Snapshot>>,
    capacity: Capacity,
    commands: Sender<Command>,
    inbox: Receiver<Command>,
    links: Vec<Link>,
}

/// Access to the catalogue from any thread.
#[derive(Clone)]
pub struct Handle {
    view: Arc<ArcSwap<Snapshot>>,
    capacity: Capacity,
    commands: Sender<Command>,
    links: Arc<[Link]>,
}

/// The catalogue of a running engine. Its thread ends with this value.
pub struct Catalogue {
    handle: Handle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Opening {
    /// Opens the catalogue at `path`, or makes one if the engine is new.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(
        path: &Path,
        identity: &[u8],
        is_new: bool,
        capacity: Capacity,
    ) -> Result<Self, CatalogueError> {
        let file = file::File::open(path, identity, is_new)?;
        let snapshot = file.load()?;
        if is_new && snapshot.pools().next().is_some() {
            return Err(CatalogueError::Corrupt(format!(
                "{} has pools although engine.json is missing",
                path.display()
            )));
        }
        let (commands, inbox) = mpsc::channel();
        Ok(Self {
            file,
            view: Arc::new(ArcSwap::from_pointee(snapshot)),
            capacity,
            commands,
            inbox,
            links: Vec::new(),
        })
    }

    /// The desk of the next target, in target order.
    pub fn desk(&mut self, wake: Wake) -> Desk {
        let (jobs, inbox) = mpsc::channel();
        let number = self.links.len() as u32; // targets are few
        self.links.push(Link {
            jobs,
            wake: wake.clone(),
        });
        Desk::new(
            number,
            Arc::clone(&self.view),
            self.capacity,
            self.commands.clone(),
            inbox,
            wake,
        )
    }

    /// Starts the thread, which resumes the destructions that were under way.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self) -> std::io::Result<Catalogue> {
        let handle = Handle {
            view: self.view,
            capacity: self.capacity,
            commands: self.commands,
            links: self.links.into(),
        };
        let keeper = Keeper::new(self.file, handle.clone());
        let inbox = self.inbox;
        let thread = std::thread::Builder::new()
            .name("catalogue".into())
            .spawn(move || keeper.run(&inbox))?;
        Ok(Catalogue {
            handle,
            thread: Mutex::new(Some(thread)),
        })
    }
}

impl Handle {
    /// Everything as of now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.view.load_full()
    }

    /// What there is to be divided among pools.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Makes a pool. One with the same UUID, label and sizes is taken for this one: who repeats a
    /// request whose answer was lost succeeds.
    pub fn create_pool(&self, new: NewPool, answer: Answer<Pool>) {
        self.send(Command::CreatePool { new, answer });
    }

    /// Destroys a pool; answers when all its space is free. Containers are in the way unless `recursive`.
    pub fn destroy_pool(&self, id: Uuid, recursive: bool, answer: Answer<()>) {
        self.send(Command::DestroyPool {
            id,
            recursive,
            answer,
        });
    }

    /// Gives a pool another label. Repeating it is fine.
    pub fn label_pool(&self, id: Uuid, label: String, answer: Answer<()>) {
        self.send(Command::LabelPool { id, label, answer });
    }

    /// Makes a container, with a label unless that is empty. Repeating it is fine, as for pools.
    pub fn create_container(&self, pool: Uuid, id: Uuid, label: String, answer: Answer<Container>) {
        self.send(Command::CreateContainer {
            pool,
            id,
            label,
            answer,
        });
    }

    /// Asks every target what a pool uses there; `answer` is called once by each, with its number.
    pub fn usage(&self, pool: Uuid, answer: &Arc<dyn Fn(u32, Usage) + Send + Sync>) {
        for link in self.links.iter() {
            link.send(Job::Usage {
                pool,
                answer: Arc::clone(answer),
            });
        }
    }

    fn send(&self, command: Command) {
        // Without its thread the engine is about to end, and drops the answers.
        let _ = self.commands.send(command);
    }
}

impl Catalogue {
    /// Access from any thread.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the thread; destructions that are not finished are resumed by the next start.
    pub fn stop(&self) {
        self.handle.send(Command::Stop);
        let mut thread = self
            .thread
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the catalogue's thread panicked");
        }
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
