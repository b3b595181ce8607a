//! A domain: one interface, its registrations, and the making of endpoints.

use super::address::{EndpointAddress, MAX_ADDRESS};
use super::endpoint::{MAX_OUTSTANDING, TcpEndpoint};
use super::frame::{MAX_MESSAGE, MAX_RMA};
use super::memory::{Span, random_u64};
use super::progress::LISTENER;
use super::region::{Regions, Registered};
use super::socket;
use crate::manifest::PROVIDER;
use crate::settings::Settings;
use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricInfo, Status,
};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{CallContext, Error, FabricDomain, Registration, Result};
use fabric_interfaces as interfaces;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most endpoints of a domain.
const MAX_ENDPOINTS: usize = 1024;

/// What the endpoints of a domain share.
pub(super) struct Shared {
    pub(super) regions: Arc<Regions>,
    pub(super) limits: Settings,
    ip: IpAddr,
    port: u16,
    numa_node: i32,
    endpoints: AtomicUsize,
}

impl Shared {
    pub(super) fn endpoint_closed(&self) {
        self.endpoints.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An open domain.
pub struct TcpDomain {
    shared: Arc<Shared>,
}

impl TcpDomain {
    /// Opens a domain on the interface or address that the request names. Fails with NOT_FOUND
    /// if this machine has none of that name or the provider is not one of this plugin's, with
    /// INVALID for settings out of range.
    pub fn open(request: &FabricOpenRequest, settings: Settings) -> Result<Self> {
        if request.provider != PROVIDER {
            let what = format!("plugin fabric-tcp has no provider {:?}", request.provider);
            let remedy = format!("set provider to {PROVIDER}; libfabric's are written ofi+...");
            return Err(Error::new(Status::NOT_FOUND, what).remedy(remedy));
        }
        let choice = interfaces::choose(&request.interface)?;
        Ok(Self {
            shared: Arc::new(Shared {
                regions: Arc::default(),
                limits: settings.checked()?,
                ip: choice.ip,
                port: request.port,
                numa_node: choice.numa_node,
                endpoints: AtomicUsize::new(0),
            }),
        })
    }

    /// Opens an endpoint on the thread that will use it. It listens on a port of its own, and
    /// has an address that no endpoint had before it.
    pub fn endpoint(&self) -> Result<TcpEndpoint> {
        let shared = &self.shared;
        let reserved =
            shared
                .endpoints
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                    (count < MAX_ENDPOINTS).then_some(count + 1)
                });
        if reserved.is_err() {
            let what = format!("a domain has at most {MAX_ENDPOINTS} endpoints");
            return Err(Error::new(Status::NO_SPACE, what).remedy("use fewer targets"));
        }
        self.listening_endpoint()
            .inspect_err(|_| shared.endpoint_closed())
    }

    fn listening_endpoint(&self) -> Result<TcpEndpoint> {
        let shared = &self.shared;
        let listener = socket::listen_from(shared.ip, shared.port).map_err(|error| {
            let place = match shared.port {
                0 => format!("{}, any port", shared.ip),
                port => format!("{}, ports {port} and up", shared.ip),
            };
            Error::io(format!("cannot listen on {place}"), error)
                .remedy("free a port or set another fabric_iface_port")
        })?;
        let failed = |error: std::io::Error| Error::io("cannot open an endpoint", error);
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| failed(error.into()))?;
        epoll
            .add(
                listener.as_fd(),
                EpollEvent::new(EpollFlags::EPOLLIN, LISTENER),
            )
            .map_err(|error| failed(error.into()))?;
        let address = EndpointAddress {
            socket: listener.local_addr().map_err(failed)?,
            incarnation: random_u64().map_err(failed)?,
        };
        Ok(TcpEndpoint::new(shared.clone(), epoll, listener, address))
    }
}

impl FabricDomain for TcpDomain {
    type Endpoint = TcpEndpoint;
    type Region = Registered;

    fn info(&self) -> FabricInfo {
        FabricInfo {
            max_message: MAX_MESSAGE,
            max_rma: MAX_RMA,
            max_address: MAX_ADDRESS as u32,
            scratch_size: 0,
            max_endpoints: MAX_ENDPOINTS as u32,
            max_outstanding: MAX_OUTSTANDING as u32,
            tag_bits: 64,
            numa_node: self.shared.numa_node,
            flags: FabricInfo::MANUAL_PROGRESS
                | FabricInfo::CHECKS_ACCESS
                | FabricInfo::REPORTS_ACCESS,
        }
    }

    unsafe fn register(
        &self,
        ptr: *mut u8,
        len: usize,
        access: u32,
    ) -> Result<Registration<Registered>> {
        let rights = FABRIC_LOCAL | FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
        if ptr.is_null() || len == 0 || access & !rights != 0 {
            return Err(Error::new(
                Status::INVALID,
                "no memory, or rights that do not exist",
            ));
        }
        // SAFETY: the host keeps the memory valid until the registration is dropped, and dropping
        // it waits for accesses in progress.
        let memory = unsafe { Span::new(ptr, len) };
        let region = self
            .shared
            .regions
            .register(memory, access)
            .map_err(|error| Error::io("no random numbers for a memory key", error))?;
        Ok(Registration {
            key: region.key(),
            region,
            descriptor: 0,
            base: 0,
        })
    }

    fn open_endpoint(&self, _call: CallContext<'_>) -> Result<TcpEndpoint> {
        self.endpoint()
    }
}
