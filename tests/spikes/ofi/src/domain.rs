//! Domains: choosing a provider, registering memory, making endpoints.

use crate::endpoint::OfiEndpoint;
use crate::handles::{AddressVector, Domain, Endpoint, Info, Memory, Queue};
use crate::operation::SCRATCH;
use crate::status::Errno;
use crate::sys;
use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricInfo, Status,
};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{CallContext, Error, FabricDomain, Registration, Result};
use std::ffi::CString;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Operations an endpoint keeps outstanding per direction, if the provider has room for them.
const DEPTH: usize = 1024;

/// libfabric's name of a provider that the config calls `name`.
fn provider_of(name: &str) -> &str {
    match name.strip_prefix("ofi+").unwrap_or(name) {
        "tcp" => "tcp;ofi_rxm",
        "verbs" => "verbs;ofi_rxm",
        other => other,
    }
}

/// The first address of an interface; libfabric itself takes any interface name for granted.
fn address_of(interface: &str) -> Result<Option<IpAddr>> {
    if interface.is_empty() {
        return Ok(None);
    }
    if let Ok(ip) = interface.parse() {
        return Ok(Some(ip));
    }
    let all = nix::ifaddrs::getifaddrs()
        .map_err(|errno| Error::io("cannot list the network interfaces", errno))?;
    let addresses: Vec<IpAddr> = all
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
        })
        .collect();
    match addresses
        .iter()
        .find(|ip| ip.is_ipv4())
        .or(addresses.first())
    {
        Some(ip) => Ok(Some(*ip)),
        None => {
            let what = format!("no network interface {interface:?} with an IP address");
            Err(Error::new(Status::NOT_FOUND, what).remedy("see `ip address` for what there is"))
        }
    }
}

/// A domain of a libfabric provider.
pub struct OfiDomain {
    info: Info,
    domain: Arc<Domain>,
    /// First port not yet tried; 0 = any.
    port: AtomicU16,
}

impl OfiDomain {
    /// Opens a domain. NOT_FOUND if libfabric has no such provider here.
    pub fn open(request: &FabricOpenRequest) -> Result<Self> {
        let provider = provider_of(&request.provider);
        let text = |text: &str| {
            CString::new(text).map_err(|_| Error::new(Status::INVALID, "a name has a zero byte"))
        };
        let name = text(provider)?;
        let source = match address_of(&request.interface)? {
            Some(ip) if provider != "shm" => Some(text(&ip.to_string())?),
            _ => None, // shared memory knows no addresses
        };
        let info = Info::get(&name, source.as_deref()).map_err(|errno| {
            let mut error = errno.error(format!(
                "libfabric offers no RDM endpoint of provider {provider:?} on interface {:?}",
                request.interface
            ));
            error.status = Status::NOT_FOUND;
            error.remedy("see `fi_info -l` for providers and `fi_info` for interfaces")
        })?;
        let domain = Domain::open(&info)
            .map_err(|errno| errno.error(format!("cannot open a domain of {provider}")))?;
        Ok(Self {
            info,
            domain: Arc::new(domain),
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
        let (queue, fd) = match Queue::open(&self.domain, size, true) {
            Ok(queue) => {
                let fd = queue.fd()?;
                (queue, Some(fd))
            }
            Err(errno) => {
                tracing::debug!(%errno, provider = self.info.provider(), "no wait descriptor");
                (Queue::open(&self.domain, size, false)?, None)
            }
        };
        let queue = Arc::new(queue);
        let vector = Arc::new(AddressVector::open(&self.domain)?);
        let endpoint = Endpoint::open(&info, queue.clone(), vector.clone())?;
        let address = endpoint.name()?;
        let depth = self.depth();
        Ok(OfiEndpoint::new(
            endpoint, queue, vector, fd, address, depth,
        ))
    }

    fn depth(&self) -> usize {
        let (transmit, receive) = self.info.queue_sizes();
        DEPTH.min(transmit).min(receive)
    }

    fn has_mr_mode(&self, mode: u32) -> bool {
        self.info.domain_attr().mr_mode as u32 & mode != 0
    }

    fn random_key(&self) -> Result<u64, Status> {
        if self.has_mr_mode(sys::FI_MR_PROV_KEY) {
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
        if self.has_mr_mode(sys::FI_MR_LOCAL) {
            flags |= FabricInfo::LOCAL_REGISTRATION;
        }
        if domain.data_progress != sys::fi_progress_FI_PROGRESS_AUTO {
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
            numa_node: -1,
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
        let memory = unsafe { Memory::register(&self.domain, ptr, len, wanted, key) }
            .map_err(Errno::status)?;
        Ok(Registration {
            descriptor: memory.descriptor(),
            key: memory.key(),
            base: if self.has_mr_mode(sys::FI_MR_VIRT_ADDR) {
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

/// A registration; ends when dropped.
pub struct OfiRegion {
    _memory: Memory,
}
