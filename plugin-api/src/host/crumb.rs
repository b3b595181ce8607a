//! Which plugin a thread is in, so that a process that dies there can say so.
//!
//! Each call of a plugin notes plugin and call beforehand, and afterwards that it is over: one store each, into a place of the
//! thread's own on a [`Board`]. A process that is watched has its board in memory that it shares with who watches it
//! ([`Board::use_for_process`]): what stands there outlives the process, whatever becomes of its descriptors.

use super::board::{Board, Slot};
use std::cell::Cell;
use std::ptr::null;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

macro_rules! call_names {
    ($($name:ident $text:literal,)*) => {
        /// The calls of plugins by name. On a board they are numbers, in this order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum CallName { $($name,)* }

        /// The same as texts.
        pub(super) const CALL_NAMES: &[&str] = &[$($text,)*];
    };
}

call_names! {
    Load "load",
    Create "create",
    Destroy "destroy",
    ThreadAttach "thread_attach",
    ThreadDetach "thread_detach",
    Validate "validate",
    Scan "scan",
    Prepare "prepare",
    Release "release",
    Devices "devices",
    Format "format",
    Mount "mount",
    Unmount "unmount",
    Health "health",
    Firmware "firmware",
    Quiesce "quiesce",
    Open "open",
    Close "close",
    Info "info",
    Submit "submit",
    Poll "poll",
    ArmWait "arm_wait",
    Geometry "geometry",
    OpenQueue "open_queue",
    CloseQueue "close_queue",
    PollAdmin "poll_admin",
    NextEvent "next_event",
    Reset "reset",
    Identity "identity",
    Abort "abort",
    Reconnect "reconnect",
    MemoryAlloc "memory_alloc",
    MemoryFree "memory_free",
    MemoryRegister "memory_register",
    MemoryUnregister "memory_unregister",
    MountPoint "mount_point",
    OpenRegion "open_region",
    CloseRegion "close_region",
    RemoveRegion "remove_region",
    Persist "persist",
    Flush "flush",
    Drain "drain",
    Register "register",
    Unregister "unregister",
    OpenEndpoint "open_endpoint",
    CloseEndpoint "close_endpoint",
    Address "address",
    Resolve "resolve",
    Cancel "cancel",
}

impl CallName {
    /// As messages name it.
    pub(super) fn text(self) -> &'static str {
        CALL_NAMES[self as usize]
    }
}

/// Plugins with a name of their own on a board; of more than these no names are told.
pub(super) const LABELS: usize = 64;

/// Names and versions of this process's plugins. A signal handler reads them, so they are never freed.
static NAMES: [OnceLock<Box<str>>; LABELS] = [const { OnceLock::new() }; LABELS];

/// How a plugin is named when a process dies in it: name and version, by their number.
#[derive(Clone, Copy)]
pub(super) struct Label(u32);

impl Label {
    pub(super) fn new(name: &str, version: &str) -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        let text = format!("{name} {version}");
        // A panic of another thread has left the names as they were.
        let _one_at_a_time = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, place) in (0..).zip(&NAMES) {
            let known = place.get_or_init(|| {
                Board::of_process().name(number as usize, &text);
                text.clone().into()
            });
            if **known == *text {
                return Self(number);
            }
        }
        Self(LABELS as u32)
    }

    /// The text of a number.
    fn text(number: u32) -> &'static str {
        let place = NAMES.get(number as usize).and_then(OnceLock::get);
        place.map_or("of many", |name| name)
    }
}

/// What stands on a board for a thread: number of the call, number of the plugin, whether the call lasts, and that there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crumb(u32);

impl Crumb {
    const LASTS: u32 = 1 << 31;
    const IS_ONE: u32 = 1 << 30;

    fn new(label: Label, call: CallName) -> Self {
        Self(Self::LASTS | Self::IS_ONE | label.0 << 8 | call as u32)
    }

    /// What a thread that never called a plugin has.
    pub(super) fn read(stored: u32) -> Option<Self> {
        (stored & Self::IS_ONE != 0).then_some(Self(stored))
    }

    /// Whether the thread is in the call, and has not come back from it.
    pub(super) fn lasts(self) -> bool {
        self.0 & Self::LASTS != 0
    }

    /// Number of the plugin.
    pub(super) fn label(self) -> usize {
        (self.0 >> 8 & 0xffff) as usize
    }

    /// The call.
    pub(super) fn call(self) -> &'static str {
        CALL_NAMES.get((self.0 & 0xff) as usize).unwrap_or(&"?")
    }
}

thread_local! {
    // Without a destructor and initialised by the compiler, so that a signal handler may read it.
    static SLOT: Cell<*const Slot> = const { Cell::new(null()) };
    /// The place of a thread that has none on the board, or not any more.
    static OWN: Slot = const { Slot::new() };
    /// Gives the place on the board back when the thread ends.
    static PLACE: Place = const { Place(Cell::new(None)) };
}

struct Place(Cell<Option<&'static Slot>>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            // `exit` runs the destructors of the thread that calls it: what it was in is still to be told.
            let crumb = Crumb::read(slot.crumb.load(Ordering::Relaxed));
            if crumb.is_some_and(Crumb::lasts) {
                return;
            }
            // Other destructors of this thread may still call plugins.
            SLOT.with(|place| place.set(OWN.with(|own| &raw const *own)));
            slot.give_back();
        }
    }
}

/// The thread's place. Valid as long as the thread calls plugins.
#[inline]
fn slot() -> &'static AtomicU32 {
    let known = SLOT.with(Cell::get);
    let slot = if known.is_null() { find_slot() } else { known };
    // SAFETY: a place on a board, which is never freed, or of this thread, which outlives what it calls.
    unsafe { &(*slot).crumb }
}

#[cold]
fn find_slot() -> *const Slot {
    // Without somewhere to give it back from, none is taken.
    let taken = PLACE.try_with(|place| {
        let slot = Board::of_process().take_slot()?;
        place.0.set(Some(slot));
        Some(&raw const *slot)
    });
    let slot = match taken {
        Ok(Some(slot)) => slot,
        _ => OWN.with(|own| &raw const *own),
    };
    SLOT.with(|place| place.set(slot));
    slot
}

/// Notes the end of a call, also when it does not return in the ordinary way.
struct Over {
    slot: &'static AtomicU32,
    after: u32,
}

impl Drop for Over {
    #[inline(always)]
    fn drop(&mut self) {
        self.slot.store(self.after, Ordering::Relaxed);
    }
}

/// Calls a plugin.
#[inline]
pub(super) fn inside<R>(label: Label, call: CallName, f: impl FnOnce() -> R) -> R {
    let slot = slot();
    let crumb = Crumb::new(label, call).0;
    let before = slot.load(Ordering::Relaxed); // nobody else writes it
    slot.store(crumb, Ordering::Relaxed);
    // A layer calls the device below it: what was before comes back afterwards. Else the call stays as the last one.
    let after = match before & Crumb::LASTS {
        0 => crumb & !Crumb::LASTS,
        _ => before,
    };
    let _over = Over { slot, after };
    f()
}

/// Loads a plugin, whose own code may run before it is called: [`current_call`] names it and "load" meanwhile.
pub fn while_loading<R>(name: &str, version: &str, load: impl FnOnce() -> R) -> R {
    inside(Label::new(name, version), CallName::Load, load)
}

/// The plugin that this thread is in ("name version") and the call, for a process that is about to die: only
/// reads memory that is never freed, so a signal handler may use it.
pub fn current_call() -> Option<(&'static str, &'static str)> {
    let slot = SLOT.with(Cell::get);
    // SAFETY: as in `slot`.
    let slot = unsafe { slot.as_ref() }?;
    let crumb = Crumb::read(slot.crumb.load(Ordering::Relaxed))?;
    crumb
        .lasts()
        .then(|| (Label::text(crumb.label() as u32), crumb.call()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_while_it_lasts_and_calls_nest() {
        let (a, b) = (Label::new("a", "1"), Label::new("b", "2"));
        assert_eq!(current_call(), None);
        inside(a, CallName::Submit, || {
            assert_eq!(current_call(), Some(("a 1", "submit")));
            inside(b, CallName::Poll, || {
                assert_eq!(current_call(), Some(("b 2", "poll")))
            });
            assert_eq!(current_call(), Some(("a 1", "submit")));
        });
        assert_eq!(current_call(), None);
        let last = Crumb::read(slot().load(Ordering::Relaxed)).expect("the last call");
        assert_eq!(
            (last.lasts(), last.call(), Label::text(last.label() as u32)),
            (false, "submit", "a 1")
        );
    }

    #[test]
    fn a_call_that_panics_is_over_as_well() {
        let label = Label::new("c", "1");
        let panics = || inside(label, CallName::Open, || panic!("as it should"));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(current_call(), None);
    }

    #[test]
    fn one_plugin_has_one_number() {
        assert_eq!(Label::new("d", "1").0, Label::new("d", "1").0);
        assert_ne!(Label::new("d", "1").0, Label::new("d", "2").0);
    }

    #[test]
    fn names_are_those_of_the_numbers() {
        assert_eq!(CallName::Load.text(), "load");
        assert_eq!(CallName::Cancel.text(), "cancel");
        assert_eq!(CALL_NAMES.len(), CallName::Cancel as usize + 1);
    }
}
