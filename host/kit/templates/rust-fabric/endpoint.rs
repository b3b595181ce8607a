//! An endpoint: used by one thread.

use crate::network::{ADDRESS, Shared, address, endpoint_of};
use crate::{MOST_BYTES, MOST_OUTSTANDING};
use daos_plugin_api::abi::{
    FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricCompletion, FabricOp, FabricRequest, Status,
    Wait,
};
use daos_plugin_api::sdk::{Error, FabricEndpoint, Result};
use std::sync::Arc;

pub struct Endpoint {
    network: Arc<Shared>,
    number: u64,
    /// Peers by their number, from 1; `None` once released.
    peers: Vec<Option<u64>>,
    outstanding: usize,
}

impl Endpoint {
    pub(crate) fn open(network: Arc<Shared>) -> Result<Self> {
        let added = network.lock().add();
        let number = added.map_err(|e| Error::io("cannot make a descriptor to wait on", e))?;
        Ok(Self {
            network,
            number,
            peers: Vec::new(),
            outstanding: 0,
        })
    }

    /// The endpoint behind the number of a peer.
    fn peer(&self, peer: u64) -> Option<u64> {
        let at = usize::try_from(peer.checked_sub(1)?).ok()?;
        *self.peers.get(at)?
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // What it has offered goes with it: nobody touches that memory any more.
        self.network.lock().endpoints.remove(&self.number);
    }
}

impl FabricEndpoint for Endpoint {
    fn address(&self) -> Vec<u8> {
        let address = address(self.number);
        debug_assert_eq!(address.len(), ADDRESS);
        address
    }

    fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        let endpoint = endpoint_of(address).ok_or(Status::INVALID)?;
        let known = self.peers.iter().position(|p| *p == Some(endpoint));
        let at = known.unwrap_or_else(|| {
            self.peers.push(Some(endpoint));
            self.peers.len() - 1
        });
        Ok(at as u64 + 1)
    }

    fn release(&mut self, peer: u64) -> Result<(), Status> {
        self.peer(peer).ok_or(Status::NOT_FOUND)?;
        self.peers[peer as usize - 1] = None;
        Ok(())
    }

    unsafe fn submit(&mut self, requests: &[FabricRequest]) -> Result<usize, Status> {
        let network = Arc::clone(&self.network);
        let mut network = network.lock();
        let room = MOST_OUTSTANDING as usize - self.outstanding;
        let taken = requests.len().min(room);
        for request in &requests[..taken] {
            self.outstanding += 1;
            let peer = self.peer(request.peer);
            // The host keeps the memory valid until the completion is polled.
            let status = match (request.op, peer) {
                _ if request.len as u64 > MOST_BYTES => Status::INVALID,
                (FabricOp::RECV, _) => {
                    if let Some(own) = network.endpoints.get_mut(&self.number) {
                        own.receive(request);
                    }
                    continue;
                }
                (FabricOp::SEND | FabricOp::READ | FabricOp::WRITE, None) => Status::UNREACHABLE,
                // SAFETY: the host keeps the memory valid until the completion is polled.
                (FabricOp::SEND, Some(to)) => unsafe { network.send(to, request) },
                // SAFETY: the host keeps the memory valid until the completion is polled.
                (FabricOp::READ, Some(to)) => unsafe {
                    network.access(to, FABRIC_REMOTE_READ, request)
                },
                // SAFETY: the host keeps the memory valid until the completion is polled.
                (FabricOp::WRITE, Some(to)) => unsafe {
                    network.access(to, FABRIC_REMOTE_WRITE, request)
                },
                _ => Status::NOT_SUPPORTED,
            };
            if let Some(own) = network.endpoints.get_mut(&self.number) {
                own.complete(request, 0, 0, status);
            }
        }
        Ok(taken)
    }

    fn poll(&mut self, completions: &mut [FabricCompletion]) -> Result<usize, Status> {
        let mut network = self.network.lock();
        let own = network
            .endpoints
            .get_mut(&self.number)
            .ok_or(Status::INTERNAL)?;
        let count = completions.len().min(own.done.len());
        for (out, done) in completions.iter_mut().zip(own.done.drain(..count)) {
            *out = done;
        }
        self.outstanding -= count;
        Ok(count)
    }

    fn cancel(&mut self, user: u64) -> Result<(), Status> {
        let mut network = self.network.lock();
        let own = network
            .endpoints
            .get_mut(&self.number)
            .ok_or(Status::INTERNAL)?;
        own.cancel(user)
    }

    fn arm_wait(&mut self) -> Wait {
        let network = self.network.lock();
        let own = network.endpoints.get(&self.number);
        own.and_then(|own| own.quiet()).map_or(Wait::BUSY, Wait::fd)
    }
}
