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

/// Of pointers of one word: a call costs nanoseconds, and its crumb is made, kept and brought back each time.
struct Crumb {
    plugin: Cell<*const Label>,
    call: Cell<&'static &'static str>,
}

thread_local! {
    // Without a destructor and initialised by the compiler, so that a signal handler may read it.
    static CURRENT: Crumb = const {
        Crumb {
            plugin: Cell::new(null()),
            call: Cell::new(&""),
        }
    };
}

/// Brings back what was before, also when the call does not return in the ordinary way.
struct Forget<'a> {
    current: &'a Crumb,
    plugin: *const Label,
    call: &'static &'static str,
}

impl Drop for Forget<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.current.plugin.set(self.plugin);
        self.current.call.set(self.call);
    }
}

/// Calls a plugin.
#[inline]
pub(super) fn inside<R>(label: &Label, call: &'static &'static str, f: impl FnOnce() -> R) -> R {
    CURRENT.with(|current| {
        // A layer calls the device below it: what was before comes back afterwards.
        let _forget = Forget {
            current,
            plugin: current.plugin.replace(label),
            call: current.call.replace(call),
        };
        f()
    })
}

/// The plugin that this thread is in ("name version") and the call, for a process that is about to die: only
/// reads memory of this thread, so a signal handler may use it.
pub fn current_call() -> Option<(&'static str, &'static str)> {
    CURRENT.with(|current| {
        // SAFETY: null, or the label of an instance that lives as long as the call which this thread is in; who
        // asks does so from inside that call and keeps the text no longer.
        let label = unsafe { current.plugin.get().as_ref() }?;
        Some((&*label.0, *current.call.get()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_while_it_lasts_and_calls_nest() {
        let (a, b) = (Label::new("a", "1"), Label::new("b", "2"));
        assert_eq!(current_call(), None);
        inside(&a, &"submit", || {
            assert_eq!(current_call(), Some(("a 1", "submit")));
            inside(&b, &"poll", || {
                assert_eq!(current_call(), Some(("b 2", "poll")))
            });
            assert_eq!(current_call(), Some(("a 1", "submit")));
        });
        assert_eq!(current_call(), None);
    }
}
