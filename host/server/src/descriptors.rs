//! Descriptors: every connection takes one.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use tracing::{info, warn};

/// What a server of a large system needs: connections of its agents and administrators beside its own files.
const WANTED: u64 = 16_384;

/// Takes as many as this process may have, and tells when that is little.
pub(crate) fn raise() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        // More than enough would only slow down whoever closes all of them.
        let wanted = hard.min(WANTED.max(soft));
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map(|()| wanted)
    });
    match raised {
        Ok(limit) if limit >= WANTED => info!("this server may have {limit} connections and files"),
        Ok(limit) => warn!(
            "this server may have only {limit} connections and files; raise LimitNOFILE= of its unit, or \
             `ulimit -Hn`, to {WANTED}"
        ),
        Err(error) => warn!("the limit of open files cannot be raised: {error}"),
    }
}

/// What to do about a connection that was not accepted, to be put behind the error.
pub(crate) fn remedy(error: &io::Error) -> String {
    let full = Some(Errno::EMFILE as i32) == error.raw_os_error();
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if full => format!(
            "; this server has all {soft} connections and files that it may have: raise LimitNOFILE= of its unit, or \
             `ulimit -Hn`"
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_limit_of_this_process_has_a_remedy() {
        let told = remedy(&io::Error::from_raw_os_error(Errno::EMFILE as i32));
        assert!(told.contains("LimitNOFILE="), "{told}");
        assert_eq!(
            remedy(&io::Error::from_raw_os_error(Errno::ECONNABORTED as i32)),
            ""
        );
    }
}
