//! What all endpoints share: who there is, what waits where, which memory peers may reach. One lock
//! guards it, which a real fabric has no need for: its network is the other side.

use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest, Status};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of an address.
pub(crate) const ADDRESS: usize = 16;
const MAGIC: &[u8; 8] = b"inmemory";

/// The network behind its lock.
#[derive(Default)]
pub(crate) struct Shared(Mutex<Network>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(crate) struct Network {
    last_endpoint: u64,
    pub(crate) last_key: u64,
    pub(crate) endpoints: HashMap<u64, Station>,
    pub(crate) regions: HashMap<u64, Region>,
}

/// Registered memory.
pub(crate) struct Region {
    pub(crate) ptr: *mut u8,
    pub(crate) len: usize,
    pub(crate) access: u32,
}

// SAFETY: memory has no thread; it is only touched under the network's lock.
unsafe impl Send for Region {}

/// Memory that was offered for a message.
struct Receive {
    request: FabricRequest,
}

// SAFETY: as above.
unsafe impl Send for Receive {}

/// An endpoint as the others see it.
pub(crate) struct Station {
    pub(crate) done: VecDeque<FabricCompletion>,
    receives: Vec<Receive>,
    /// Messages that met no receive: tag, bytes. A real fabric bounds what it keeps of each peer.
    unexpected: VecDeque<(u64, Vec<u8>)>,
    /// Becomes readable with each completion.
    wake: OwnedFd,
}

/// The address of an endpoint.
pub(crate) fn address(endpoint: u64) -> Vec<u8> {
    [&MAGIC[..], &endpoint.to_le_bytes()].concat()
}

/// The endpoint of an address.
pub(crate) fn endpoint_of(address: &[u8]) -> Option<u64> {
    let number = address.strip_prefix(MAGIC)?;
    Some(u64::from_le_bytes(number.try_into().ok()?))
}

impl Network {
    pub(crate) fn add(&mut self) -> std::io::Result<u64> {
        // SAFETY: a plain system call.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        self.last_endpoint += 1;
        let station = Station {
            done: VecDeque::new(),
            receives: Vec::new(),
            unexpected: VecDeque::new(),
            // SAFETY: a new descriptor that is ours.
            wake: unsafe { OwnedFd::from_raw_fd(fd) },
        };
        self.endpoints.insert(self.last_endpoint, station);
        Ok(self.last_endpoint)
    }

    /// Delivers a message.
    ///
    /// # Safety
    /// The request's memory is valid.
    pub(crate) unsafe fn send(&mut self, to: u64, request: &FabricRequest) -> Status {
        let Some(station) = self.endpoints.get_mut(&to) else {
            return Status::UNREACHABLE;
        };
        // SAFETY: the sender's memory, valid by the contract; nothing to read if there is none.
        let data = unsafe { bytes(request.ptr, request.len) };
        let fits = |r: &Receive| (r.request.tag ^ request.tag) & !r.request.ignore == 0;
        match station.receives.iter().position(fits) {
            Some(at) => {
                let receive = station.receives.remove(at);
                station.deliver(&receive, request.tag, data);
            }
            None => station.unexpected.push_back((request.tag, data.to_vec())),
        }
        Status::OK
    }

    /// Reads or writes registered memory.
    ///
    /// # Safety
    /// The request's memory is valid, and so is what is registered.
    pub(crate) unsafe fn access(&mut self, to: u64, right: u32, request: &FabricRequest) -> Status {
        if !self.endpoints.contains_key(&to) {
            return Status::UNREACHABLE;
        }
        let Some(region) = self.regions.get(&request.remote_key) else {
            return Status::ACCESS;
        };
        let end = request.remote_addr.checked_add(request.len as u64);
        if region.access & right == 0 || end.is_none_or(|end| end > region.len as u64) {
            return Status::ACCESS;
        }
        // SAFETY: inside the registration, which lives as long as its entry; both may overlap.
        unsafe {
            let there = region.ptr.add(request.remote_addr as usize);
            match request.op {
                FabricOp::READ => std::ptr::copy(there, request.ptr, request.len),
                _ => std::ptr::copy(request.ptr, there, request.len),
            }
        }
        Status::OK
    }
}

/// # Safety
/// `len` readable bytes at `ptr`, unless there are none.
unsafe fn bytes<'a>(ptr: *const u8, len: usize) -> &'a [u8] {
    match len {
        0 => &[],
        // SAFETY: the caller vouches for it.
        _ => unsafe { std::slice::from_raw_parts(ptr, len) },
    }
}

impl Station {
    /// Offers memory for a message; one that waits already is taken at once.
    pub(crate) fn receive(&mut self, request: &FabricRequest) {
        let fits = |(tag, _): &(u64, Vec<u8>)| (tag ^ request.tag) & !request.ignore == 0;
        let receive = Receive { request: *request };
        let waiting = self.unexpected.iter().position(fits);
        match waiting.and_then(|at| self.unexpected.remove(at)) {
            Some((tag, data)) => self.deliver(&receive, tag, &data),
            None => self.receives.push(receive),
        }
    }

    /// Takes an offer back.
    pub(crate) fn cancel(&mut self, user: u64) -> Result<(), Status> {
        let position = self.receives.iter().position(|r| r.request.user == user);
        let at = position.ok_or(Status::NOT_FOUND)?;
        let receive = self.receives.remove(at);
        self.complete(&receive.request, 0, 0, Status::CANCELLED);
        Ok(())
    }

    fn deliver(&mut self, receive: &Receive, tag: u64, data: &[u8]) {
        let request = &receive.request;
        let len = data.len().min(request.len);
        if len > 0 {
            // SAFETY: the receiver's memory, valid until this completion is polled or its endpoint is
            // closed, which takes the lock.
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), request.ptr, len) };
        }
        let status = match len == data.len() {
            true => Status::OK,
            false => Status::TRUNCATED,
        };
        self.complete(request, tag, len as u64, status);
    }

    pub(crate) fn complete(&mut self, request: &FabricRequest, tag: u64, len: u64, status: Status) {
        self.done.push_back(FabricCompletion {
            user: request.user,
            tag,
            len,
            status,
            op: request.op,
            reserved: [0; 3],
        });
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes to an open descriptor; it is full only if nobody ever looked.
        unsafe { libc::write(self.wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// The descriptor that the next completion makes readable; `None` if one is there already.
    pub(crate) fn quiet(&self) -> Option<i32> {
        if !self.done.is_empty() {
            return None;
        }
        let mut count = [0u8; 8];
        // SAFETY: eight bytes from an open descriptor that does not block.
        unsafe {
            libc::read(
                self.wake.as_raw_fd(),
                count.as_mut_ptr().cast(),
                count.len(),
            )
        };
        Some(self.wake.as_raw_fd())
    }
}
