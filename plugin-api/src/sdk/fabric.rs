//! Traits of a fabric plugin; contracts of the functions stand beside the members of
//! [`FabricTable`](crate::abi::FabricTable).

use super::{CallContext, Plugin, Result};
use crate::abi::{FabricCompletion, FabricInfo, FabricRequest, Status, Wait};
use crate::control::FabricOpenRequest;

/// A plugin with a fabric.
pub trait FabricPlugin: Plugin {
    /// An open domain.
    type Domain: FabricDomain;

    /// Opens a domain on an interface.
    fn open(&self, call: CallContext<'_>, request: FabricOpenRequest) -> Result<Self::Domain>;
}

/// A registration of memory as the plugin describes it; see
/// [`MemoryRegion`](crate::abi::MemoryRegion).
pub struct Registration<R> {
    /// Kept until unregistered; dropping it ends the registration.
    pub region: R,
    /// For local operations.
    pub descriptor: u64,
    /// For peers.
    pub key: u64,
    /// Remote address of the first byte.
    pub base: u64,
}

/// An open domain; called from one thread at a time, also while endpoints are in use.
pub trait FabricDomain: Send + Sync + 'static {
    /// An endpoint of it.
    type Endpoint: FabricEndpoint;
    /// State of a registration; dropping it ends the registration.
    type Region: Send + 'static;

    /// What the domain is like.
    fn info(&self) -> FabricInfo;

    /// Registers memory.
    ///
    /// # Safety
    /// The memory stays valid until the registration is dropped; with remote rights, peers may
    /// read or write it at any time.
    unsafe fn register(
        &self,
        ptr: *mut u8,
        len: usize,
        access: u32,
    ) -> Result<Registration<Self::Region>>;

    /// Opens an endpoint, on the thread that will use it.
    fn open_endpoint(&self, call: CallContext<'_>) -> Result<Self::Endpoint>;
}

/// An endpoint; opened, used and dropped by one thread.
pub trait FabricEndpoint: 'static {
    /// Address for `resolve` elsewhere.
    fn address(&self) -> Vec<u8>;

    /// Numbers a peer.
    fn resolve(&mut self, address: &[u8]) -> Result<u64, Status>;

    /// Forgets a peer.
    fn release(&mut self, peer: u64) -> Result<(), Status>;

    /// Takes a prefix of `requests` and returns its length.
    ///
    /// # Safety
    /// The memory and scratch that the requests name stay valid and untouched until their
    /// completion is polled or the endpoint is dropped.
    unsafe fn submit(&mut self, requests: &[FabricRequest]) -> Result<usize, Status>;

    /// Makes progress, stores completions, returns how many.
    fn poll(&mut self, completions: &mut [FabricCompletion]) -> Result<usize, Status>;

    /// Asks to cancel an operation.
    fn cancel(&mut self, user: u64) -> Result<(), Status>;

    /// How the thread may sleep.
    fn arm_wait(&mut self) -> Wait;
}
