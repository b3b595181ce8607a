//! The power supply: when it fails, and what survives.

use crate::random::Random;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The power of one or several wrapped plugins and files. Clones are the same supply.
#[derive(Clone)]
pub struct Power {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    off: AtomicBool,
    /// Operations until the failure; `u64::MAX` = none is planned.
    left: AtomicU64,
    done: AtomicU64,
    loads: Mutex<Vec<Weak<dyn Load>>>,
}

/// Something that loses what is not safe when the power fails.
pub(crate) trait Load: Send + Sync {
    /// Decides what survives.
    fn crash(
        &self,
        random: &mut Random,
        survival: &mut Survival,
    ) -> daos_plugin_api::sdk::Result<()>;
}

/// What a crash left of what was not safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survival {
    /// Units (blocks, sectors, words) that reached the medium although nothing demanded it.
    pub kept: usize,
    /// Units that are gone.
    pub lost: usize,
}

impl Power {
    /// A supply that works.
    pub fn on() -> Self {
        Self {
            inner: Arc::new(Inner {
                off: AtomicBool::new(false),
                left: AtomicU64::new(u64::MAX),
                done: AtomicU64::new(0),
                loads: Mutex::default(),
            }),
        }
    }

    /// Plans the failure: `operations` more bdev requests and SCM flushes or drains are carried
    /// out, then nothing is any more.
    pub fn fail_after(&self, operations: u64) {
        self.inner.left.store(operations, Ordering::SeqCst);
    }

    /// Fails now.
    pub fn fail(&self) {
        self.inner.off.store(true, Ordering::SeqCst);
    }

    /// Whether it failed.
    pub fn is_off(&self) -> bool {
        self.inner.off.load(Ordering::SeqCst)
    }

    /// Operations carried out so far: the failures worth trying are those below this number.
    pub fn operations(&self) -> u64 {
        self.inner.done.load(Ordering::SeqCst)
    }

    /// Fails unless it has, decides by `seed` what survives, and comes back. What was open stays
    /// dead; what is opened from now on shows the surviving image.
    ///
    /// # Errors
    /// A wrapped plugin fails to take the surviving data.
    pub fn crash(&self, seed: u64) -> daos_plugin_api::sdk::Result<Survival> {
        self.fail();
        let mut random = Random::new(seed);
        let mut survival = Survival::default();
        let loads = self
            .inner
            .loads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for load in loads.iter().filter_map(Weak::upgrade) {
            load.crash(&mut random, &mut survival)?;
        }
        self.inner.left.store(u64::MAX, Ordering::SeqCst);
        self.inner.off.store(false, Ordering::SeqCst);
        Ok(survival)
    }

    pub(crate) fn connect(&self, load: &Arc<dyn Load>) {
        let mut loads = self
            .inner
            .loads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loads.retain(|load| load.strong_count() > 0);
        loads.push(Arc::downgrade(load));
    }

    /// Takes the power for one operation; `false` if there is none. For storage of a test's own that
    /// shall fail at the same instant.
    pub fn draw(&self) -> bool {
        if self.is_off() {
            return false;
        }
        let planned = self
            .inner
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
                u64::MAX => Some(left),
                0 => None,
                _ => Some(left - 1),
            });
        if planned.is_err() {
            self.fail();
            return false;
        }
        self.inner.done.fetch_add(1, Ordering::SeqCst);
        true
    }
}
