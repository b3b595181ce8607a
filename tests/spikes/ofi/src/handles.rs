//! Owners of libfabric objects: each closes its object when dropped, and keeps alive what it
//! was made from.

use crate::status::Errno;
use crate::sys;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

macro_rules! owner {
    ($(#[$doc:meta])* $name:ident($type:ty, $close:path) { $($field:ident: $of:ty),* $(,)? }) => {
        $(#[$doc])*
        pub(crate) struct $name {
            raw: *mut $type,
            $(#[allow(dead_code)] $field: $of,)*
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: `raw` came from the matching open call and is closed once.
                let result = unsafe { $close(self.raw) };
                if let Err(errno) = Errno::check(result as isize) {
                    tracing::error!(%errno, concat!("cannot close ", stringify!($name)));
                }
            }
        }

        // SAFETY: libfabric objects of a domain opened with FI_THREAD_SAFE may be used from any
        // thread.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}
    };
}

/// The parameters of a provider on an interface.
pub(crate) struct Info(*mut sys::fi_info);

// SAFETY: plain data, changed only through `&mut`.
unsafe impl Send for Info {}
// SAFETY: as above.
unsafe impl Sync for Info {}

impl Drop for Info {
    fn drop(&mut self) {
        // SAFETY: allocated by libfabric, freed once.
        unsafe { sys::fi_freeinfo(self.0) }
    }
}

impl Clone for Info {
    fn clone(&self) -> Self {
        // SAFETY: `self.0` is a valid list of one or more; the copy has one.
        Self(unsafe { sys::fi_dupinfo(self.0) })
    }
}

/// Modes of memory registration that this plugin can live with.
const MR_MODES: u32 =
    sys::FI_MR_LOCAL | sys::FI_MR_VIRT_ADDR | sys::FI_MR_ALLOCATED | sys::FI_MR_PROV_KEY;

impl Info {
    /// Asks for an RDM endpoint with tagged messages and remote memory access of `provider`, at
    /// the IP address `source` of this machine, or wherever the provider likes.
    pub(crate) fn get(provider: &CStr, source: Option<&CStr>) -> Result<Self, Errno> {
        // SAFETY: fi_allocinfo returns a zeroed structure with all attributes, or null; strings
        // in it are freed with it, hence the strdup. fi_getinfo reads `hints` and `node` during
        // the call and returns a list of its own.
        unsafe {
            let hints = Self(sys::shim_allocinfo());
            let Some(info) = hints.0.as_mut() else {
                return Err(Errno(libc::ENOMEM));
            };
            info.caps = u64::from(sys::FI_TAGGED | sys::FI_RMA);
            info.mode = sys::FI_CONTEXT | sys::FI_CONTEXT2;
            (*info.ep_attr).type_ = sys::fi_ep_type_FI_EP_RDM;
            (*info.domain_attr).mr_mode = MR_MODES as i32;
            (*info.domain_attr).threading = sys::fi_threading_FI_THREAD_SAFE;
            // Messages between two endpoints arrive in the order sent.
            (*info.tx_attr).msg_order = u64::from(sys::FI_ORDER_SAS);
            (*info.rx_attr).msg_order = u64::from(sys::FI_ORDER_SAS);
            (*info.fabric_attr).prov_name = libc::strdup(provider.as_ptr());
            let mut node = std::ptr::null();
            let mut flags = 0;
            if let Some(ip) = source {
                node = ip.as_ptr();
                flags = sys::FI_SOURCE;
            }
            let mut found = null_mut();
            let version = sys::FI_MAJOR_VERSION << 16 | sys::FI_MINOR_VERSION;
            let result =
                sys::fi_getinfo(version, node, std::ptr::null(), flags, hints.0, &mut found);
            Errno::check(result as isize)?;
            Ok(Self(found))
        }
    }

    /// The provider's own name, layers included.
    pub(crate) fn provider(&self) -> String {
        // SAFETY: fi_getinfo fills in the name.
        let name = unsafe { CStr::from_ptr((*self.raw().fabric_attr).prov_name) };
        name.to_string_lossy().into_owned()
    }

    pub(crate) fn raw(&self) -> &sys::fi_info {
        // SAFETY: never null, see `get` and `clone`.
        unsafe { &*self.0 }
    }

    pub(crate) fn domain_attr(&self) -> &sys::fi_domain_attr {
        // SAFETY: fi_getinfo fills in all attributes.
        unsafe { &*self.raw().domain_attr }
    }

    pub(crate) fn ep_attr(&self) -> &sys::fi_ep_attr {
        // SAFETY: as above.
        unsafe { &*self.raw().ep_attr }
    }

    /// Room of the transmit and of the receive queue.
    pub(crate) fn queue_sizes(&self) -> (usize, usize) {
        // SAFETY: as above.
        unsafe { ((*self.raw().tx_attr).size, (*self.raw().rx_attr).size) }
    }

    /// Writes a port into the source address; `false` if the address has no port.
    pub(crate) fn set_port(&mut self, port: u16) -> bool {
        let info = self.raw();
        let is_ip = [sys::FI_SOCKADDR_IN, sys::FI_SOCKADDR_IN6, sys::FI_SOCKADDR]
            .contains(&info.addr_format);
        if !is_ip || info.src_addr.is_null() || info.src_addrlen < 4 {
            return false;
        }
        // SAFETY: the address belongs to this structure, has at least 4 bytes, and in both
        // sockaddr_in and sockaddr_in6 bytes 2 and 3 are the port, big endian.
        unsafe {
            let bytes = info.src_addr.cast::<u8>();
            bytes
                .add(2)
                .cast::<[u8; 2]>()
                .write_unaligned(port.to_be_bytes());
        }
        true
    }
}

owner!(
    /// A provider's network.
    Fabric(sys::fid_fabric, sys::shim_close_fabric) {});
owner!(
    /// An interface of it.
    Domain(sys::fid_domain, sys::shim_close_domain) { fabric: Fabric });
owner!(
    /// A table of peers.
    AddressVector(sys::fid_av, sys::shim_close_av) { domain: Arc<Domain> });
owner!(
    /// A completion queue.
    Queue(sys::fid_cq, sys::shim_close_cq) { domain: Arc<Domain> });
owner!(
    /// A memory registration.
    Memory(sys::fid_mr, sys::shim_close_mr) { domain: Arc<Domain> });
owner!(
    /// An endpoint; closed before the queue and the table it is bound to.
    Endpoint(sys::fid_ep, sys::shim_close_ep) { queue: Arc<Queue>, vector: Arc<AddressVector> });

/// Runs an open call that stores the object it makes.
fn open<T>(call: impl FnOnce(&mut *mut T) -> i32) -> Result<*mut T, Errno> {
    let mut raw = null_mut();
    Errno::check(call(&mut raw) as isize)?;
    Ok(raw)
}

impl Domain {
    pub(crate) fn open(info: &Info) -> Result<Self, Errno> {
        // SAFETY: `info` came from fi_getinfo; so below for all objects: they are open as long
        // as their owner exists, and owners keep what they depend on.
        let raw = open(|raw| unsafe { sys::shim_fabric(info.0, raw) })?;
        let fabric = Fabric { raw };
        // SAFETY: as above.
        let raw = open(|raw| unsafe { sys::shim_domain(fabric.raw, info.0, raw) })?;
        Ok(Self { raw, fabric })
    }
}

impl AddressVector {
    pub(crate) fn open(domain: &Arc<Domain>) -> Result<Self, Errno> {
        // SAFETY: see `Domain::open`.
        let raw = open(|raw| unsafe { sys::shim_av_open(domain.raw, raw) })?;
        let domain = domain.clone();
        Ok(Self { raw, domain })
    }

    /// # Safety
    /// `address` is one of the provider's own addresses, in full length.
    pub(crate) unsafe fn insert(&self, address: &[u8]) -> Result<sys::fi_addr_t, Errno> {
        let mut peer = 0;
        // SAFETY: see `Domain::open`, and the caller for the address.
        let result = unsafe { sys::shim_av_insert(self.raw, address.as_ptr().cast(), &mut peer) };
        match Errno::check(result as isize)? {
            1 => Ok(peer),
            _ => Err(Errno(libc::EHOSTUNREACH)),
        }
    }

    pub(crate) fn remove(&self, peer: sys::fi_addr_t) -> Result<(), Errno> {
        // SAFETY: see `Domain::open`.
        Errno::check(unsafe { sys::shim_av_remove(self.raw, peer) } as isize).map(drop)
    }
}

/// A successful completion, or one of a failed operation.
pub(crate) struct Outcome {
    pub(crate) context: *mut c_void,
    pub(crate) tag: u64,
    pub(crate) len: usize,
    pub(crate) errno: Option<Errno>,
}

impl Queue {
    pub(crate) fn open(domain: &Arc<Domain>, size: usize, with_fd: bool) -> Result<Self, Errno> {
        // SAFETY: see `Domain::open`.
        let raw = open(|raw| unsafe { sys::shim_cq_open(domain.raw, size, with_fd.into(), raw) })?;
        let domain = domain.clone();
        Ok(Self { raw, domain })
    }

    /// Its wait descriptor.
    pub(crate) fn fd(&self) -> Result<i32, Errno> {
        let mut fd = -1;
        // SAFETY: see `Domain::open`; FI_GETWAIT of a queue with FI_WAIT_FD stores an int.
        Errno::check(unsafe { sys::shim_cq_fd(self.raw, &mut fd) } as isize)?;
        Ok(fd)
    }

    /// Whether one may sleep on the descriptor now.
    pub(crate) fn try_wait(&self) -> Result<(), Errno> {
        let fabric = self.domain.fabric.raw;
        // SAFETY: see `Domain::open`.
        Errno::check(unsafe { sys::shim_trywait(fabric, self.raw) } as isize).map(drop)
    }

    /// Makes progress; hands up to `limit` completions to `each` and returns how many.
    pub(crate) fn read(&self, limit: usize, mut each: impl FnMut(Outcome)) -> Result<usize, Errno> {
        let mut entries = [sys::fi_cq_tagged_entry::default(); 16];
        let count = limit.min(entries.len());
        // SAFETY: see `Domain::open`; at most `count` entries of the queue's format are stored.
        let result = unsafe { sys::shim_cq_read(self.raw, entries.as_mut_ptr(), count) };
        match Errno::check(result) {
            Ok(count) => {
                for entry in &entries[..count] {
                    each(Outcome {
                        context: entry.op_context,
                        tag: entry.tag,
                        len: entry.len,
                        errno: None,
                    });
                }
                Ok(count)
            }
            Err(Errno::AGAIN) => Ok(0),
            Err(Errno(errno)) if errno as u32 == sys::FI_EAVAIL => {
                let mut entry = sys::fi_cq_err_entry::default();
                // SAFETY: as above; without an err_data buffer the provider keeps its own.
                let result = unsafe { sys::shim_cq_readerr(self.raw, &mut entry) };
                match Errno::check(result) {
                    Ok(0) | Err(Errno::AGAIN) => Ok(0),
                    Ok(_) => {
                        each(Outcome {
                            context: entry.op_context,
                            tag: entry.tag,
                            len: entry.len,
                            errno: Some(Errno(entry.err)),
                        });
                        Ok(1)
                    }
                    Err(errno) => Err(errno),
                }
            }
            Err(errno) => Err(errno),
        }
    }
}

impl Memory {
    /// # Safety
    /// The memory stays valid until the registration is dropped.
    pub(crate) unsafe fn register(
        domain: &Arc<Domain>,
        ptr: *mut u8,
        len: usize,
        access: u64,
        key: u64,
    ) -> Result<Self, Errno> {
        // SAFETY: see `Domain::open`, and the caller for the memory.
        let raw =
            open(|raw| unsafe { sys::shim_mr_reg(domain.raw, ptr.cast(), len, access, key, raw) })?;
        let domain = domain.clone();
        Ok(Self { raw, domain })
    }

    pub(crate) fn key(&self) -> u64 {
        // SAFETY: see `Domain::open`.
        unsafe { sys::shim_mr_key(self.raw) }
    }

    pub(crate) fn descriptor(&self) -> u64 {
        // SAFETY: see `Domain::open`.
        unsafe { sys::shim_mr_desc(self.raw) as u64 }
    }
}

impl Endpoint {
    /// Opens an endpoint and enables it.
    pub(crate) fn open(
        info: &Info,
        queue: Arc<Queue>,
        vector: Arc<AddressVector>,
    ) -> Result<Self, Errno> {
        let domain = queue.domain.clone();
        // SAFETY: see `Domain::open`.
        let raw = open(|raw| unsafe { sys::shim_endpoint(domain.raw, info.0, raw) })?;
        let endpoint = Self { raw, queue, vector };
        // SAFETY: as above; the endpoint keeps what is bound to it.
        unsafe {
            Errno::check(sys::shim_ep_bind_cq(raw, endpoint.queue.raw) as isize)?;
            Errno::check(sys::shim_ep_bind_av(raw, endpoint.vector.raw) as isize)?;
            Errno::check(sys::shim_enable(raw) as isize)?;
        }
        Ok(endpoint)
    }

    /// Its address, as `AddressVector::insert` takes it.
    pub(crate) fn name(&self) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0u8; 512];
        let mut len = bytes.len();
        // SAFETY: see `Domain::open`; at most `len` bytes are stored.
        let result = unsafe { sys::shim_getname(self.raw, bytes.as_mut_ptr().cast(), &mut len) };
        Errno::check(result as isize)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// The object itself, for the calls of the data path.
    pub(crate) fn raw(&self) -> *mut sys::fid_ep {
        self.raw
    }
}
