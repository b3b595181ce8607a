//! A board: what the threads of a process do with its plugins, and the last words of that process, in memory that another
//! process reads when this one is gone.
//!
//! The reader trusts nothing: a plugin that writes where it must not may have written here.

use super::crumb::{CALL_NAMES, Crumb, LABELS};
use std::mem::offset_of;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

/// Threads that have a place at a time; further ones are not seen by readers.
const SLOTS: usize = 512;
/// Bytes of a plugin's name and version.
const NAME: usize = 120;
/// Bytes of last words.
const WORDS: usize = 1024;
/// Bytes of a thread's name; Linux keeps 15.
const THREAD: usize = 16;
/// Says what this is, and in which form; another number of calls is another form.
const MAGIC: u32 = 0x4441_0100 + CALL_NAMES.len() as u32;

/// States of a slot, and of the words.
const FREE: u32 = 0;
const TAKEN: u32 = 1;
const DONE: u32 = 2;

/// The place of a thread, on a cache line of its own.
#[repr(C, align(64))]
pub(super) struct Slot {
    /// See [`Crumb`].
    pub(super) crumb: AtomicU32,
    state: AtomicU32,
    thread: Text<THREAD>,
}

impl Slot {
    pub(super) const fn new() -> Self {
        Self {
            crumb: AtomicU32::new(0),
            state: AtomicU32::new(FREE),
            thread: Text::new(),
        }
    }

    /// The thread ends.
    pub(super) fn give_back(&self) {
        self.crumb.store(0, Ordering::Relaxed);
        self.state.store(FREE, Ordering::Release);
    }
}

/// Bytes that end at the first zero.
#[repr(C)]
struct Text<const N: usize>([AtomicU8; N]);

impl<const N: usize> Text<N> {
    const fn new() -> Self {
        Self([const { AtomicU8::new(0) }; N])
    }

    /// Async-signal-safe.
    fn set(&self, text: &[u8]) {
        for (index, place) in self.0.iter().enumerate() {
            place.store(text.get(index).copied().unwrap_or(0), Ordering::Relaxed);
        }
    }
}

#[repr(C)]
struct Words {
    state: AtomicU32,
    text: Text<WORDS>,
}

/// See the module.
#[repr(C)]
pub struct Board {
    magic: AtomicU32,
    words: Words,
    names: [Text<NAME>; LABELS],
    slots: [Slot; SLOTS],
}

/// The board of a process that nobody watches.
static OWN: Board = Board {
    magic: AtomicU32::new(0),
    words: Words {
        state: AtomicU32::new(FREE),
        text: Text::new(),
    },
    names: [const { Text::new() }; LABELS],
    slots: [const { Slot::new() }; SLOTS],
};

static BOARD: AtomicPtr<Board> = AtomicPtr::new((&raw const OWN).cast_mut());

impl Board {
    /// Bytes of a board.
    pub const BYTES: usize = size_of::<Self>();

    /// Takes `memory` as the board of this process: [`Board::BYTES`] zero bytes that begin at a page. Before the process
    /// calls a plugin; threads that have done so keep their places on the old one.
    ///
    /// # Safety
    /// The memory stays as long as the process, and this process writes to it in no other way.
    pub unsafe fn use_for_process(memory: *mut u8) {
        let board = memory.cast::<Self>();
        // SAFETY: the caller vouches for the memory; zeroes are a board without anything on it.
        unsafe { (*board).magic.store(MAGIC, Ordering::Relaxed) };
        BOARD.store(board, Ordering::Release);
    }

    pub(super) fn of_process() -> &'static Self {
        // SAFETY: the static one, or what `use_for_process` was given.
        unsafe { &*BOARD.load(Ordering::Acquire) }
    }

    /// Gives a plugin its name.
    pub(super) fn name(&self, number: usize, name: &str) {
        if let Some(place) = self.names.get(number) {
            place.set(name.as_bytes());
        }
    }

    /// A place for the calling thread, if there is one left.
    pub(super) fn take_slot(&self) -> Option<&Slot> {
        let slot = self.slots.iter().find(|slot| {
            let free = slot.state.load(Ordering::Relaxed) == FREE;
            free && slot
                .state
                .compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })?;
        let thread = std::thread::current();
        slot.thread.set(thread.name().unwrap_or("").as_bytes());
        Some(slot)
    }

    /// Leaves the last words of this process, unless there are some: what happens later is a consequence. Async-signal-safe.
    pub fn leave_words(words: &[u8]) {
        let place = &Self::of_process().words;
        let first = place
            .state
            .compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed);
        if first.is_ok() {
            place.text.set(words);
            place.state.store(DONE, Ordering::Release);
        }
    }
}

/// What stands on the board of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoardReading {
    /// Its last words, if it left any.
    pub words: Option<String>,
    /// The last call of each of its threads.
    pub calls: Vec<ThreadCall>,
}

/// The last call of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadCall {
    /// Name of the thread; empty if it has none.
    pub thread: String,
    /// Name and version of the plugin.
    pub plugin: String,
    /// The call.
    pub call: &'static str,
    /// The thread has not come back from it.
    pub lasts: bool,
}

impl BoardReading {
    /// Reads the bytes of a board; nothing stands on one that its process did not take.
    pub fn of(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        if bytes.len() < Board::BYTES || number(offset_of!(Board, magic)) != MAGIC {
            return Self::default();
        }
        let words = offset_of!(Board, words);
        let has_words = number(words + offset_of!(Words, state)) != FREE;
        let words = text(bytes, words + offset_of!(Words, text), WORDS);
        let slots = (0..SLOTS).map(|n| offset_of!(Board, slots) + n * size_of::<Slot>());
        let calls = slots.filter_map(|at| {
            let crumb = Crumb::read(number(at + offset_of!(Slot, crumb)))?;
            let name = offset_of!(Board, names) + crumb.label() * size_of::<Text<NAME>>();
            let plugin = match crumb.label() < LABELS {
                true => text(bytes, name, NAME),
                false => String::new(),
            };
            Some(ThreadCall {
                thread: text(bytes, at + offset_of!(Slot, thread), THREAD),
                plugin: match plugin.is_empty() {
                    true => "of unknown name".to_owned(),
                    false => plugin,
                },
                call: crumb.call(),
                lasts: crumb.lasts(),
            })
        });
        Self {
            words: Some(words).filter(|words| has_words && !words.is_empty()),
            calls: calls.collect(),
        }
    }
}

/// A text without anything that could not be shown in a line.
fn text(bytes: &[u8], at: usize, len: usize) -> String {
    let bytes = bytes.get(at..at + len).unwrap_or_default();
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::crumb::{CallName, Label, inside};
    use super::*;

    /// The bytes of this process's board. Tests share it, so each looks for what is its own.
    fn bytes() -> Vec<u8> {
        let board = Board::of_process();
        board.magic.store(MAGIC, Ordering::Relaxed);
        let start = (&raw const *board).cast::<u8>();
        // SAFETY: the static board; what other threads write meanwhile are single bytes and numbers of tests.
        (0..Board::BYTES)
            .map(|at| unsafe { start.add(at).read_volatile() })
            .collect()
    }

    fn call_of(thread: &str) -> Option<ThreadCall> {
        let calls = BoardReading::of(&bytes()).calls;
        calls.into_iter().find(|call| call.thread == thread)
    }

    fn in_thread(name: &str, f: impl FnOnce() + Send + 'static) {
        let builder = std::thread::Builder::new().name(name.to_owned());
        let thread = builder.spawn(f).expect("a thread");
        thread.join().expect("it ends");
    }

    #[test]
    fn a_reader_sees_the_call_that_a_thread_is_in_and_then_that_it_was_the_last() {
        in_thread("board-a", || {
            let label = Label::new("bdev-board", "1.2");
            let told = |lasts, call| {
                Some(ThreadCall {
                    thread: "board-a".to_owned(),
                    plugin: "bdev-board 1.2".to_owned(),
                    call,
                    lasts,
                })
            };
            inside(label, CallName::Submit, || {
                assert_eq!(call_of("board-a"), told(true, "submit"));
            });
            assert_eq!(call_of("board-a"), told(false, "submit"));
            inside(label, CallName::Poll, || {});
            assert_eq!(call_of("board-a"), told(false, "poll"));
        });
        // Whoever comes next gets its place.
        assert_eq!(call_of("board-a"), None);
    }

    /// A destructor that calls a plugin after the place was given back.
    #[test]
    fn the_end_of_a_thread_may_call_plugins() {
        struct Last;
        impl Drop for Last {
            fn drop(&mut self) {
                inside(Label::new("late", "1"), CallName::CloseQueue, || {});
            }
        }
        thread_local!(static LAST: Last = const { Last });
        in_thread("board-b", || {
            LAST.with(|_| {});
            inside(Label::new("late", "1"), CallName::OpenQueue, || {});
        });
        assert_eq!(call_of("board-b"), None);
    }

    #[test]
    fn the_first_words_count() {
        Board::leave_words(b"SIGSEGV inside plugin a 1, call poll\x1b[2J\n");
        Board::leave_words(b"exit");
        let words = BoardReading::of(&bytes()).words.expect("words");
        assert_eq!(words.trim_end(), "SIGSEGV inside plugin a 1, call poll [2J");
    }

    #[test]
    fn what_is_no_board_says_nothing_and_garbage_harms_nobody() {
        let nothing = BoardReading::default();
        assert_eq!(BoardReading::of(&[]), nothing);
        assert_eq!(BoardReading::of(&vec![0; Board::BYTES]), nothing);
        let mut garbage = vec![0xff; Board::BYTES];
        assert_eq!(BoardReading::of(&garbage), nothing);
        garbage[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        let read = BoardReading::of(&garbage);
        assert_eq!(read.calls.len(), SLOTS);
        assert_eq!(read.calls[0].call, "?");
        assert_eq!(BoardReading::of(&garbage[1..]), nothing);
    }
}
