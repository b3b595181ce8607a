//! Owners of libfabric objects: each closes its object when dropped, and keeps alive what it
//! was made from.

use super::errno::Errno;
use super::info::Info;
use super::sys;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

macro_rules! owner {
    ($(#[$doc:meta])* $name:ident($type:ty, $close:path) { $($field:ident: $of:ty),* $(,)? }) => {
        $(#[$doc])*
        pub(crate) struct $name {
            raw: *mut $type,
            $(#[allow(dead_code, reason = "keeps alive what this was made from")] $field: $of,)*
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

        // SAFETY: no object is bound to a thread. Those of the data path are used through the one
        // endpoint that owns them, by one thread at a time; what domains are asked for is safe beside it
        // (see `threads`).
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}
    };
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
        let raw = open(|raw| unsafe { sys::shim_fabric(info.as_ptr(), raw) })?;
        let fabric = Fabric { raw };
        // SAFETY: as above.
        let raw = open(|raw| unsafe { sys::shim_domain(fabric.raw, info.as_ptr(), raw) })?;
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

/// Completions taken from a queue at once.
pub(crate) const BATCH: usize = 16;

/// Room for what is read from a queue: kept, since clearing it for each poll costs more than an empty poll.
pub(crate) type Entries = Box<[sys::fi_cq_tagged_entry; BATCH]>;

/// A failed operation.
pub(crate) struct Outcome {
    pub(crate) context: *mut c_void,
    pub(crate) tag: u64,
    pub(crate) len: usize,
    pub(crate) failure: Failure,
}

/// A failure in libfabric's terms and in the provider's.
pub(crate) struct Failure {
    pub(crate) errno: Errno,
    /// The provider's own words; empty if it has none.
    pub(crate) words: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.errno, f)?;
        match self.words.as_str() {
            "" => Ok(()),
            words => write!(f, ", the provider says: {words}"),
        }
    }
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

    /// Makes progress; stores up to `limit` successful completions at the front of `entries`, and returns how many. An operation that
    /// has failed is [`Errno::AVAILABLE`]: [`Queue::failure`] tells which.
    #[inline]
    pub(crate) fn read(&self, entries: &mut Entries, limit: usize) -> Result<usize, Errno> {
        let limit = limit.min(BATCH);
        // SAFETY: see `Domain::open`; at most `limit` entries of the queue's format are stored.
        let result = unsafe { sys::shim_cq_read(self.raw, entries.as_mut_ptr(), limit) };
        match Errno::check(result) {
            Err(Errno::AGAIN) => Ok(0),
            result => result,
        }
    }

    /// The operation that has failed; `None` if there is none after all.
    #[cold]
    pub(crate) fn failure(&self) -> Result<Option<Outcome>, Errno> {
        let mut entry = sys::fi_cq_err_entry::default();
        // SAFETY: see `Domain::open`; without an err_data buffer the provider keeps its own.
        let result = unsafe { sys::shim_cq_readerr(self.raw, &mut entry) };
        match Errno::check(result) {
            Ok(0) | Err(Errno::AGAIN) => Ok(None),
            Ok(_) => Ok(Some(Outcome {
                context: entry.op_context,
                tag: entry.tag,
                len: entry.len,
                failure: Failure {
                    errno: Errno(entry.err),
                    words: self.words(&entry),
                },
            })),
            Err(errno) => Err(errno),
        }
    }
}

impl Queue {
    /// What the provider says about a failure.
    fn words(&self, entry: &sys::fi_cq_err_entry) -> String {
        let mut room: [c_char; 256] = [0; 256];
        // SAFETY: see `Domain::open`; `entry` is what this queue just stored; the answer is null, a
        // static text, or lies in `room`, whose last byte stays zero.
        let text = unsafe {
            let text = sys::shim_cq_strerror(self.raw, entry, room.as_mut_ptr(), room.len() - 1);
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text)
        };
        text.to_string_lossy().trim().to_owned()
    }
}

impl Memory {
    /// Has the kernel give the memory its pages, contents unchanged, as `FI_MR_ALLOCATED` wants it.
    ///
    /// # Safety
    /// The memory is valid.
    pub(crate) unsafe fn populate(ptr: *mut u8, len: usize) {
        // SAFETY: no arguments that matter.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let start = ptr as usize / page * page;
        let end = (ptr as usize + len).next_multiple_of(page);
        // SAFETY: whole pages of valid memory. Kernels before 5.14 do not know this advice; there
        // the pages come with the first access.
        unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_POPULATE_WRITE) };
    }

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
        let raw = open(|raw| unsafe { sys::shim_endpoint(domain.raw, info.as_ptr(), raw) })?;
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
