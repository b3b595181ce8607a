//! The writer of the catalogue: one thread, so that changes come one after the other.

use super::error::CatalogueError;
use super::file::File;
use super::snapshot::{Container, Pool, Snapshot, State};
use super::{Answer, Handle, Job, NewPool};
use crate::index::key;
use daos_wire::{POOL_BDEV_MIN, POOL_SCM_MIN, check_label};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

pub(super) enum Command {
    CreatePool {
        new: NewPool,
        answer: Answer<Pool>,
    },
    DestroyPool {
        id: Uuid,
        recursive: bool,
        answer: Answer<()>,
    },
    LabelPool {
        id: Uuid,
        label: String,
        answer: Answer<()>,
    },
    CreateContainer {
        pool: Uuid,
        id: Uuid,
        label: String,
        answer: Answer<Container>,
    },
    DestroyContainer {
        pool: Uuid,
        id: Uuid,
        answer: Answer<()>,
    },
    /// A target has removed its part; the number is the incarnation of what is destroyed.
    Removed {
        target: u32,
        incarnation: u64,
    },
    Stop,
}

/// A destruction under way.
struct Destruction {
    pool: Uuid,
    /// The container, unless it is the whole pool.
    container: Option<Uuid>,
    /// Targets that have not removed their part yet.
    missing: BTreeSet<u32>,
    waiting: Vec<Answer<()>>,
}

pub(super) struct Keeper {
    file: File,
    handle: Handle,
    /// By incarnation.
    running: HashMap<u64, Destruction>,
    next_incarnation: u64,
}

impl Keeper {
    pub(super) fn new(file: File, handle: Handle) -> Self {
        let snapshot = handle.snapshot();
        let pools = snapshot.pools().map(|pool| pool.incarnation);
        let containers = snapshot.containers.values().map(|c| c.incarnation);
        let newest = pools.chain(containers).max();
        Self {
            file,
            handle,
            running: HashMap::new(),
            next_incarnation: newest.map_or(1, |n| n + 1),
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        self.resume();
        while let Ok(command) = inbox.recv() {
            match command {
                Command::CreatePool { new, answer } => answer(self.create_pool(&new)),
                Command::DestroyPool {
                    id,
                    recursive,
                    answer,
                } => match self.mark_pool(id, recursive) {
                    Ok(incarnation) => self.destroy(incarnation, id, None, Some(answer)),
                    Err(error) => answer(Err(error)),
                },
                Command::LabelPool { id, label, answer } => answer(self.label_pool(id, &label)),
                Command::CreateContainer {
                    pool,
                    id,
                    label,
                    answer,
                } => answer(self.create_container(pool, id, &label)),
                Command::DestroyContainer { pool, id, answer } => {
                    match self.mark_container(pool, id) {
                        Ok(incarnation) => self.destroy(incarnation, pool, Some(id), Some(answer)),
                        Err(error) => answer(Err(error)),
                    }
                }
                Command::Removed {
                    target,
                    incarnation,
                } => self.removed(target, incarnation),
                Command::Stop => return,
            }
        }
    }

    /// Goes on with what a former process had begun to destroy.
    fn resume(&mut self) {
        let snapshot = self.handle.snapshot();
        let dying = |state: State| state == State::Destroying;
        for container in snapshot.containers.values().filter(|c| dying(c.state)) {
            let id = Some(container.id);
            self.destroy(container.incarnation, container.pool, id, None);
        }
        for pool in snapshot.pools().filter(|pool| dying(pool.state)) {
            self.destroy(pool.incarnation, pool.id, None, None);
        }
    }

    fn create_pool(&mut self, new: &NewPool) -> Result<Pool, CatalogueError> {
        check_label(&new.label)?;
        let capacity = self.handle.capacity;
        let targets = u64::from(capacity.targets);
        let scm_bytes = new.scm_bytes / targets * targets;
        let bdev_bytes = new.bdev_bytes / capacity.stripe() * capacity.stripe();
        let snapshot = self.handle.snapshot();
        if let Some(pool) = snapshot.pools.get(&new.id) {
            let same = (&pool.label, pool.scm_bytes, pool.bdev_bytes)
                == (&new.label, scm_bytes, bdev_bytes);
            return match (pool.state, same) {
                (State::Destroying, _) => {
                    Err(CatalogueError::Destroying(format!("pool {}", new.id)))
                }
                (State::Live, true) => Ok(pool.clone()),
                (State::Live, false) => Err(CatalogueError::PoolExists(format!(
                    "pool {} exists with label {}, {} bytes of SCM and {} of block device",
                    new.id, pool.label, pool.scm_bytes, pool.bdev_bytes
                ))),
            };
        }
        if let Ok(pool) = snapshot.pool_of_label(&new.label) {
            return Err(CatalogueError::PoolExists(format!(
                "the label {} belongs to pool {}",
                new.label, pool.id
            )));
        }
        if scm_bytes / targets < POOL_SCM_MIN
            || (new.bdev_bytes > 0 && bdev_bytes / targets < POOL_BDEV_MIN)
        {
            return Err(CatalogueError::TooSmall(format!(
                "a pool needs {} bytes of SCM and none or {} bytes of block device for {targets} target(s); {} and {} were asked for",
                POOL_SCM_MIN * targets,
                POOL_BDEV_MIN * targets,
                new.scm_bytes,
                new.bdev_bytes
            )));
        }
        let (scm_used, bdev_used) = snapshot.promised();
        for (tier, wanted, used, total) in [
            ("SCM", scm_bytes, scm_used, capacity.scm_total()),
            ("block device", bdev_bytes, bdev_used, capacity.bdev_total()),
        ] {
            let free = total.saturating_sub(used);
            if wanted > free {
                return Err(CatalogueError::NoSpace(format!(
                    "{wanted} bytes of {tier} are asked for and {free} are there: of {total} bytes for pools, {used} belong to others"
                )));
            }
        }
        let pool = Pool {
            id: new.id,
            label: new.label.clone(),
            owner: new.owner.clone(),
            owner_group: new.owner_group.clone(),
            scm_bytes,
            bdev_bytes,
            created_ms: now_ms(),
            state: State::Live,
            incarnation: self.incarnation(),
        };
        self.file.put_pool(&pool)?;
        self.publish(|next| drop(next.pools.insert(pool.id, pool.clone())));
        tracing::info!(pool = %pool.id, label = pool.label, scm_bytes, bdev_bytes, "pool created");
        Ok(pool)
    }

    fn label_pool(&mut self, id: Uuid, label: &str) -> Result<(), CatalogueError> {
        check_label(label)?;
        let snapshot = self.handle.snapshot();
        let pool = snapshot.pool(id)?;
        if pool.label == label {
            return Ok(());
        }
        if let Ok(other) = snapshot.pool_of_label(label) {
            return Err(CatalogueError::PoolExists(format!(
                "the label {label} belongs to pool {}",
                other.id
            )));
        }
        let labelled = Pool {
            label: label.to_owned(),
            ..pool.clone()
        };
        self.file.put_pool(&labelled)?;
        tracing::info!(pool = %id, was = pool.label, label, "pool labelled");
        self.publish(|next| drop(next.pools.insert(id, labelled)));
        Ok(())
    }

    fn create_container(
        &mut self,
        pool: Uuid,
        id: Uuid,
        label: &str,
    ) -> Result<Container, CatalogueError> {
        if !label.is_empty() {
            check_label(label)?;
        }
        let snapshot = self.handle.snapshot();
        let of = &snapshot.pool(pool)?.label;
        if let Some(container) = snapshot.containers.get(&(pool, id)) {
            return match container.state {
                State::Destroying => Err(CatalogueError::Destroying(format!("container {id}"))),
                State::Live if container.label == label => Ok(container.clone()),
                State::Live => Err(CatalogueError::ContainerExists(format!(
                    "container {id} of pool {of} exists with {}",
                    match container.label.as_str() {
                        "" => "no label".to_owned(),
                        label => format!("label {label}"),
                    }
                ))),
            };
        }
        if !label.is_empty()
            && let Ok(other) = snapshot.container_of_label(pool, label)
        {
            return Err(CatalogueError::ContainerExists(format!(
                "the label {label} belongs to container {} of pool {of}",
                other.id
            )));
        }
        let container = Container {
            id,
            pool,
            label: label.to_owned(),
            created_ms: now_ms(),
            state: State::Live,
            incarnation: self.incarnation(),
        };
        self.file.put_container(&container)?;
        let name = (pool, id);
        self.publish(|next| drop(next.containers.insert(name, container.clone())));
        Ok(container)
    }

    /// Marks a pool: from now on its destruction is certain.
    fn mark_pool(&mut self, id: Uuid, recursive: bool) -> Result<u64, CatalogueError> {
        let snapshot = self.handle.snapshot();
        if let Some(pool) = snapshot.pools.get(&id)
            && pool.state == State::Destroying
        {
            return Ok(pool.incarnation);
        }
        let pool = snapshot.pool(id)?;
        let live = |c: &&Container| c.state == State::Live;
        let count = snapshot.containers(id).filter(live).count();
        if count > 0 && !recursive {
            return Err(CatalogueError::HasContainers {
                pool: pool.label.clone(),
                count,
            });
        }
        let marked = Pool {
            state: State::Destroying,
            ..pool.clone()
        };
        self.file.put_pool(&marked)?;
        let incarnation = marked.incarnation;
        tracing::info!(pool = %id, label = marked.label, "pool is being destroyed");
        self.publish(|next| drop(next.pools.insert(id, marked)));
        Ok(incarnation)
    }

    fn mark_container(&mut self, pool: Uuid, id: Uuid) -> Result<u64, CatalogueError> {
        let snapshot = self.handle.snapshot();
        snapshot.pool(pool)?;
        if let Some(container) = snapshot.containers.get(&(pool, id))
            && container.state == State::Destroying
        {
            return Ok(container.incarnation);
        }
        let marked = Container {
            state: State::Destroying,
            ..snapshot.container(pool, id)?.clone()
        };
        self.file.put_container(&marked)?;
        let incarnation = marked.incarnation;
        self.publish(|next| drop(next.containers.insert((pool, id), marked)));
        Ok(incarnation)
    }

    /// Has every target remove its part of what is marked, unless that is under way.
    fn destroy(
        &mut self,
        incarnation: u64,
        pool: Uuid,
        container: Option<Uuid>,
        answer: Option<Answer<()>>,
    ) {
        if let Some(running) = self.running.get_mut(&incarnation) {
            return running.waiting.extend(answer);
        }
        let destruction = Destruction {
            pool,
            container,
            missing: (0..self.handle.capacity.targets).collect(),
            waiting: answer.into_iter().collect(),
        };
        self.running.insert(incarnation, destruction);
        // Targets work these off in order: what belongs to a container of before is gone before its
        // pool is, and before anything can be made again under the same UUIDs.
        for link in self.handle.links.iter() {
            link.send(Job::Remove {
                prefix: key::prefix(pool, container),
                incarnation,
            });
        }
    }

    fn removed(&mut self, target: u32, incarnation: u64) {
        let Some(running) = self.running.get_mut(&incarnation) else {
            return;
        };
        running.missing.remove(&target);
        if !running.missing.is_empty() {
            return;
        }
        let Some(ended) = self.running.remove(&incarnation) else {
            return;
        };
        let result = self.forget(ended.pool, ended.container, incarnation);
        if let Err(error) = &result {
            // The data is gone, the entry is not: the next start removes it.
            tracing::error!(pool = %ended.pool, %error, "a destruction could not be completed");
        }
        for answer in ended.waiting {
            answer(result.clone());
        }
    }

    /// Removes an entry whose data is gone.
    fn forget(
        &mut self,
        pool: Uuid,
        container: Option<Uuid>,
        incarnation: u64,
    ) -> Result<(), CatalogueError> {
        let snapshot = self.handle.snapshot();
        let Some(container) = container else {
            let containers: Vec<Uuid> = snapshot.containers(pool).map(|c| c.id).collect();
            self.file.remove_pool(pool, containers.into_iter())?;
            self.publish(|next| {
                next.containers.retain(|(of, _), _| *of != pool);
                next.pools.remove(&pool);
            });
            tracing::info!(%pool, "pool destroyed");
            return Ok(());
        };
        let name = (pool, container);
        let known = snapshot.containers.get(&name);
        // Its pool may have been destroyed meanwhile, with everything in it.
        if known.is_some_and(|known| known.incarnation == incarnation) {
            self.file.remove_container(pool, container)?;
            self.publish(|next| drop(next.containers.remove(&name)));
        }
        Ok(())
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&self.handle.view.load());
        change(&mut next);
        next.version += 1;
        self.handle.view.store(Arc::new(next));
    }

    fn incarnation(&mut self) -> u64 {
        self.next_incarnation += 1;
        self.next_incarnation - 1
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
