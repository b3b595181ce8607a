//! The processor's instructions for persistent memory: cache-line write-back, store fence and
//! non-temporal stores. Unsafe code of this kind is here alone.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 (CLWB, CLFLUSHOPT,
//! CLFLUSH, MOVNTDQ, SFENCE) and volume 1, chapter 12.6 on persistence.

/// Bytes of a cache line on every processor that has these instructions.
pub(crate) const LINE: usize = 64;

/// How a cache line gets to the memory controller, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub enum Instruction {
    /// Writes back and may keep the line in the cache.
    Clwb,
    /// Writes back and evicts; not ordered among themselves.
    ClflushOpt,
    /// The same, one after the other: slow.
    Clflush,
}

impl Instruction {
    /// The name of the instruction.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clwb => "clwb",
            Self::ClflushOpt => "clflushopt",
            Self::Clflush => "clflush",
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Instruction;
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, __m128i, _mm_setzero_si128, _mm_stream_si128};

    /// The best instruction that this processor has.
    pub(crate) fn best() -> Option<Instruction> {
        /// CPUID.(EAX=7,ECX=0):EBX.
        const CLFLUSHOPT: u32 = 1 << 23;
        const CLWB: u32 = 1 << 24;
        /// CPUID.(EAX=1):EDX.
        const CLFSH: u32 = 1 << 19;
        let leaves = __cpuid(0).eax;
        let extended = match leaves >= 7 {
            true => __cpuid_count(7, 0).ebx,
            false => 0,
        };
        if extended & CLWB != 0 {
            Some(Instruction::Clwb)
        } else if extended & CLFLUSHOPT != 0 {
            Some(Instruction::ClflushOpt)
        } else if __cpuid(1).edx & CLFSH != 0 {
            Some(Instruction::Clflush)
        } else {
            None
        }
    }

    /// # Safety
    /// The line is in mapped memory, and the processor has the instruction.
    #[inline(always)]
    pub(crate) unsafe fn clwb(line: *const u8) {
        // SAFETY: the caller's; the instruction changes no memory. As it is not `nomem`, the
        // compiler leaves stores before it where they are.
        unsafe { asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)) }
    }

    /// # Safety
    /// As [`clwb`].
    #[inline(always)]
    pub(crate) unsafe fn clflushopt(line: *const u8) {
        // SAFETY: as in `clwb`.
        unsafe { asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)) }
    }

    /// # Safety
    /// As [`clwb`].
    #[inline(always)]
    pub(crate) unsafe fn clflush(line: *const u8) {
        // SAFETY: as in `clwb`.
        unsafe { asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags)) }
    }

    /// Orders everything written back or streamed so far before whatever this thread stores next.
    #[inline(always)]
    pub(crate) fn fence() {
        // SAFETY: every x86-64 processor has it, and it only orders.
        unsafe { asm!("sfence", options(nostack, preserves_flags)) }
    }

    /// Fills memory with zeroes past the caches; durable after the next [`fence`].
    ///
    /// # Safety
    /// `ptr` is aligned to 64 bytes and valid for writes of `len`, a multiple of 64, and nobody else
    /// uses it meanwhile.
    pub(crate) unsafe fn stream_zeroes(ptr: *mut u8, len: usize) {
        let mut at = ptr.cast::<__m128i>();
        // SAFETY: inside the range that the caller vouches for; SSE2 belongs to x86-64.
        unsafe {
            let zero = _mm_setzero_si128();
            let end = ptr.add(len).cast::<__m128i>();
            while at < end {
                _mm_stream_si128(at, zero);
                _mm_stream_si128(at.add(1), zero);
                _mm_stream_si128(at.add(2), zero);
                _mm_stream_si128(at.add(3), zero);
                at = at.add(4);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{best, clflush, clflushopt, clwb, fence, stream_zeroes};

/// Processors whose instructions are not known here: memory is made durable by the kernel.
#[cfg(not(target_arch = "x86_64"))]
mod other {
    use super::Instruction;

    pub(crate) fn best() -> Option<Instruction> {
        None
    }

    /// # Safety
    /// Never called: there is no instruction.
    pub(crate) unsafe fn clwb(_: *const u8) {}

    /// # Safety
    /// As [`clwb`].
    pub(crate) unsafe fn clflushopt(_: *const u8) {}

    /// # Safety
    /// As [`clwb`].
    pub(crate) unsafe fn clflush(_: *const u8) {}

    pub(crate) fn fence() {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// # Safety
    /// `ptr` is valid for writes of `len`, and nobody else uses it meanwhile.
    pub(crate) unsafe fn stream_zeroes(ptr: *mut u8, len: usize) {
        // SAFETY: the caller's.
        unsafe { ptr.write_bytes(0, len) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use other::{best, clflush, clflushopt, clwb, fence, stream_zeroes};
