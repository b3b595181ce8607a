//! Drives two endpoints of a fabric on one thread for measurements. All unsafe code for that is here.
#![allow(unsafe_code)]

use super::meter::Meter;
use super::rig::Rig;
use crate::bench::{Measured, Measurement, Work};
use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricCompletion, FabricOp,
    FabricRequest, Status,
};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::{CallOptions, Endpoint, FabricDomain, FabricMemory};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Most operations under way at once.
const SLOTS: usize = 8;
/// Longest time that nothing may complete.
const STUCK: Duration = Duration::from_secs(30);
const TAG: u64 = 7;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

pub(super) struct Stage {
    domain: FabricDomain,
    rig: Rig,
}

impl Stage {
    pub(super) fn new(rig: Rig) -> Result<Self, String> {
        let config = &rig.subject.config;
        let text = |key| config.get(key).and_then(Value::as_str).unwrap_or_default();
        let port = config.get("port").and_then(Value::as_u64).unwrap_or(0);
        let request = FabricOpenRequest {
            provider: rig.subject.class.clone(),
            interface: text("interface").to_owned(),
            port: u16::try_from(port).unwrap_or(0),
            answers: false,
            config: config.clone(),
        };
        let domain = rig
            .instance
            .open_fabric(&request, CallOptions::default())
            .map_err(|e| e.to_string())?;
        Ok(Self { domain, rig })
    }

    pub(super) fn measure(&self, what: &Measurement) -> Result<Measured, String> {
        let info = self.domain.info();
        let most = match what.work {
            Work::Message => info.max_message,
            Work::RemoteRead | Work::RemoteWrite => info.max_rma,
            _ => return Err("a fabric cannot do this".to_owned()),
        };
        if what.bytes as u64 > most {
            return Err(format!("its operations take {most} bytes"));
        }
        let _thread = self
            .rig
            .instance
            .attach_thread()
            .map_err(|e| e.to_string())?;
        let depth = (what.depth as usize).clamp(1, SLOTS);
        let mut here = Node::new(&self.domain, depth, what.bytes)?;
        let mut there = Node::new(&self.domain, depth, what.bytes)?;
        here.peer = here.resolve(&there)?;
        there.peer = there.resolve(&here)?;
        match what.work {
            Work::Message => messages(&mut here, &mut there, what),
            Work::RemoteRead => remote(&mut here, &mut there, FabricOp::READ, what),
            _ => remote(&mut here, &mut there, FabricOp::WRITE, what),
        }
    }
}

/// A message there and the answer back is one operation.
fn messages(here: &mut Node, there: &mut Node, what: &Measurement) -> Result<Measured, String> {
    let mut meter = Meter::start(what.millis);
    let mut is_warm = false;
    while !meter.is_over() {
        let since = Instant::now();
        here.offer(0, FabricOp::RECV, (0, 0))?;
        there.offer(0, FabricOp::RECV, (0, 0))?;
        for _ in 0..2 {
            let (from, to) = (&mut *here, &mut *there);
            from.offer(1, FabricOp::SEND, (0, 0))?;
            exchange(from, to, |from, to| from.is_free(1) && to.is_free(0))?;
            // The answer goes the other way.
            std::mem::swap(here, there);
        }
        // The first one connects.
        if is_warm {
            meter.record(since);
        } else {
            is_warm = true;
            meter = Meter::start(what.millis);
        }
    }
    Ok(meter.end())
}

fn remote(
    here: &mut Node,
    there: &mut Node,
    op: FabricOp,
    what: &Measurement,
) -> Result<Measured, String> {
    let target = (there.memory.base(), there.memory.key());
    // The first one connects.
    here.offer(0, op, target)?;
    exchange(here, there, |here, _| here.is_free(0))?;
    let depth = (what.depth as usize).clamp(1, SLOTS);
    let mut started = vec![None; depth];
    let mut meter = Meter::start(what.millis);
    loop {
        let is_over = meter.is_over();
        for (slot, since) in started.iter_mut().enumerate() {
            if here.is_free(slot) {
                if let Some(since) = since.take() {
                    meter.record(since);
                }
                if !is_over {
                    *since = Some(Instant::now());
                    let place = (target.0 + (slot * what.bytes) as u64, target.1);
                    here.offer(slot, op, place)?;
                }
            }
        }
        if started.iter().all(Option::is_none) {
            return Ok(meter.end());
        }
        let free = here.free();
        exchange(here, there, |here, _| here.free() > free)?;
    }
}

/// Polls both until `done`.
fn exchange(
    here: &mut Node,
    there: &mut Node,
    done: impl Fn(&Node, &Node) -> bool,
) -> Result<(), String> {
    let start = Instant::now();
    while !done(here, there) {
        if here.poll()? + there.poll()? == 0 && start.elapsed() > STUCK {
            return Err(format!("nothing completes within {STUCK:?}"));
        }
    }
    Ok(())
}

/// An endpoint with memory and as many slots for operations as are wanted at once, and one.
struct Node {
    // In the order in which they must go.
    endpoint: Endpoint,
    memory: FabricMemory,
    pages: Box<[Page]>,
    scratch: Vec<Line>,
    lines: usize,
    busy: Vec<bool>,
    bytes: usize,
    peer: u64,
}

impl Node {
    fn new(domain: &FabricDomain, depth: usize, bytes: usize) -> Result<Self, String> {
        let slots = depth + 1;
        let len = (slots * bytes).next_multiple_of(4096);
        let mut pages = vec![Page([0; 4096]); len / 4096].into_boxed_slice();
        let rights = FABRIC_LOCAL | FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
        // SAFETY: the pages are dropped after the registration (order of the fields); only the two
        // endpoints of this measurement know its key.
        let memory = unsafe { domain.register(pages.as_mut_ptr().cast(), len, rights) }
            .map_err(|e| e.to_string())?;
        let lines = (domain.info().scratch_size as usize).div_ceil(64);
        Ok(Self {
            endpoint: domain
                .open_endpoint(CallOptions::default())
                .map_err(|e| e.to_string())?,
            memory,
            pages,
            scratch: vec![Line([0; 64]); lines * slots],
            lines,
            busy: vec![false; slots],
            bytes,
            peer: 0,
        })
    }

    fn resolve(&mut self, other: &Self) -> Result<u64, String> {
        let failed = |status: Status| format!("resolve: {status}");
        let address = other.endpoint.address().map_err(failed)?;
        self.endpoint.resolve(&address).map_err(failed)
    }

    fn is_free(&self, slot: usize) -> bool {
        !self.busy[slot]
    }

    fn free(&self) -> usize {
        self.busy.iter().filter(|busy| !**busy).count()
    }

    /// Starts an operation of a free slot.
    fn offer(
        &mut self,
        slot: usize,
        op: FabricOp,
        (remote_addr, remote_key): (u64, u64),
    ) -> Result<(), String> {
        let request = FabricRequest {
            op,
            reserved: [0; 7],
            peer: self.peer,
            tag: TAG,
            ignore: 0,
            ptr: self
                .pages
                .as_mut_ptr()
                .cast::<u8>()
                .wrapping_add(slot * self.bytes),
            len: self.bytes,
            descriptor: self.memory.descriptor(),
            remote_addr,
            remote_key,
            user: slot as u64,
            scratch: match self.lines {
                0 => std::ptr::null_mut(),
                lines => self.scratch[slot * lines..].as_mut_ptr().cast(),
            },
        };
        let start = Instant::now();
        loop {
            // SAFETY: memory and scratch belong to the slot, which is busy until its completion was
            // polled; the endpoint is dropped before them.
            match unsafe { self.endpoint.submit(&[request]) } {
                Ok(1) => break,
                Ok(_) => {}
                Err(status) => return Err(format!("submit: {status}")),
            }
            self.poll()?;
            if start.elapsed() > STUCK {
                return Err(format!("the endpoint is full for {STUCK:?}"));
            }
        }
        self.busy[slot] = true;
        Ok(())
    }

    /// Makes progress; how many operations ended.
    fn poll(&mut self) -> Result<usize, String> {
        let mut out = [FabricCompletion::EMPTY; SLOTS + 1];
        let n = self
            .endpoint
            .poll(&mut out)
            .map_err(|status| format!("poll: {status}"))?;
        for completion in &out[..n] {
            if !completion.status.is_ok() {
                return Err(format!("an operation completed as {}", completion.status));
            }
            let slot = usize::try_from(completion.user).ok();
            match slot.and_then(|slot| self.busy.get_mut(slot)) {
                Some(busy) if *busy => *busy = false,
                _ => return Err("a completion of nothing that was started".to_owned()),
            }
        }
        Ok(n)
    }
}
