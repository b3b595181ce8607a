//! How stores become durable: which lines of a range are written back, by what, and when the fence
//! comes. The instructions themselves are in `cpu`; a test puts [`Caches`] of its own in their place.

use crate::cpu::{self, Instruction, LINE};
use crate::map;
use daos_plugin_api::abi::Status;
use serde::Deserialize;

/// What the settings ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Choice {
    /// By cache lines where the kernel grants a synchronous mapping, else by `msync`.
    #[default]
    Auto,
    /// By cache lines whatever the kernel says: the site vouches for the memory. For measurements and
    /// tests; on anything but persistent memory nothing would be durable.
    CacheLines,
    /// By `msync` always.
    Msync,
}

/// How stores become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Cache lines are written back, and a fence follows.
    Lines(Instruction),
    /// The platform flushes the caches itself when the power goes (eADR): a fence is enough.
    FenceOnly,
    /// The kernel does it, page by page.
    Msync,
}

impl Method {
    /// The method for what was asked, where `synchronous` mappings are granted and `caches_persist`
    /// (the kernel's persistence domain includes the processor's caches).
    pub(crate) fn choose(choice: Choice, synchronous: bool, caches_persist: bool) -> Self {
        match (choice, cpu::best()) {
            (Choice::Msync, _) | (_, None) => Self::Msync,
            (Choice::Auto, _) if !synchronous => Self::Msync,
            (Choice::Auto, Some(_)) if caches_persist => Self::FenceOnly,
            (_, Some(instruction)) => Self::Lines(instruction),
        }
    }

    /// Whether mappings have to be synchronous for it to hold.
    pub(crate) fn is_direct(self) -> bool {
        self != Self::Msync
    }

    /// For logs: "clwb and sfence".
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Lines(instruction) => format!("{} and sfence", instruction.name()),
            Self::FenceOnly => "sfence (the platform flushes the caches)".to_owned(),
            Self::Msync => "msync".to_owned(),
        }
    }

    /// Processors that persistent memory comes with have this.
    const USUAL: Self = Self::Lines(Instruction::Clwb);

    /// Makes `len` bytes at `ptr` durable.
    ///
    /// # Safety
    /// The range is inside one mapped region.
    #[inline(always)]
    pub(crate) unsafe fn persist(self, ptr: *const u8, len: usize) -> Result<(), Status> {
        // One comparison decides, and what calls the kernel is elsewhere: a few lines take some 20 ns.
        if self == Self::USUAL {
            // SAFETY: the caller's.
            return unsafe { Self::USUAL.persist_by(&Processor, ptr, len) };
        }
        // SAFETY: the caller's.
        match unsafe { self.persist_otherwise(ptr, len) } {
            Status::OK => Ok(()),
            status => Err(status),
        }
    }

    /// As it is called in C, it cannot unwind, and its status is the table's as it is: whoever calls it needs no frame for either.
    ///
    /// # Safety
    /// As [`persist`](Self::persist).
    #[inline(never)]
    #[allow(improper_ctypes_definitions, reason = "nobody but this crate calls it")]
    unsafe extern "C" fn persist_otherwise(self, ptr: *const u8, len: usize) -> Status {
        // SAFETY: the caller's.
        let result = unsafe { self.persist_by(&Processor, ptr, len) };
        result.err().unwrap_or(Status::OK)
    }

    /// Makes `len` bytes at `ptr` durable, by these caches.
    ///
    /// # Errors
    /// The kernel could not, where it is the one to do so.
    ///
    /// # Safety
    /// The range is inside one mapped region.
    #[inline(always)]
    pub unsafe fn persist_by<C: Caches>(
        self,
        by: &C,
        ptr: *const u8,
        len: usize,
    ) -> Result<(), Status> {
        // SAFETY: the caller's.
        unsafe { self.flush_by(by, ptr, len) }?;
        self.drain_by(by);
        Ok(())
    }

    /// Starts writing `len` bytes at `ptr` back.
    ///
    /// # Safety
    /// The range is inside one mapped region.
    #[inline]
    pub(crate) unsafe fn flush(self, ptr: *const u8, len: usize) -> Result<(), Status> {
        // SAFETY: the caller's.
        unsafe { self.flush_by(&Processor, ptr, len) }
    }

    /// Waits for this thread's flushes.
    #[inline]
    pub(crate) fn drain(self) {
        self.drain_by(&Processor);
    }

    /// Starts writing `len` bytes at `ptr` back, by these caches.
    ///
    /// # Errors
    /// The kernel could not make them durable, where it is the one to do so.
    ///
    /// # Safety
    /// The range is inside one mapped region.
    #[inline(always)]
    pub unsafe fn flush_by<C: Caches>(
        self,
        by: &C,
        ptr: *const u8,
        len: usize,
    ) -> Result<(), Status> {
        match self {
            // One loop per instruction, so that none decides line by line.
            // SAFETY: the caller's, and the instruction is one that the processor has.
            Self::Lines(Instruction::Clwb) => each_line(ptr, len, |l| unsafe { by.clwb(l) }),
            Self::Lines(Instruction::ClflushOpt) => {
                // SAFETY: as above.
                each_line(ptr, len, |line| unsafe { by.clflushopt(line) });
            }
            // SAFETY: as above.
            Self::Lines(Instruction::Clflush) => each_line(ptr, len, |l| unsafe { by.clflush(l) }),
            Self::FenceOnly => {}
            // SAFETY: the caller's.
            Self::Msync => return unsafe { by.sync(ptr, len) },
        }
        Ok(())
    }

    /// Waits for this thread's flushes, by these caches.
    #[inline(always)]
    pub fn drain_by<C: Caches>(self, by: &C) {
        if self.is_direct() {
            by.fence();
        }
    }
}

/// What gets stores from the caches to the medium; in tests something that can be looked at.
pub trait Caches {
    /// Writes a line back and keeps it.
    ///
    /// # Safety
    /// The line is in mapped memory, and the processor has the instruction.
    unsafe fn clwb(&self, line: *const u8);
    /// Writes a line back, in any order.
    ///
    /// # Safety
    /// As [`clwb`](Self::clwb).
    unsafe fn clflushopt(&self, line: *const u8);
    /// Writes a line back, in order.
    ///
    /// # Safety
    /// As [`clwb`](Self::clwb).
    unsafe fn clflush(&self, line: *const u8);
    /// Waits for what was written back.
    fn fence(&self);
    /// Has the kernel make a range durable, at once.
    ///
    /// # Errors
    /// It cannot.
    ///
    /// # Safety
    /// The range is inside one mapped region.
    unsafe fn sync(&self, ptr: *const u8, len: usize) -> Result<(), Status>;
}

/// This processor, and its kernel.
struct Processor;

impl Caches for Processor {
    #[inline(always)]
    unsafe fn clwb(&self, line: *const u8) {
        // SAFETY: the caller's.
        unsafe { cpu::clwb(line) }
    }

    #[inline(always)]
    unsafe fn clflushopt(&self, line: *const u8) {
        // SAFETY: the caller's.
        unsafe { cpu::clflushopt(line) }
    }

    #[inline(always)]
    unsafe fn clflush(&self, line: *const u8) {
        // SAFETY: the caller's.
        unsafe { cpu::clflush(line) }
    }

    #[inline(always)]
    fn fence(&self) {
        cpu::fence();
    }

    unsafe fn sync(&self, ptr: *const u8, len: usize) -> Result<(), Status> {
        // SAFETY: the caller's.
        unsafe { map::sync_range(ptr, len) }.map_err(|_| Status::IO)
    }
}

/// Calls `f` with every line that a range touches.
#[inline(always)]
fn each_line(ptr: *const u8, len: usize, mut f: impl FnMut(*const u8)) {
    let mut line = ptr.map_addr(|a| a & !(LINE - 1));
    let end = ptr.addr() + len;
    while line.addr() < end {
        f(line);
        line = line.wrapping_add(LINE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[repr(align(4096))]
    struct Page([u8; 4096]);

    /// A machine of whose page only what was written back and fenced survives: of a line that was
    /// written back, what it held then. Nothing else does.
    struct Machine {
        page: Box<Page>,
        pending: RefCell<Vec<(usize, [u8; LINE])>>,
        survives: RefCell<Page>,
    }

    impl Machine {
        fn new() -> Self {
            Self {
                page: Box::new(Page([0; 4096])),
                pending: RefCell::default(),
                survives: RefCell::new(Page([0; 4096])),
            }
        }

        fn write_back(&self, line: *const u8) {
            let at = line.addr() - self.page.0.as_ptr().addr();
            let mut copy = [0; LINE];
            copy.copy_from_slice(&self.page.0[at..at + LINE]);
            self.pending.borrow_mut().push((at, copy));
        }

        fn at(&self, offset: usize) -> *const u8 {
            self.page.0.as_ptr().wrapping_add(offset)
        }

        fn flush(&self, method: Method, offset: usize, len: usize) {
            // SAFETY: inside the page.
            unsafe { method.flush_by(self, self.at(offset), len) }.expect("flush");
        }
    }

    impl Caches for Machine {
        unsafe fn clwb(&self, line: *const u8) {
            self.write_back(line);
        }

        unsafe fn clflushopt(&self, line: *const u8) {
            self.write_back(line);
        }

        unsafe fn clflush(&self, line: *const u8) {
            self.write_back(line);
        }

        fn fence(&self) {
            for (at, line) in self.pending.take() {
                self.survives.borrow_mut().0[at..at + LINE].copy_from_slice(&line);
            }
        }

        unsafe fn sync(&self, _: *const u8, _: usize) -> Result<(), Status> {
            self.survives.borrow_mut().0 = self.page.0;
            Ok(())
        }
    }

    const ALL: [Method; 4] = [
        Method::Lines(Instruction::Clwb),
        Method::Lines(Instruction::ClflushOpt),
        Method::Lines(Instruction::Clflush),
        Method::Msync,
    ];

    #[test]
    fn what_was_flushed_and_drained_survives() {
        for method in ALL {
            for (offset, len) in (0..150).flat_map(|at| (1..200).map(move |len| (at, len))) {
                let mut machine = Machine::new();
                machine.page.0[offset..offset + len].fill(7);
                machine.flush(method, offset, len);
                method.drain_by(&machine);
                let survives = machine.survives.borrow();
                assert!(
                    survives.0[offset..offset + len].iter().all(|b| *b == 7),
                    "{method:?}: {len} bytes at {offset}"
                );
            }
        }
    }

    #[test]
    fn each_line_that_a_range_touches_is_written_back_once() {
        for (offset, len) in (0..200).flat_map(|at| (1..300).map(move |len| (at, len))) {
            let machine = Machine::new();
            machine.flush(Method::Lines(Instruction::Clwb), offset, len);
            let lines: Vec<usize> = machine.pending.take().iter().map(|(at, _)| *at).collect();
            let expected: Vec<usize> = (0..4096)
                .step_by(LINE)
                .filter(|line| line + LINE > offset && *line < offset + len)
                .collect();
            assert_eq!(lines, expected, "{len} bytes at {offset}");
        }
    }

    #[test]
    fn where_the_caches_survive_nothing_is_written_back() {
        let machine = Machine::new();
        machine.flush(Method::FenceOnly, 0, 4096);
        assert!(machine.pending.take().is_empty());
    }

    #[test]
    fn the_method_follows_from_what_is_there() {
        let direct = Method::choose(Choice::Auto, true, false);
        match cpu::best() {
            Some(instruction) => assert_eq!(direct, Method::Lines(instruction)),
            None => assert_eq!(direct, Method::Msync),
        }
        assert_eq!(Method::choose(Choice::Auto, false, true), Method::Msync);
        assert_eq!(Method::choose(Choice::Msync, true, true), Method::Msync);
        assert_eq!(Method::choose(Choice::CacheLines, false, false), direct);
        if cpu::best().is_some() {
            assert_eq!(Method::choose(Choice::Auto, true, true), Method::FenceOnly);
        }
    }

    #[test]
    fn every_instruction_of_this_processor_leaves_contents_alone() {
        let mut page = Box::new(Page([7; 4096]));
        let Some(best) = cpu::best() else {
            assert_eq!(Method::choose(Choice::Auto, true, false), Method::Msync);
            return;
        };
        // What is better than `clflush` implies what is worse.
        let all = [
            Instruction::Clwb,
            Instruction::ClflushOpt,
            Instruction::Clflush,
        ];
        let from = all.iter().position(|i| *i == best).expect("one of them");
        for instruction in &all[from..] {
            let method = Method::Lines(*instruction);
            // SAFETY: inside the page, and the processor has it.
            unsafe { method.flush(page.0.as_ptr(), 4096) }.expect("flush");
            method.drain();
        }
        assert!(page.0.iter().all(|b| *b == 7));
        // SAFETY: aligned, inside, and only used here.
        unsafe { cpu::stream_zeroes(page.0.as_mut_ptr().add(64), 4096 - 128) };
        cpu::fence();
        assert!(
            page.0[..64].iter().all(|b| *b == 7) && page.0[4096 - 64..].iter().all(|b| *b == 7)
        );
        assert!(page.0[64..4096 - 64].iter().all(|b| *b == 0));
    }
}
