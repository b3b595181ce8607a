//! Domains: registering memory, making endpoints.
//!
//! # Threads
//! The interface promises that the functions of a domain are called by one thread at a time and that an
//! endpoint, its queue and its address vector belong to one thread. A registration may come and go while
//! endpoints are busy on other threads. `libfabric/threads.rs` has the level that each provider gets.

use super::endpoint::{OfiEndpoint, Parts};
use super::glances::Glances;
use super::leftover;
use super::operation::SCRATCH;
use super::waiting::Patience;
use crate::choose::choose;
use crate::libfabric::{AddressVector, Domain, Endpoint, Errno, Info, Memory, Queue, sys};
use crate::settings::Settings;
use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricInfo, Status,
};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{CallContext, Error, FabricDomain, Registration, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Operations an endpoint keeps outstanding per direction, if the provider has room for them.
const DEPTH: usize = 1024;

/// A domain of a libfabric provider.
pub struct OfiDomain {
    info: Info,
    numa_node: i32,
    domain: Arc<Domain>,
    settings: Settings,
    answers: bool,
    /// First port not yet tried; 0 = any.
    port: AtomicU16,
}

impl OfiDomain {
    /// Opens a domain. INVALID if no provider has that name, NOT_SUPPORTED if libfabric was built
    /// without it, NOT_FOUND if this machine has no hardware for it or not that interface.
    pub fn open(request: &FabricOpenRequest, settings: Settings) -> Result<Self> {
        let choice = choose(&request.provider, &request.interface)?;
        let info = choice.info;
        if info.provider() == "shm" {
            leftover::remove_once();
        }
        let domain = Domain::open(&info).map_err(|errno| {
            errno.error(format!(
                "cannot open a domain of {} on {}",
                info.provider(),
                info.domain_name()
            ))
        })?;
        tracing::info!(
            provider = info.provider(),
            domain = info.domain_name(),
            mr_mode = format_args!("{:#x}", info.domain_attr().mr_mode),
            threading = info.threading(),
            manual_progress = info.has_manual_progress(),
            "opened a domain of libfabric"
        );
        Ok(Self {
            info,
            numa_node: choice.numa_node,
            domain: Arc::new(domain),
            settings,
            answers: request.answers,
            port: AtomicU16::new(request.port),
        })
    }

    /// libfabric's name of the provider in use.
    pub fn provider(&self) -> String {
        self.info.provider()
    }

    /// Opens an endpoint on the thread that will use it.
    pub fn endpoint(&self) -> Result<OfiEndpoint> {
        let failed = |errno: Errno| {
            errno.error(format!(
                "cannot open an endpoint of {}",
                self.info.provider()
            ))
        };
        loop {
            let port = self.port.load(Ordering::Acquire);
            match self.endpoint_at(port) {
                Err(errno) if errno.0 as u32 == sys::FI_EADDRINUSE && port != 0 => {
                    let next = port.checked_add(1).ok_or_else(|| failed(errno))?;
                    self.port.store(next, Ordering::Release);
                }
                result => return result.map_err(failed),
            }
        }
    }

    fn endpoint_at(&self, port: u16) -> Result<OfiEndpoint, Errno> {
        let mut info = self.info.clone();
        if port != 0 {
            info.set_port(port);
        }
        let size = 2 * DEPTH;
        // Some providers have no wait descriptor: the host polls these by the clock.
        let waitable = Queue::open(&self.domain, size, true);
        // ofi_rxd opens such a queue, and has no descriptor even so.
        let (queue, fd) = match waitable.and_then(|queue| Ok((queue.fd()?, queue))) {
            Ok((fd, queue)) => (queue, Some(fd)),
            Err(errno) => {
                tracing::debug!(%errno, provider = self.info.provider(), "no wait descriptor");
                (Queue::open(&self.domain, size, false)?, None)
            }
        };
        let queue = Arc::new(queue);
        let vector = Arc::new(AddressVector::open(&self.domain)?);
        let endpoint = Endpoint::open(&info, queue.clone(), vector.clone())?;
        let provider = self.info.provider();
        let is_shm = provider == "shm";
        let is_layered = provider.ends_with(";ofi_rxm");
        Ok(OfiEndpoint::new(Parts {
            address: endpoint.name()?,
            has_text_addresses: self.info.has_text_addresses(),
            endpoint,
            queue,
            vector,
            fd,
            depth: self.depth(),
            inject: self.inject(),
            // prov/shm/src/smr_util.c: what removing a peer resets is not what adding one looks at, and a message to the
            // next one may crash it. Numbers go round, but for the last one given.
            are_neighbours: is_shm,
            glances: is_layered.then(Glances::of_environment),
            // Other providers say "again" also of a connected peer that does not read.
            patience: match is_layered && self.answers {
                true => Patience::CONNECTED,
                false => Patience::CONNECTING,
            },
            settings: self.settings,
        }))
    }

    /// Up to which length messages are injected: sent without a completion, which saves one of ours its way through
    /// the provider's queue. An injected message that fails later does so without a word, and hosts want to know that
    /// a peer is gone; so only where nothing can fail any more, since the message is in the peer's memory already.
    fn inject(&self) -> Option<usize> {
        (self.info.provider() == "shm").then(|| self.info.inject_size())
    }

    fn depth(&self) -> usize {
        let (transmit, receive) = self.info.queue_sizes();
        DEPTH.min(transmit).min(receive)
    }

    fn random_key(&self) -> Result<u64, Status> {
        if self.info.has_mr_mode(sys::FI_MR_PROV_KEY) {
            return Ok(0);
        }
        let mut bytes = [0u8; 8];
        // SAFETY: at most 8 bytes are stored into an array of 8.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got != 8 {
            return Err(Status::IO);
        }
        let size = self.info.domain_attr().mr_key_size.min(8);
        bytes[size..].fill(0);
        Ok(u64::from_le_bytes(bytes))
    }
}

impl FabricDomain for OfiDomain {
    type Endpoint = OfiEndpoint;
    type Region = OfiRegion;

    fn info(&self) -> FabricInfo {
        let (domain, ep) = (self.info.domain_attr(), self.info.ep_attr());
        let mut flags = 0;
        if self.info.has_mr_mode(sys::FI_MR_LOCAL) {
            flags |= FabricInfo::LOCAL_REGISTRATION;
        }
        if self.info.has_manual_progress() {
            flags |= FabricInfo::MANUAL_PROGRESS;
        }
        // shm reads and writes the peer's memory without a look at keys and ranges; of the others
        // only sockets has an answer for "refused", the rest break the connection.
        match self.info.provider().as_str() {
            "shm" => {}
            "sockets" => flags |= FabricInfo::CHECKS_ACCESS | FabricInfo::REPORTS_ACCESS,
            _ => flags |= FabricInfo::CHECKS_ACCESS,
        }
        FabricInfo {
            max_message: ep.max_msg_size as u64,
            max_rma: ep.max_msg_size as u64,
            max_address: 256,
            scratch_size: SCRATCH as u32,
            max_endpoints: domain.ep_cnt.min(1 << 16) as u32,
            max_outstanding: self.depth() as u32,
            // The highest bit of the format says how many bits there are.
            tag_bits: 64 - ep.mem_tag_format.leading_zeros(),
            numa_node: self.numa_node,
            flags,
        }
    }

    unsafe fn register(
        &self,
        ptr: *mut u8,
        len: usize,
        access: u32,
    ) -> Result<Registration<OfiRegion>> {
        let rights = [
            (
                FABRIC_LOCAL,
                sys::FI_SEND | sys::FI_RECV | sys::FI_READ | sys::FI_WRITE,
            ),
            (FABRIC_REMOTE_READ, sys::FI_REMOTE_READ),
            (FABRIC_REMOTE_WRITE, sys::FI_REMOTE_WRITE),
        ];
        let wanted = rights
            .iter()
            .filter(|(right, _)| access & right != 0)
            .fold(0, |all, (_, flags)| all | u64::from(*flags));
        if ptr.is_null() || len == 0 || wanted == 0 {
            return Err(Error::new(Status::INVALID, "no memory, or no rights"));
        }
        let key = self.random_key()?;
        // SAFETY: the host keeps the memory valid until the registration is dropped.
        let memory = unsafe {
            if self.info.has_mr_mode(sys::FI_MR_ALLOCATED) {
                Memory::populate(ptr, len);
            }
            Memory::register(&self.domain, ptr, len, wanted, key)
        }
        .map_err(|errno| self.not_registered(len, errno))?;
        Ok(Registration {
            descriptor: memory.descriptor(),
            key: memory.key(),
            base: if self.info.has_mr_mode(sys::FI_MR_VIRT_ADDR) {
                ptr as u64
            } else {
                0
            },
            region: OfiRegion { _memory: memory },
        })
    }

    fn open_endpoint(&self, _call: CallContext<'_>) -> Result<OfiEndpoint> {
        self.endpoint()
    }
}

impl OfiDomain {
    fn not_registered(&self, len: usize, errno: Errno) -> Error {
        let what = format!("cannot register {len} bytes with {}", self.info.provider());
        let error = errno.error(what);
        if error.status != Status::NO_MEMORY {
            return error;
        }
        error.remedy("raise the limit of locked memory: `ulimit -l`, LimitMEMLOCK= in the unit")
    }
}

/// A registration; ends when dropped.
pub struct OfiRegion {
    _memory: Memory,
}
