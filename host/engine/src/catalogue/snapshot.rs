//! What the catalogue holds at a moment.

use crate::storage::quota::{Quota, Quotas};
use daos_wire::{Entry, EntryState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

/// Whether a pool or container can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can.
    Live,
    /// Its data is being removed.
    Destroying,
}

impl From<State> for EntryState {
    fn from(state: State) -> Self {
        match state {
            State::Live => Self::Live,
            State::Destroying => Self::Destroying,
        }
    }
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its UUID.
    pub id: Uuid,
    /// Its label.
    pub label: String,
    /// Owning user, as it was told; empty if it was not.
    #[serde(default)]
    pub owner: String,
    /// Owning group, likewise.
    #[serde(default)]
    pub owner_group: String,
    /// Bytes of SCM, a multiple of the targets.
    pub scm_bytes: u64,
    /// Bytes of block device, a multiple of an allocation unit on each target.
    pub bdev_bytes: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Whether it can be used.
    pub state: State,
    /// Number that no other entry of this process's life has: tells it from a later one of its UUID.
    pub incarnation: u64,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its UUID.
    pub id: Uuid,
    /// Its pool.
    pub pool: Uuid,
    /// Its label; empty if it has none.
    pub label: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Whether it can be used.
    pub state: State,
    /// As for a pool.
    pub incarnation: u64,
}

impl Pool {
    /// As replies describe it.
    pub fn entry(&self) -> Entry {
        Entry {
            id: self.id,
            state: self.state.into(),
            created_ms: self.created_ms,
            scm_bytes: self.scm_bytes,
            bdev_bytes: self.bdev_bytes,
            label: self.label.clone(),
        }
    }
}

impl Container {
    /// As replies describe it.
    pub fn entry(&self) -> Entry {
        Entry {
            id: self.id,
            state: self.state.into(),
            created_ms: self.created_ms,
            scm_bytes: 0,
            bdev_bytes: 0,
            label: self.label.clone(),
        }
    }
}

/// What every target has to give to pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Number of targets.
    pub targets: u32,
    /// Bytes of index entries of a target.
    pub scm_bytes: u64,
    /// Allocation units of the target that has the fewest.
    pub units: u64,
    /// Bytes of a unit.
    pub unit: u32,
}

impl Capacity {
    /// Bytes of SCM of all targets.
    pub fn scm_total(&self) -> u64 {
        self.scm_bytes * u64::from(self.targets)
    }

    /// Bytes of block device of all targets.
    pub fn bdev_total(&self) -> u64 {
        self.units * self.stripe()
    }

    /// Bytes of a unit on each target.
    pub fn stripe(&self) -> u64 {
        u64::from(self.unit) * u64::from(self.targets)
    }

    /// What a pool may use on each target.
    pub fn quota(&self, pool: &Pool) -> Quota {
        Quota {
            label: Arc::from(pool.label.as_str()),
            scm_bytes: pool.scm_bytes / u64::from(self.targets),
            units: pool.bdev_bytes / self.stripe(),
        }
    }
}

/// Why data cannot be named so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Missing {
    /// No such pool.
    #[error(
        "pool {0} does not exist; `daos_shell pool create LABEL --size 50%` creates one, `daos_shell pool list` shows those that exist"
    )]
    Pool(String),
    /// The pool is being destroyed.
    #[error(
        "pool {0} is being destroyed; `daos_shell pool create LABEL --size 50%` creates another"
    )]
    DyingPool(String),
    /// No such container.
    #[error(
        "container {1} does not exist in pool {0}; `daos container create --pool {0} LABEL` creates one, `daos container list --pool {0}` shows those that exist"
    )]
    Container(String, String),
    /// The container is being destroyed.
    #[error(
        "container {1} of pool {0} is being destroyed; `daos container create --pool {0} LABEL` creates another"
    )]
    DyingContainer(String, String),
}

/// What the catalogue holds at a moment; never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    pub(super) pools: BTreeMap<Uuid, Pool>,
    pub(super) containers: BTreeMap<(Uuid, Uuid), Container>,
}

impl Snapshot {
    /// All pools by UUID, also those being destroyed.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// A pool that can be used.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn pool(&self, id: Uuid) -> Result<&Pool, Missing> {
        match self.pools.get(&id) {
            Some(pool) if pool.state == State::Live => Ok(pool),
            Some(pool) => Err(Missing::DyingPool(pool.label.clone())),
            None => Err(Missing::Pool(id.to_string())),
        }
    }

    /// A pool that can be used, by its label.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn pool_of_label(&self, label: &str) -> Result<&Pool, Missing> {
        let live = |pool: &&Pool| pool.state == State::Live && pool.label == label;
        self.pools()
            .find(live)
            .ok_or_else(|| Missing::Pool(label.to_owned()))
    }

    /// Containers of a pool by UUID, also those being destroyed.
    pub fn containers(&self, pool: Uuid) -> impl Iterator<Item = &Container> {
        let all = (pool, Uuid::nil())..=(pool, Uuid::max());
        self.containers.range(all).map(|(_, container)| container)
    }

    /// A container that can be used.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn container(&self, pool: Uuid, id: Uuid) -> Result<&Container, Missing> {
        let label = &self.pool(pool)?.label;
        match self.containers.get(&(pool, id)) {
            Some(container) if container.state == State::Live => Ok(container),
            Some(_) => Err(Missing::DyingContainer(label.clone(), id.to_string())),
            None => Err(Missing::Container(label.clone(), id.to_string())),
        }
    }

    /// A container that can be used, by its label.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn container_of_label(&self, pool: Uuid, label: &str) -> Result<&Container, Missing> {
        let of_pool = &self.pool(pool)?.label;
        let live = |c: &&Container| c.state == State::Live && c.label == label;
        self.containers(pool)
            .find(live)
            .ok_or_else(|| Missing::Container(of_pool.clone(), label.to_owned()))
    }

    /// What pools may use on each target.
    pub fn quotas(&self, capacity: Capacity) -> Quotas {
        let live = self.pools().filter(|pool| pool.state == State::Live);
        live.map(|pool| (pool.id, capacity.quota(pool))).collect()
    }

    /// Bytes of SCM and block device that belong to pools, also to those being destroyed.
    pub fn promised(&self) -> (u64, u64) {
        self.pools().fold((0, 0), |(scm, bdev), pool| {
            (scm + pool.scm_bytes, bdev + pool.bdev_bytes)
        })
    }
}
