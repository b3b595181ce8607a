//! Many storage hosts in one process, each with an address of its own in 127.0.0.0/8, that answer the real calls of
//! the control plane over real connections: for tests and measurements of programs that talk to many hosts.
//!
//! Only `StorageScanDetail` is answered; every other call of `daos_host.v1.HostSvc` is refused as unimplemented.

mod connection;
mod service;

use connection::accept;
use daos_proto::host::host_svc_server::HostSvcServer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use service::Host;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Hosts of one network: addresses end in 1 to 250.
const PER_NETWORK: usize = 250;

/// How a host answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// With its devices.
    #[default]
    Well,
    /// With its devices, of which one is of another size than everybody's.
    Otherwise,
    /// With a fault.
    Faulty,
    /// Never, but it takes connections and calls.
    Silent,
    /// It takes no connections.
    Absent,
}

/// Hosts that run until this is dropped.
pub struct Hosts {
    addresses: Vec<SocketAddr>,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Hosts {
    /// Starts `count` hosts (127.`network`.0.1, ...), all on one free port, each with the manner of its number. With
    /// `tls` they speak nothing else.
    ///
    /// # Errors
    /// The system has no ports or descriptors for so many.
    ///
    /// # Panics
    /// `count` is more than a network has.
    pub fn start(
        network: u8,
        count: usize,
        tls: Option<Arc<ServerConfig>>,
        manner: impl Fn(usize) -> Manner,
    ) -> io::Result<Self> {
        assert!(count <= PER_NETWORK * 256, "{count} hosts in one network");
        raise_limit(2 * count as u64 + 512)?;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        let mut port = 0;
        for number in 0..count {
            let ip = Ipv4Addr::new(
                127,
                network,
                (number / PER_NETWORK) as u8,
                (number % PER_NETWORK) as u8 + 1,
            );
            let listener = TcpListener::bind((ip, port))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            port = address.port();
            addresses.push(address);
            let manner = manner(number);
            // An address without a listener refuses.
            if manner != Manner::Absent {
                listeners.push((listener, manner, number));
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (end, ended) = watch::channel(false);
        let serve = move || {
            runtime.block_on(async move {
                for (listener, manner, number) in listeners {
                    let (mut ended, tls) = (ended.clone(), tls.clone());
                    tokio::spawn(async move {
                        let listener = tokio::net::TcpListener::from_std(listener)?;
                        let service = HostSvcServer::new(Host { manner, number });
                        let end = async move { drop(ended.wait_for(|end| *end).await) };
                        tonic::transport::Server::builder()
                            .add_service(service)
                            .serve_with_incoming_shutdown(accept(listener, tls), end)
                            .await
                            .map_err(io::Error::other)
                    });
                }
                // Connections that clients hold open end with the runtime.
                drop(ended.clone().wait_for(|end| *end).await);
            });
        };
        let thread = std::thread::Builder::new()
            .name("hosts".to_owned())
            .spawn(serve)?;
        Ok(Self {
            addresses,
            end,
            thread: Some(thread),
        })
    }

    /// Where the hosts are, by number.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// All hosts, separated by commas.
    pub fn list(&self) -> String {
        let hosts: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
        hosts.join(",")
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed.
            let _ = thread.join();
        }
    }
}

/// Lets this process have so many descriptors.
fn raise_limit(wanted: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    if hard < wanted {
        return Err(io::Error::other(format!(
            "{wanted} descriptors are needed, {hard} are allowed; raise the limit: ulimit -Hn {wanted}"
        )));
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?)
}
