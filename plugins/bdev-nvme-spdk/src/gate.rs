//! Keeps a queue's thread out of the driver while another thread resets the device.
//!
//! A queue's thread passes the gate at each submit and poll. That costs it two plain stores and a
//! load: the admin thread, which closes gates once in a blue moon, pays for the ordering with
//! `membarrier(2)`. Where that system call is forbidden, the queue's thread pays with a fence.

use crate::env;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, compiler_fence, fence};

/// What a queue may do. The admin thread and the queue's own thread both change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    /// Everything.
    Open = 0,
    /// Nothing: a reset is under way.
    Held = 1,
    /// Collect what was outstanding; take nothing new until `reconnect`.
    Drain = 2,
    /// The device cannot be used any more, or not before another reset: give the hardware queue
    /// back, which ends what was outstanding.
    Lost = 3,
}

/// One queue's gate.
#[repr(align(128))]
pub(crate) struct Gate {
    inside: AtomicBool,
    state: AtomicU8,
    expedited: bool,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            inside: AtomicBool::new(false),
            state: AtomicU8::new(State::Open as u8),
            expedited: env::expedited_barrier(),
        }
    }

    /// Enters with the state that holds until the guard is dropped. In [`State::Held`] the caller
    /// must leave the driver alone.
    #[inline]
    pub(crate) fn enter(&self) -> Inside<'_> {
        self.inside.store(true, Ordering::Relaxed);
        // The store above must not sink below the load that follows: `hold` looks the other way round.
        if self.expedited {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
        Inside {
            gate: self,
            state: self.state(),
        }
    }

    /// Closes the gate and waits until the queue's thread is outside. Calls never block, so this
    /// takes no longer than a call does.
    pub(crate) fn hold(&self) {
        self.state.store(State::Held as u8, Ordering::SeqCst);
        if self.expedited {
            let done = env::barrier_on_all_threads();
            debug_assert!(done, "membarrier was registered");
        } else {
            fence(Ordering::SeqCst);
        }
        while self.inside.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    /// Ends a hold, or takes note of a loss.
    pub(crate) fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// The queue's thread reopens its drained queue; false if the admin thread was faster with
    /// another change.
    pub(crate) fn reopen(&self, from: State) -> bool {
        self.state
            .compare_exchange(
                from as u8,
                State::Open as u8,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    #[inline]
    fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Open,
            1 => State::Held,
            2 => State::Drain,
            _ => State::Lost,
        }
    }
}

/// A thread inside a gate.
pub(crate) struct Inside<'a> {
    gate: &'a Gate,
    /// What may be done while inside.
    pub(crate) state: State,
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.gate.inside.store(false, Ordering::Release);
    }
}
