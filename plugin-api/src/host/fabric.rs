//! An open fabric domain, its registrations and endpoints.

use super::bdev::{check, counted, possible};
use super::call::CallOptions;
use super::crumb::CallName;
use super::instance::{Instance, encode};
use super::scm::append;
use crate::abi::{
    FabricCompletion, FabricInfo, FabricRequest, FabricTable, Handle, MemoryRegion, Sink, Status,
    Str, Wait,
};
use crate::control::FabricOpenRequest;
use crate::sdk::Error;
use std::marker::PhantomData;
use std::sync::Arc;

/// Most bytes of an address.
const ADDRESS: u32 = 65536;
/// Most scratch of an operation, in bytes: hosts keep it for each operation that there may be.
const SCRATCH: u32 = 65536;

fn check_info(info: &FabricInfo) -> Result<(), String> {
    let fail = |what: &str, value: u64| Err(format!("{what} is {value}"));
    if info.max_message == 0 {
        return fail("max_message", 0);
    }
    if info.max_outstanding == 0 {
        return fail("max_outstanding", 0);
    }
    if !(1..=ADDRESS).contains(&info.max_address) {
        return fail("max_address", info.max_address.into());
    }
    if info.scratch_size > SCRATCH {
        return fail("scratch_size", info.scratch_size.into());
    }
    if info.tag_bits < 48 {
        return fail("tag_bits", info.tag_bits.into());
    }
    Ok(())
}

/// An open fabric domain; clones share it.
#[derive(Clone)]
pub struct FabricDomain {
    inner: Arc<Inner>,
}

struct Inner {
    // Kept so that the plugin outlives its handles.
    instance: Instance,
    table: &'static FabricTable,
    handle: Handle,
    info: FabricInfo,
}

// SAFETY: domain functions may be called from any thread, one at a time; the SDK's domains are
// `Sync` and C plugins are told so by the table's documentation.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the live handle of `open`; endpoints and registrations hold an `Arc` of this.
        self.instance.inside(CallName::Close, || unsafe {
            (self.table.close)(self.handle)
        });
    }
}

impl FabricDomain {
    pub(super) fn open(
        instance: &Instance,
        request: &FabricOpenRequest,
        options: CallOptions<'_>,
    ) -> Result<Self, Error> {
        let table: &'static FabricTable = instance.tables().fabric.ok_or_else(|| {
            Error::new(
                Status::NOT_SUPPORTED,
                format!("plugin {} has no fabric class", instance.manifest().name),
            )
        })?;
        let request = encode(request)?;
        let handle = instance.open(CallName::Open, options, |call, handle| {
            // SAFETY: live handle, call, request and out pointer.
            unsafe { (table.open)(instance.handle(), call, Str::new(&request), handle) }
        })?;
        let mut info = FabricInfo {
            max_message: 0,
            max_rma: 0,
            max_address: 0,
            scratch_size: 0,
            max_endpoints: 0,
            max_outstanding: 0,
            tag_bits: 0,
            numa_node: -1,
            flags: 0,
        };
        // SAFETY: live handle and out pointer.
        let status = instance.inside(CallName::Info, || unsafe {
            (table.info)(handle, &mut info)
        });
        let domain = Self {
            inner: Arc::new(Inner {
                instance: instance.clone(),
                table,
                handle,
                info,
            }),
        };
        if !status.is_ok() {
            return Err(Error::new(
                status,
                "the fabric domain does not say what it is like (call info)",
            ));
        }
        let possible = check_info(domain.info());
        possible.map(|()| domain).map_err(|why| {
            Error::new(
                Status::INTERNAL,
                "the fabric domain describes itself impossibly",
            )
            .cause(why)
            .remedy("report this to the plugin's vendor")
        })
    }

    /// What the domain is like.
    pub fn info(&self) -> &FabricInfo {
        &self.inner.info
    }

    /// The plugin's instance.
    pub fn instance(&self) -> &Instance {
        &self.inner.instance
    }

    /// Registers memory with rights `FABRIC_*`.
    ///
    /// # Safety
    /// The memory stays valid until the registration is dropped; with remote rights, peers may
    /// read or write it at any time until then.
    pub unsafe fn register(
        &self,
        ptr: *mut u8,
        len: usize,
        access: u32,
    ) -> Result<FabricMemory, Error> {
        let mut region = MemoryRegion {
            handle: std::ptr::null_mut(),
            descriptor: 0,
            key: 0,
            base: 0,
        };
        self.inner
            .instance
            .call(CallOptions::default(), CallName::Register, |call| {
                // SAFETY: live handle, call and out pointer; the caller vouches for the memory.
                unsafe {
                    (self.inner.table.register)(
                        self.inner.handle,
                        call,
                        ptr,
                        len,
                        access,
                        &mut region,
                    )
                }
            })?;
        Ok(FabricMemory {
            domain: self.clone(),
            region,
        })
    }

    /// Opens an endpoint on the calling thread.
    pub fn open_endpoint(&self, options: CallOptions<'_>) -> Result<Endpoint, Error> {
        let table = self.inner.table;
        let handle =
            self.inner
                .instance
                .open(CallName::OpenEndpoint, options, |call, handle| {
                    // SAFETY: live handle, call and out pointer.
                    unsafe { (table.open_endpoint)(self.inner.handle, call, handle) }
                })?;
        Ok(Endpoint {
            domain: self.clone(),
            table,
            handle,
            _thread: PhantomData,
        })
    }
}

/// A registration of memory; ends when dropped.
pub struct FabricMemory {
    domain: FabricDomain,
    region: MemoryRegion,
}

// SAFETY: registrations belong to the domain, whose functions may be called from any thread.
unsafe impl Send for FabricMemory {}
// SAFETY: as above.
unsafe impl Sync for FabricMemory {}

impl FabricMemory {
    /// For local operations.
    pub fn descriptor(&self) -> u64 {
        self.region.descriptor
    }

    /// For peers.
    pub fn key(&self) -> u64 {
        self.region.key
    }

    /// Remote address of the first byte.
    pub fn base(&self) -> u64 {
        self.region.base
    }
}

impl Drop for FabricMemory {
    fn drop(&mut self) {
        let inner = &self.domain.inner;
        // SAFETY: the live handles of `open` and `register`.
        inner.instance.inside(CallName::Unregister, || unsafe {
            (inner.table.unregister)(inner.handle, self.region.handle)
        });
    }
}

/// An endpoint, bound to the thread that opened it.
pub struct Endpoint {
    domain: FabricDomain,
    table: &'static FabricTable,
    handle: Handle,
    _thread: PhantomData<*mut ()>, // stays on its thread
}

impl Endpoint {
    #[inline]
    fn inside<R>(&self, call: CallName, f: impl FnOnce() -> R) -> R {
        self.domain.inner.instance.inside(call, f)
    }

    /// The domain.
    pub fn domain(&self) -> &FabricDomain {
        &self.domain
    }

    /// Address for `resolve` elsewhere.
    pub fn address(&self) -> Result<Vec<u8>, Status> {
        let mut bytes: Vec<u8> = Vec::new();
        let sink = Sink {
            ctx: (&raw mut bytes).cast(),
            write: append,
        };
        // SAFETY: live handle; the sink's context lives for the call.
        check(self.inside(CallName::Address, || unsafe {
            (self.table.address)(self.handle, sink)
        }))?;
        Ok(bytes)
    }

    /// Numbers a peer; does not wait for it.
    pub fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        let mut peer = 0;
        // SAFETY: live handle, address and out pointer.
        check(self.inside(CallName::Resolve, || unsafe {
            (self.table.resolve)(self.handle, address.as_ptr(), address.len(), &mut peer)
        }))?;
        Ok(peer)
    }

    /// Forgets a peer.
    pub fn release(&mut self, peer: u64) -> Result<(), Status> {
        // SAFETY: live handle.
        check(self.inside(CallName::Release, || unsafe {
            (self.table.release)(self.handle, peer)
        }))
    }

    /// Hands a prefix of `requests` to the provider and returns its length.
    ///
    /// # Safety
    /// The memory and scratch that accepted requests name stay valid and untouched until their
    /// completion is polled or the endpoint is dropped.
    #[inline]
    pub unsafe fn submit(&mut self, requests: &[FabricRequest]) -> Result<usize, Status> {
        let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        // SAFETY: live handle; the caller vouches for the requests.
        counted(
            self.inside(CallName::Submit, || unsafe {
                (self.table.submit)(self.handle, requests.as_ptr(), count)
            }),
            requests.len(),
        )
    }

    /// Makes progress and stores completions into `out`, returns how many.
    #[inline]
    pub fn poll(&mut self, out: &mut [FabricCompletion]) -> Result<usize, Status> {
        let capacity = u32::try_from(out.len()).unwrap_or(u32::MAX);
        // SAFETY: live handle; `out` is writable for `capacity` records.
        counted(
            self.inside(CallName::Poll, || unsafe {
                (self.table.poll)(self.handle, out.as_mut_ptr(), capacity)
            }),
            out.len(),
        )
    }

    /// Asks to cancel an operation.
    pub fn cancel(&mut self, user: u64) -> Result<(), Status> {
        // SAFETY: live handle.
        check(self.inside(CallName::Cancel, || unsafe {
            (self.table.cancel)(self.handle, user)
        }))
    }

    /// How this thread may sleep.
    pub fn arm_wait(&mut self) -> Result<Wait, Status> {
        let mut wait = Wait::BUSY;
        // SAFETY: live handle and out pointer.
        check(self.inside(CallName::ArmWait, || unsafe {
            (self.table.arm_wait)(self.handle, &mut wait)
        }))?;
        possible(wait)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // SAFETY: the live handle of `open_endpoint`, on its thread.
        self.inside(CallName::CloseEndpoint, || unsafe {
            (self.table.close_endpoint)(self.handle)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_domain_can_be_is_refused_by_name() {
        let good = FabricInfo {
            max_message: 1 << 20,
            max_rma: 1 << 30,
            max_address: 128,
            scratch_size: 192,
            max_endpoints: 8,
            max_outstanding: 64,
            tag_bits: 64,
            numa_node: -1,
            flags: 0,
        };
        assert_eq!(check_info(&good), Ok(()));
        let changed = |change: fn(&mut FabricInfo)| {
            let mut info = good;
            change(&mut info);
            check_info(&info).expect_err("refused")
        };
        assert_eq!(changed(|i| i.max_message = 0), "max_message is 0");
        assert_eq!(changed(|i| i.max_outstanding = 0), "max_outstanding is 0");
        assert_eq!(changed(|i| i.max_address = 0), "max_address is 0");
        assert_eq!(changed(|i| i.tag_bits = 47), "tag_bits is 47");
        // As much for each operation that there may be would be all the memory of a node.
        let huge = changed(|i| i.scratch_size = u32::MAX);
        assert_eq!(huge, "scratch_size is 4294967295");
    }
}
