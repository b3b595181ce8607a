//! Endpoints with what they completed.

use crate::PATIENCE;
use daos_plugin_api::abi::{FabricCompletion, FabricRequest, Wait, WaitKind};
use daos_plugin_api::sdk::FabricEndpoint;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Most scratch that a plugin may ask for here, in bytes.
const SCRATCH: usize = 256;
/// What is in scratch that nobody uses.
const UNUSED: u8 = 0xa5;

#[repr(align(64))]
struct Scratch([u8; SCRATCH]);

/// An endpoint, scratch for its operations, and what it completed.
pub struct Node<E> {
    /// The endpoint.
    pub endpoint: E,
    /// Completions that nobody has taken, oldest first.
    pub done: Vec<FabricCompletion>,
    has_scratch: bool,
    is_patient: bool,
    #[allow(clippy::vec_box, reason = "operations point at it: it must not move")]
    scratch: Vec<Box<Scratch>>,
    used: Vec<(u64, Box<Scratch>)>,
}

impl<E: FabricEndpoint> Node<E> {
    /// Of an endpoint whose domain asks for so many bytes of scratch (`FabricInfo::scratch_size`).
    ///
    /// # Panics
    /// If that is more than there is.
    pub fn of(endpoint: E, scratch_size: u32) -> Self {
        assert!(scratch_size as usize <= SCRATCH, "{scratch_size}");
        Self {
            endpoint,
            done: Vec::new(),
            has_scratch: scratch_size > 0,
            is_patient: false,
            scratch: Vec::new(),
            used: Vec::new(),
        }
    }

    /// Its plugin may be full for a moment, as a provider is that takes nothing before it is connected: what must be taken is tried
    /// again until it is. Of others it must be taken at once.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.is_patient = true;
        self
    }

    /// Numbers another node.
    ///
    /// # Panics
    /// If its address is refused.
    pub fn resolve(&mut self, other: &Self) -> u64 {
        let number = self.endpoint.resolve(&other.endpoint.address());
        number.expect("a valid address")
    }

    /// Submits one operation that must be taken: at once, or by a [`patient`](Self::patient) node soon.
    ///
    /// # Panics
    /// If it is not.
    pub fn submit(&mut self, request: FabricRequest) {
        let start = Instant::now();
        while self.try_submit(&[request]) == 0 {
            assert!(self.is_patient, "not taken at once");
            self.poll();
            assert!(start.elapsed() < PATIENCE, "never taken");
        }
    }

    /// Submits operations; how many were taken.
    ///
    /// # Panics
    /// If the endpoint fails.
    pub fn try_submit(&mut self, requests: &[FabricRequest]) -> usize {
        let mut requests = requests.to_vec();
        if self.has_scratch {
            for request in &mut requests {
                let fresh = || Box::new(Scratch([UNUSED; SCRATCH]));
                let mut scratch = self.scratch.pop().unwrap_or_else(fresh);
                request.scratch = scratch.0.as_mut_ptr();
                self.used.push((request.user, scratch));
            }
        }
        // SAFETY: memory and scratch of the operations live until they are completed or the node
        // is dropped, whose endpoint goes first.
        let taken = unsafe { self.endpoint.submit(&requests) }.expect("the endpoint works");
        if self.has_scratch {
            let all = self.used.len();
            let not_taken = self.used.drain(all - (requests.len() - taken)..);
            self.scratch.extend(not_taken.map(|(_, scratch)| scratch));
        }
        taken
    }

    /// Makes progress.
    ///
    /// # Panics
    /// If the endpoint fails.
    pub fn poll(&mut self) {
        let mut room = [FabricCompletion::EMPTY; 16];
        let count = self.endpoint.poll(&mut room).expect("the endpoint works");
        for done in &room[..count] {
            if let Some(at) = self.used.iter().position(|(user, _)| *user == done.user) {
                let (_, mut scratch) = self.used.swap_remove(at);
                scratch.0.fill(UNUSED); // whoever still used it would notice
                self.scratch.push(scratch);
            }
            self.done.push(*done);
        }
    }

    /// Takes the completion of `user` if it is there.
    pub fn take(&mut self, user: u64) -> Option<FabricCompletion> {
        let at = self.done.iter().position(|done| done.user == user)?;
        Some(self.done.remove(at))
    }

    /// Polls until `user` is completed, alone.
    ///
    /// # Panics
    /// As [`finish`].
    pub fn finish(&mut self, user: u64) -> FabricCompletion {
        finish(&mut [self], 0, user)
    }
}

/// Polls all nodes in turn until node `at` has completed `user`.
///
/// # Panics
/// If that takes longer than [`PATIENCE`], or an endpoint fails.
pub fn finish<E: FabricEndpoint>(
    nodes: &mut [&mut Node<E>],
    at: usize,
    user: u64,
) -> FabricCompletion {
    let start = Instant::now();
    loop {
        for node in nodes.iter_mut() {
            node.poll();
        }
        if let Some(done) = nodes[at].take(user) {
            return done;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "operation {user} never completed"
        );
    }
}

/// Polls all nodes for a while.
///
/// # Panics
/// If an endpoint fails.
pub fn idle<E: FabricEndpoint>(nodes: &mut [&mut Node<E>], time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        for node in nodes.iter_mut() {
            node.poll();
        }
    }
}

/// Sleeps as an endpoint says that one may.
///
/// # Panics
/// If nothing ends a sleep without a limit.
pub fn sleep(wait: Wait) {
    match wait.kind {
        WaitKind::BUSY => {}
        WaitKind::FD => {
            // SAFETY: the endpoint keeps the descriptor open, and its thread is the one that sleeps here.
            let fd = unsafe { BorrowedFd::borrow_raw(wait.fd) };
            let limit = match wait.timeout_us {
                0 => PATIENCE,
                us => Duration::from_micros(us),
            };
            let timeout = Timespec {
                tv_sec: limit.as_secs() as i64,
                tv_nsec: i64::from(limit.subsec_nanos()),
            };
            let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout));
            assert!(
                ready.is_ok_and(|count| count > 0) || wait.timeout_us > 0,
                "slept for {PATIENCE:?} in vain"
            );
        }
        _ => std::thread::sleep(Duration::from_micros(wait.timeout_us)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send;
    use daos_plugin_api::abi::Status;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Takes so many operations in all, until it is polled.
    struct Full {
        room: usize,
        outstanding: Vec<FabricRequest>,
    }

    impl FabricEndpoint for Full {
        fn address(&self) -> Vec<u8> {
            Vec::new()
        }

        fn resolve(&mut self, _: &[u8]) -> Result<u64, Status> {
            Ok(1)
        }

        fn release(&mut self, _: u64) -> Result<(), Status> {
            Ok(())
        }

        unsafe fn submit(&mut self, requests: &[FabricRequest]) -> Result<usize, Status> {
            let taken = requests.len().min(self.room - self.outstanding.len());
            for request in &requests[..taken] {
                // SAFETY: as much scratch as the node was told to have.
                unsafe { request.scratch.write_bytes(7, 64) };
                self.outstanding.push(*request);
            }
            Ok(taken)
        }

        fn poll(&mut self, completions: &mut [FabricCompletion]) -> Result<usize, Status> {
            for (done, request) in completions.iter_mut().zip(&self.outstanding) {
                // SAFETY: outstanding operations have their scratch.
                let scratch = unsafe { std::slice::from_raw_parts(request.scratch, 64) };
                assert_eq!(scratch, [7; 64], "somebody else's {}", request.user);
                done.user = request.user;
            }
            Ok(self.outstanding.drain(..).count())
        }

        fn cancel(&mut self, _: u64) -> Result<(), Status> {
            Ok(())
        }

        fn arm_wait(&mut self) -> Wait {
            Wait::BUSY
        }
    }

    fn full(room: usize) -> Node<Full> {
        let outstanding = Vec::new();
        Node::of(Full { room, outstanding }, 64)
    }

    #[test]
    fn scratch_of_what_is_not_taken_is_nobodys() {
        let mut node = full(1);
        let out = [0u8; 8];
        // The same names, as whoever tries again gives them.
        let requests = [1, 2, 2].map(|user| send(user, 0, 0, &out));
        for _ in 0..3 {
            assert_eq!(node.try_submit(&requests), 1);
            assert_eq!((node.used.len(), node.scratch.len()), (1, 2));
            assert_eq!(node.used[0].0, 1);
            node.poll();
            assert_eq!(node.take(1).map(|done| done.user), Some(1));
            assert!(node.used.is_empty());
        }
    }

    #[test]
    fn only_a_patient_node_tries_again() {
        let out = [0u8; 8];
        let mut node = full(1).patient();
        node.submit(send(1, 0, 0, &out));
        node.submit(send(2, 0, 0, &out));
        let mut node = full(1);
        node.submit(send(1, 0, 0, &out));
        let again = catch_unwind(AssertUnwindSafe(|| node.submit(send(2, 0, 0, &out))));
        assert!(again.is_err(), "it was full");
    }
}
