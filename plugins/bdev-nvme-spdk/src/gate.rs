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

impl State {
    /// Of what is stored.
    fn of(stored: u8) -> Self {
        match stored & !FENCED {
            0 => Self::Open,
            1 => Self::Held,
            2 => Self::Drain,
            _ => Self::Lost,
        }
    }
}

/// One queue's gate.
#[repr(align(128))]
pub(crate) struct Gate {
    inside: AtomicBool,
    /// A [`State`], and [`FENCED`] or nothing.
    state: AtomicU8,
    /// [`FENCED`], or nothing.
    fenced: u8,
}

/// In a gate's state: who enters pays for the ordering. So an open gate without it is zero, and one look tells both.
const FENCED: u8 = 1 << 7;

impl Gate {
    pub(crate) fn new() -> Self {
        Self::with(env::expedited_barrier())
    }

    fn with(expedited: bool) -> Self {
        let fenced = if expedited { 0 } else { FENCED };
        Self {
            inside: AtomicBool::new(false),
            state: AtomicU8::new(State::Open as u8 | fenced),
            fenced,
        }
    }

    /// Enters with the state that holds until the guard is dropped. In [`State::Held`] the caller
    /// must leave the driver alone.
    #[inline]
    pub(crate) fn enter(&self) -> Inside<'_> {
        self.inside.store(true, Ordering::Relaxed);
        // The store above must not sink below the load that follows: `hold` looks the other way round.
        // Whether that takes a fence of the processor never changes, so it may be looked at before.
        compiler_fence(Ordering::SeqCst);
        let state = match self.state.load(Ordering::Acquire) {
            0 => State::Open,
            FENCED.. => self.fenced_state(),
            closed => State::of(closed),
        };
        Inside { gate: self, state }
    }

    #[cold]
    fn fenced_state(&self) -> State {
        fence(Ordering::SeqCst);
        State::of(self.state.load(Ordering::Acquire))
    }

    /// Closes the gate and waits until the queue's thread is outside. Calls never block, so this
    /// takes no longer than a call does.
    pub(crate) fn hold(&self) {
        self.state
            .store(State::Held as u8 | self.fenced, Ordering::SeqCst);
        if self.fenced == 0 {
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
        self.state
            .store(state as u8 | self.fenced, Ordering::Release);
    }

    /// The queue's thread reopens its drained queue; false if the admin thread was faster with
    /// another change.
    pub(crate) fn reopen(&self, from: State) -> bool {
        self.state
            .compare_exchange(
                from as u8 | self.fenced,
                State::Open as u8 | self.fenced,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_enters_is_told_the_state_with_and_without_a_fence() {
        for expedited in [true, false] {
            let gate = Gate::with(expedited);
            assert_eq!(gate.enter().state, State::Open, "{expedited}");
            for state in [State::Held, State::Drain, State::Lost, State::Open] {
                gate.set(state);
                assert_eq!(gate.enter().state, state, "{expedited}");
            }
            gate.set(State::Drain);
            assert!(!gate.reopen(State::Lost), "{expedited}");
            assert_eq!(gate.enter().state, State::Drain, "{expedited}");
            assert!(gate.reopen(State::Drain), "{expedited}");
            assert_eq!(gate.enter().state, State::Open, "{expedited}");
        }
    }

    #[test]
    fn a_hold_waits_for_who_is_inside() {
        for fenced in [false, true] {
            // With the barrier only where the process has it.
            let gate = if fenced {
                Gate::with(false)
            } else {
                Gate::new()
            };
            let inside = gate.enter();
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    gate.hold();
                    assert!(
                        over.load(Ordering::SeqCst),
                        "held while a thread was inside"
                    );
                });
                std::thread::sleep(std::time::Duration::from_millis(20));
                over.store(true, Ordering::SeqCst);
                drop(inside);
            });
            assert_eq!(gate.enter().state, State::Held);
        }
    }
}
