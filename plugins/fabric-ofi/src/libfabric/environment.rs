//! What libfabric is told through the environment, which is all that it listens to: variables that it reads once,
//! when its first function is called.

use std::ffi::{CStr, c_char};
use std::sync::Once;

/// Each a variable with its value, `NAME=value`; a value that is there already stays.
const VARIABLES: &[&CStr] = &[
    // A cached registration outlives its end: peers could still reach memory that was taken back, beyond
    // what was registered, and with the rights of its neighbours.
    c"FI_MR_CACHE_MAX_COUNT=0",
    // Without receives shared by all connections, ofi_rxm over verbs posts one on a connection that it has closed when
    // something arrives meanwhile (seen in 1.17 and 2.1): a crash.
    c"FI_OFI_RXM_USE_SRX=1",
    // By default ofi_rxm wants completion queues for 256 times what goes to one peer, more than some RDMA devices have.
    // An endpoint of ours has no more than 1024 operations under way, whatever the number of its peers, so that
    // room for 16 times a provider's queue (384 for verbs) is ample.
    c"FI_UNIVERSE_SIZE=16",
    // ofi_rxm looks at the connections that come and go every 10 ms by default, while its queue is read: each of the steps
    // of a new one waits for that, awake, since the descriptor announces it all the while. To look each time that there
    // is no message (0) makes all messages slower by a sixth. Microseconds.
    c"FI_OFI_RXM_CM_PROGRESS_INTERVAL=100",
    // The threads of provider sockets look for work for 10 ms before they sleep, one per endpoint on each side, and who
    // uses the endpoint waits for the core: an exchange took 3 ms on two cores, of CPU time, too, instead of 0.1.
    c"FI_SOCKETS_PE_WAITTIME=0",
    // Who sends the first message waits inside of that call until the connection is there, for 15 s where nobody answers;
    // and then goes on as if it were, while the kernel still tries. It can do so at once: what is sent waits, and fails
    // with the connection. Milliseconds.
    c"FI_SOCKETS_CONN_TIMEOUT=1",
];

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// Sets the variables that are not there, once in the process; to be called before any function of libfabric.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `environ` is null or an array that a null ends. setenv(3) might move that array while another
        // thread reads it; this puts another one in its place, which is never freed, and leaves the old one as it is.
        unsafe {
            let mut entries: Vec<*const c_char> = Vec::new();
            let mut at = environ;
            while !at.is_null() && !(*at).is_null() {
                entries.push(*at);
                at = at.add(1);
            }
            let is_set = |variable: &CStr| {
                let name = name_of(variable.to_bytes());
                entries
                    .iter()
                    .any(|entry| name_of(CStr::from_ptr(*entry).to_bytes()) == name)
            };
            let missing: Vec<&CStr> = VARIABLES
                .iter()
                .copied()
                .filter(|variable| !is_set(variable))
                .collect();
            tracing::debug!(?missing, "variables for libfabric");
            entries.extend(missing.iter().map(|variable| variable.as_ptr()));
            entries.push(std::ptr::null());
            environ = entries.leak().as_ptr();
        }
    });
}

fn name_of(variable: &[u8]) -> &[u8] {
    variable
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_set_and_all_else_stays() {
        let before: Vec<_> = std::env::vars_os().collect();
        prepare();
        prepare();
        for (name, value) in &before {
            assert_eq!(std::env::var_os(name).as_ref(), Some(value), "{name:?}");
        }
        for variable in VARIABLES {
            let (name, value) = variable.to_str().unwrap().split_once('=').unwrap();
            let of_user = before.iter().find(|(known, _)| known == name);
            let expected = of_user.map_or(value.into(), |(_, value)| value.clone());
            assert_eq!(std::env::var_os(name), Some(expected), "{name}");
        }
        // As many as were missing, none twice.
        let added = VARIABLES
            .iter()
            .filter(|v| {
                let name = v.to_str().unwrap().split('=').next().unwrap();
                !before.iter().any(|(known, _)| known == name)
            })
            .count();
        assert_eq!(std::env::vars_os().count(), before.len() + added);
    }
}
