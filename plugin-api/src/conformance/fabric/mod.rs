//! Cases of fabrics.

mod basics;
mod message;
mod net;
mod peers;
mod process;
mod remote;
mod threads;

use super::case::{Case, Verdict};
use super::control::ControlBench;
use super::pattern::Random;
use crate::host::{CallOptions, FabricDomain};
use net::Net;
pub(super) use process::{PEER, be_a_peer};
use std::sync::Arc;

/// What the cases work on: each opens the domain anew.
pub(super) struct FabricBench {
    base: Arc<ControlBench>,
}

impl FabricBench {
    pub(super) fn new(base: &Arc<ControlBench>) -> Self {
        Self {
            base: Arc::clone(base),
        }
    }

    fn open(&self) -> Verdict<FabricDomain> {
        let request = self.base.target.fabric_request();
        Ok(self
            .base
            .instance
            .open_fabric(&request, CallOptions::default())?)
    }

    /// Endpoints of one domain on this thread that know each other.
    fn net(&self, count: usize) -> Verdict<Net> {
        Net::new(&self.base.instance, &self.open()?, count)
    }

    fn random(&self, salt: u64) -> Random {
        Random::new(self.base.target.seed ^ salt)
    }
}

/// Every case.
pub(super) fn cases() -> impl Iterator<Item = &'static Case<FabricBench>> {
    [
        basics::CASES,
        message::CASES,
        remote::CASES,
        peers::CASES,
        process::CASES,
        threads::CASES,
    ]
    .into_iter()
    .flatten()
}
