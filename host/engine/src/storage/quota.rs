//! What pools may use of a target, and what is said when they want more.

use super::{Storage, StorageError};
use crate::index::Index;
use crate::index::key::pool_of;
use crate::index::value::Extents;
use crate::log::LogMemory;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Bytes of an encoded value beside an inline one.
const VALUE_OVERHEAD: usize = 14;

/// Most that a pool may use on this target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Name for messages.
    pub label: Arc<str>,
    /// Bytes of index entries, as [`Index::cost`] counts them.
    pub scm_bytes: u64,
    /// Allocation units of the block device.
    pub units: u64,
}

/// Quotas by pool; a pool without one is not limited.
pub type Quotas = HashMap<Uuid, Quota>;

/// What a pool uses on this target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of index entries.
    pub scm_bytes: u64,
    /// Allocation units that are not free: values, values under way, and values that are gone but
    /// whose space cannot be reused yet.
    pub units: u64,
}

/// A pool has no room on one of its tiers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool {pool} has no room left on its {tier} tier: {used} of its {quota} {measure} on this target are used"
)]
pub struct OverQuota {
    /// Its label.
    pub pool: Arc<str>,
    /// "SCM" or "block-device".
    pub tier: &'static str,
    /// What is used.
    pub used: u64,
    /// What may be.
    pub quota: u64,
    /// What both are counted in.
    pub measure: &'static str,
}

impl Quota {
    /// Refuses if the SCM would not suffice.
    ///
    /// # Errors
    /// [`OverQuota`].
    pub fn scm(&self, used: u64, wanted: u64) -> Result<(), OverQuota> {
        self.check("SCM", "bytes", used, wanted, self.scm_bytes)
    }

    /// Refuses if the block device would not suffice.
    ///
    /// # Errors
    /// [`OverQuota`].
    pub fn bdev(&self, used: u64, wanted: u64) -> Result<(), OverQuota> {
        self.check("block-device", "allocation units", used, wanted, self.units)
    }

    fn check(
        &self,
        tier: &'static str,
        measure: &'static str,
        used: u64,
        wanted: u64,
        quota: u64,
    ) -> Result<(), OverQuota> {
        if used.saturating_add(wanted) <= quota {
            return Ok(());
        }
        Err(OverQuota {
            pool: Arc::clone(&self.label),
            tier,
            used,
            quota,
            measure,
        })
    }
}

impl<M: LogMemory> Storage<M> {
    /// Replaces the quotas of all pools.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.quotas = quotas;
    }

    /// What a pool uses.
    pub fn used_by(&self, pool: Uuid) -> Usage {
        Usage {
            scm_bytes: self.index.live_bytes_of(pool),
            units: self.space.used_by(pool),
        }
    }

    /// Whether a new value under a key can be taken at all, before the work of moving it.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] and [`StorageError::OverQuota`].
    pub fn admits(&self, key: &[u8], inline: usize) -> Result<(), StorageError> {
        self.check_index(key, inline + VALUE_OVERHEAD)
    }

    /// Refuses an entry with an encoded value of `len` bytes that the index or the pool has no room for.
    pub(super) fn check_index(&self, key: &[u8], len: usize) -> Result<(), StorageError> {
        let wanted = Index::cost(key, len);
        match self.check_growth(key, wanted) {
            // What it replaces makes room in the pool.
            Err(StorageError::OverQuota(over)) => {
                let old = self.index.get(key, |old| Index::cost(key, old.len()))?;
                match old {
                    Some(old) => self.check_growth(key, wanted.saturating_sub(old)),
                    None => Err(over.into()),
                }
            }
            other => other,
        }
    }

    /// Refuses entries of the key's pool that take `growth` bytes more than is there.
    pub(super) fn check_growth(&self, key: &[u8], growth: u64) -> Result<(), StorageError> {
        if self.stuck || self.index.live_bytes() + growth > self.limit {
            return Err(StorageError::NoSpace);
        }
        let pool = pool_of(key);
        match self.quotas.get(&pool) {
            Some(quota) => Ok(quota.scm(self.index.live_bytes_of(pool), growth)?),
            None => Ok(()),
        }
    }

    /// Takes space for a value under `key`; `None` if only a commit brings back what is wanted.
    ///
    /// # Errors
    /// [`StorageError::DeviceFull`] and [`StorageError::OverQuota`].
    pub fn allocate(&mut self, key: &[u8], units: u32) -> Result<Option<Extents>, StorageError> {
        let pool = pool_of(key);
        if let Some(quota) = self.quotas.get(&pool)
            && let Err(over) = quota.bdev(self.space.used_by(pool), units.into())
        {
            return match self.space.has_dropped_of(pool) {
                true => Ok(None),
                false => Err(over.into()),
            };
        }
        match self.space.allocate(pool, units) {
            Some(extents) => Ok(Some(extents)),
            None if self.space.has_dropped() => Ok(None),
            None => Err(StorageError::DeviceFull),
        }
    }

    /// Gives space back that was taken for a value under `key` and never used.
    pub fn abandon(&mut self, key: &[u8], extents: &Extents) {
        self.space.abandon(pool_of(key), extents);
    }
}
