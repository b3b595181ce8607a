//! The threading level of a domain, per provider.
//!
//! Each endpoint has a completion queue and an address vector of its own, and one thread uses the three:
//! that is what `FI_THREAD_COMPLETION` asks for. Registering and unregistering memory is what libfabric calls
//! control, and safe beside it at this level (`fi_domain(3)`); at `FI_THREAD_DOMAIN` it would not be.
//!
//! A level that a provider grants is not yet one that it keeps. So the weaker one is asked for where its
//! source shows what it leaves out, where that helps, and where the conformance kit runs over it.

use super::sys;

/// Providers that are asked for `FI_THREAD_COMPLETION`, by libfabric's full name: where the layer `ofi_rxm` grants it there
/// are no locks around endpoint and queue, neither in the layer nor in what is below it; the table of registrations
/// keeps its lock. `ofi_rxm` of 1.17 grants `FI_THREAD_SAFE` whatever it is asked.
const COMPLETION: &[&str] = &["tcp;ofi_rxm", "verbs;ofi_rxm"];

/// The level to ask for; `FI_THREAD_SAFE` for all others.
///
/// * `tcp` of libfabric 2 would give each endpoint a progress engine of its own at the weaker level, where they
///   otherwise share one and its lock. But in 2.1 `fi_cq_open` then calls a null pointer.
/// * `sockets` and `psm2` have locks of their own at every level but `FI_THREAD_DOMAIN`; `net` and `shm` share one
///   between endpoints that the weaker level does not take away.
pub(super) fn level(provider: &str) -> sys::fi_threading {
    match COMPLETION.contains(&provider) {
        true => sys::fi_threading_FI_THREAD_COMPLETION,
        false => sys::fi_threading_FI_THREAD_SAFE,
    }
}

/// libfabric's name of a level.
pub(super) fn name(level: sys::fi_threading) -> &'static str {
    match level {
        sys::fi_threading_FI_THREAD_SAFE => "FI_THREAD_SAFE",
        sys::fi_threading_FI_THREAD_DOMAIN => "FI_THREAD_DOMAIN",
        sys::fi_threading_FI_THREAD_COMPLETION => "FI_THREAD_COMPLETION",
        _ => "FI_THREAD_UNSPEC",
    }
}
