//! Which plugin a thread is in, so that a process that dies there can say so.
//!
//! Each call of a plugin notes the plugin and the call's name beforehand and forgets them afterwards: four stores
//! into memory of the thread.

use std::cell::Cell;
use std::ptr::null;

/// How a plugin is named when a process dies in it: name and version.
pub(super) struct Label(Box<str>);

impl Label {
    pub(super) fn new(name: &str, version: &str) -> Self {
        Self(format!("{name} {version}").into())
    }
}

#[derive(Clone, Copy)]
struct Crumb {
    plugin: *const str,
    call: &'static str,
}

const NOTHING: Crumb = Crumb {
    plugin: std::ptr::slice_from_raw_parts(null::<u8>(), 0) as *const str,
    call: "",
};

thread_local! {
    // Without a destructor and initialised by the compiler, so that a signal handler may read it.
    static CURRENT: Cell<Crumb> = const { Cell::new(NOTHING) };
}

/// Forgets the crumb, also when the call does not return in the ordinary way.
struct Forget(Crumb);

impl Drop for Forget {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Calls a plugin.
#[inline]
pub(super) fn inside<R>(label: &Label, call: &'static str, f: impl FnOnce() -> R) -> R {
    // A layer calls the device below it: what was before comes back afterwards.
    let _forget = Forget(CURRENT.replace(Crumb {
        plugin: &raw const *label.0,
        call,
    }));
    f()
}

/// The plugin that this thread is in ("name version") and the call, for a process that is about to die: only
/// reads memory of this thread, so a signal handler may use it.
pub fn current_call() -> Option<(&'static str, &'static str)> {
    let crumb = CURRENT.get();
    // SAFETY: null, or the label of an instance that lives as long as the call which this thread is in; who
    // asks does so from inside that call and keeps the text no longer.
    (!crumb.plugin.is_null()).then(|| (unsafe { &*crumb.plugin }, crumb.call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_while_it_lasts_and_calls_nest() {
        let (a, b) = (Label::new("a", "1"), Label::new("b", "2"));
        assert_eq!(current_call(), None);
        inside(&a, "submit", || {
            assert_eq!(current_call(), Some(("a 1", "submit")));
            inside(&b, "poll", || {
                assert_eq!(current_call(), Some(("b 2", "poll")))
            });
            assert_eq!(current_call(), Some(("a 1", "submit")));
        });
        assert_eq!(current_call(), None);
    }
}
