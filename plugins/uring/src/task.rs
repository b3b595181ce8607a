//! A request as a program: which action comes next, and what its result means.

use crate::memory::{Cursor, ZEROES};
use crate::status::status_of;
use crate::target::{Target, UnmapMode, ZeroMode};
use daos_plugin_api::abi::{BdevOp, IoVec, Request, Status};

/// Bytes that one step of a compare reads.
pub(crate) const BOUNCE: usize = 64 << 10;

/// How often an action that was merely interrupted is tried again.
const MAX_RETRIES: u8 = 64;

/// Memory of a transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffers {
    /// One piece.
    One { ptr: *mut u8, len: usize },
    /// Several segments.
    Many { iov: *const IoVec, count: u32 },
}

/// Outcome of a comparison in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    Equal,
    Differs,
}

/// What `fallocate` does to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocate {
    /// Zeroes it, keeps it allocated.
    Zero,
    /// Deallocates it.
    Punch,
    /// Allocates what is not.
    Fill,
}

impl Allocate {
    /// Mode argument of `fallocate`; none changes the size of the file.
    pub(crate) fn mode(self) -> i32 {
        libc::FALLOC_FL_KEEP_SIZE
            | match self {
                Self::Zero => libc::FALLOC_FL_ZERO_RANGE,
                Self::Punch => libc::FALLOC_FL_PUNCH_HOLE,
                Self::Fill => 0,
            }
    }
}

/// One system call's worth of work. Offsets and lengths in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Read {
        at: u64,
        buffers: Buffers,
    },
    Write {
        at: u64,
        buffers: Buffers,
        durable: bool,
    },
    /// Read into the engine's bounce buffer.
    Bounce {
        at: u64,
        len: usize,
    },
    WriteZeroes {
        at: u64,
        len: usize,
    },
    Sync,
    Allocate {
        how: Allocate,
        at: u64,
        len: u64,
    },
    Discard {
        at: u64,
        len: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Write,
    Compare,
    Allocate(Allocate),
    WriteZeroes,
    Discard,
    Sync,
}

/// A request in progress.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub(crate) tag: u64,
    /// Byte offset of what is left.
    at: u64,
    /// Bytes left.
    left: u64,
    cursor: Cursor,
    step: Step,
    fua: bool,
    /// The first step zeroes by the mode of the target, and may fall back to another one.
    zero: Option<ZeroMode>,
    retries: u8,
    /// Set by an abort: nothing more is started.
    pub(crate) aborted: bool,
}

impl Task {
    /// A task of nothing, for unused slots.
    pub(crate) const IDLE: Self = Self {
        tag: 0,
        at: 0,
        left: 0,
        cursor: Cursor::EMPTY,
        step: Step::Sync,
        fua: false,
        zero: None,
        retries: 0,
        aborted: false,
    };

    /// The task of a request that [`Target::check`] accepted.
    ///
    /// # Safety
    /// The request's segments and memory stay valid until the task is complete.
    #[inline]
    pub(crate) unsafe fn new(request: &Request, target: &Target) -> Self {
        let shift = target.block_shift();
        let mut task = Self {
            tag: request.tag,
            at: request.lba << shift,
            left: request.blocks << shift,
            // SAFETY: the caller vouches for it.
            cursor: unsafe { Cursor::new(request) },
            fua: request.flags & Request::FUA != 0,
            ..Self::IDLE
        };
        match request.op {
            BdevOp::READ => task.step = Step::Read,
            BdevOp::WRITE => task.step = Step::Write,
            BdevOp::COMPARE => task.step = Step::Compare,
            BdevOp::WRITE_ZEROES => task.zero_by(target.zero_mode()),
            BdevOp::UNMAP => match target.unmap_mode() {
                UnmapMode::Discard => task.step = Step::Discard,
                UnmapMode::Punch => task.step = Step::Allocate(Allocate::Punch),
                UnmapMode::KeepSpace | UnmapMode::None => task.zero_by(target.zero_mode()),
            },
            _ => task.step = Step::Sync,
        }
        task
    }

    fn zero_by(&mut self, mode: ZeroMode) {
        self.zero = Some(mode);
        self.step = match mode {
            ZeroMode::Range => Step::Allocate(Allocate::Zero),
            ZeroMode::PunchAndFill => Step::Allocate(Allocate::Punch),
            ZeroMode::Write => Step::WriteZeroes,
        };
    }

    /// What to do next.
    #[inline]
    pub(crate) fn action(&self) -> Action {
        let (at, len) = (self.at, self.left);
        match self.step {
            Step::Read => Action::Read {
                at,
                buffers: self.cursor.buffers(),
            },
            Step::Write => Action::Write {
                at,
                buffers: self.cursor.buffers(),
                durable: self.fua,
            },
            Step::Compare => Action::Bounce {
                at,
                len: len.min(BOUNCE as u64) as usize,
            },
            Step::WriteZeroes => Action::WriteZeroes {
                at,
                len: len.min(ZEROES as u64) as usize,
            },
            Step::Allocate(how) => Action::Allocate { how, at, len },
            Step::Discard => Action::Discard { at, len },
            Step::Sync => Action::Sync,
        }
    }

    /// Takes the result of the action, a count or a negated error number; `bounce` is what a
    /// [`Action::Bounce`] read. `None` means: carry out [`Task::action`] again.
    #[inline]
    pub(crate) fn finish(&mut self, result: i32, bounce: &[u8], target: &Target) -> Option<Status> {
        if result < 0 {
            return self.failed(-result, target);
        }
        let moved = result as u64;
        match self.step {
            Step::Read | Step::Write if moved == self.left => return Some(Status::OK),
            Step::Read | Step::Write | Step::Compare | Step::WriteZeroes => {
                if moved == 0 || moved > self.left {
                    // The file is shorter than the device: somebody truncated it.
                    return Some(Status::IO);
                }
                self.at += moved;
                self.left -= moved;
                match self.step {
                    Step::Compare => {
                        if self.cursor.compare(bounce) == Compared::Differs {
                            return Some(Status::MISCOMPARE);
                        }
                    }
                    Step::WriteZeroes => {}
                    _ => self.cursor.advance(moved as usize),
                }
                if self.left > 0 {
                    return self.aborted.then_some(Status::CANCELLED);
                }
                if self.step != Step::WriteZeroes {
                    return Some(Status::OK);
                }
            }
            Step::Allocate(Allocate::Punch) if self.zero == Some(ZeroMode::PunchAndFill) => {
                self.step = Step::Allocate(Allocate::Fill);
                return None;
            }
            Step::Allocate(_) | Step::Discard => {}
            Step::Sync => return Some(Status::OK),
        }
        // The range operation is done.
        if self.fua {
            self.step = Step::Sync;
            return None;
        }
        Some(Status::OK)
    }

    fn failed(&mut self, errno: i32, target: &Target) -> Option<Status> {
        let again = matches!(errno, libc::EINTR | libc::EAGAIN);
        if again && self.aborted {
            return Some(Status::CANCELLED);
        }
        if again && self.retries < MAX_RETRIES {
            self.retries += 1;
            return None;
        }
        if errno == libc::EOPNOTSUPP
            && let Some(mode) = self.zero
            && let Some(next) = target.zero_fallback(mode)
        {
            self.zero_by(next);
            return None;
        }
        Some(status_of(errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::target;

    fn request(op: BdevOp, blocks: u64, iov: &[IoVec]) -> Request {
        Request {
            op,
            flags: 0,
            reserved: 0,
            iov_count: iov.len() as u32,
            lba: 2,
            blocks,
            iov: iov.as_ptr(),
            tag: 1,
            scratch: std::ptr::null_mut(),
        }
    }

    fn task(request: &Request, target: &Target) -> Task {
        // SAFETY: the tests keep their buffers alive longer than the task.
        unsafe { Task::new(request, target) }
    }

    #[test]
    fn short_transfers_go_on_where_they_stopped() {
        let target = target(ZeroMode::Range, UnmapMode::Punch);
        let mut data = [0u8; 8192];
        let base = data.as_mut_ptr();
        // SAFETY: inside `data`.
        let second = unsafe { base.add(4096) };
        let iov = [
            IoVec {
                ptr: base,
                len: 4096,
            },
            IoVec {
                ptr: second,
                len: 4096,
            },
        ];
        let mut task = task(&request(BdevOp::WRITE, 2, &iov), &target);
        assert!(matches!(
            task.action(),
            Action::Write {
                at: 8192,
                durable: false,
                ..
            }
        ));
        assert_eq!(task.finish(512, &[], &target), None);
        match task.action() {
            Action::Write {
                at: 8704,
                buffers: Buffers::One { ptr, len: 3584 },
                ..
            } => {
                assert_eq!(ptr as usize, base as usize + 512);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(task.finish(3584, &[], &target), None);
        assert!(matches!(task.action(), Action::Write { at: 12288, .. }));
        assert_eq!(task.finish(4096, &[], &target), Some(Status::OK));
    }

    #[test]
    fn a_transfer_that_moves_nothing_is_an_error_not_a_loop() {
        let target = target(ZeroMode::Range, UnmapMode::Punch);
        let iov = [IoVec {
            ptr: [0u8; 4096].as_mut_ptr(),
            len: 4096,
        }];
        let mut task = task(&request(BdevOp::READ, 1, &iov), &target);
        assert_eq!(task.finish(0, &[], &target), Some(Status::IO));
    }

    #[test]
    fn interruptions_are_retried_but_not_for_ever() {
        let target = target(ZeroMode::Range, UnmapMode::Punch);
        let mut task = task(&request(BdevOp::FLUSH, 0, &[]), &target);
        let tries = (0..1000).find(|_| task.finish(-libc::EINTR, &[], &target).is_some());
        assert_eq!(tries, Some(usize::from(MAX_RETRIES)));
    }

    #[test]
    fn an_aborted_task_starts_nothing_new() {
        let target = target(ZeroMode::Range, UnmapMode::Punch);
        let iov = [IoVec {
            ptr: [0u8; 4096].as_mut_ptr(),
            len: 4096,
        }];
        for result in [512, -libc::EINTR, -libc::ECANCELED] {
            let mut task = task(&request(BdevOp::READ, 1, &iov), &target);
            task.aborted = true;
            assert_eq!(
                task.finish(result, &[], &target),
                Some(Status::CANCELLED),
                "{result}"
            );
        }
    }

    #[test]
    fn zeroing_falls_back_and_the_target_remembers() {
        let target = target(ZeroMode::Range, UnmapMode::KeepSpace);
        for op in [BdevOp::WRITE_ZEROES, BdevOp::UNMAP] {
            let mut zero = request(op, 1000, &[]);
            zero.flags = Request::FUA;
            let mut task = task(&zero, &target);
            if op == BdevOp::WRITE_ZEROES {
                assert!(matches!(
                    task.action(),
                    Action::Allocate {
                        how: Allocate::Zero,
                        ..
                    }
                ));
                assert_eq!(task.finish(-libc::EOPNOTSUPP, &[], &target), None);
            }
            assert!(matches!(
                task.action(),
                Action::Allocate {
                    how: Allocate::Punch,
                    ..
                }
            ));
            assert_eq!(task.finish(0, &[], &target), None);
            assert!(matches!(
                task.action(),
                Action::Allocate {
                    how: Allocate::Fill,
                    ..
                }
            ));
            assert_eq!(task.finish(0, &[], &target), None);
            assert!(matches!(task.action(), Action::Sync), "FUA");
            assert_eq!(task.finish(0, &[], &target), Some(Status::OK));
        }
        let mut task = task(&request(BdevOp::WRITE_ZEROES, 1000, &[]), &target);
        assert_eq!(task.finish(-libc::EOPNOTSUPP, &[], &target), None);
        let mut written = 0;
        while let Action::WriteZeroes { at, len } = task.action() {
            assert_eq!(at, 8192 + written);
            written += len as u64;
            if task.finish(len as i32, &[], &target).is_some() {
                break;
            }
        }
        assert_eq!(written, 1000 * 4096);
    }
}
