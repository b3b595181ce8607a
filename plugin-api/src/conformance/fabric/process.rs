//! A peer in another process: clients and engines are never one.

use super::FabricBench;
use super::net::{Node, Op};
use super::peers::ended_badly;
use crate::abi::{
    FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricCompletion, FabricOp, PluginTable, Status,
};
use crate::conformance::case::{Case, Verdict, ensure, failed};
use crate::conformance::other::{Line, Other, die, instance, told};
use crate::conformance::pattern::{Random, difference};
use crate::conformance::target::Target;
use crate::conformance::wait::LIMIT;
use crate::host::{CallOptions, FabricDomain};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(super) const CASES: &[Case<FabricBench>] = &[Case {
    id: "peers.other_process",
    name: "a peer in another process answers, reads and writes memory and has its own read and written; killed, it is an error",
    body: other_process,
}];

/// Answers a request, does remote accesses, and dies when it is told to.
pub(in crate::conformance) const PEER: &str = "fabric.peer";

const REQUEST: u64 = 1;
const REPLY: u64 = 2;
const WRITTEN: u64 = 3;
const LOOK: u64 = 4;
const NEVER: u64 = 5;

/// Bytes of the memory that the other side reads and writes, and where it lies; messages are before it.
const SHARED: usize = 1 << 20;
const SHARED_LEN: usize = 1 << 20;
const MESSAGE: usize = 2000;

/// What peers tell each other beside the fabric, as engine and client do: address, remote address, key.
struct Card {
    address: Vec<u8>,
    base: u64,
    key: u64,
}

impl Card {
    fn of(node: &mut Node) -> Verdict<String> {
        let (_, base, key) =
            node.share(SHARED, SHARED_LEN, FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE)?;
        let address = node.address()?;
        Ok(json!({ "address": address, "base": base, "key": key }).to_string())
    }

    fn read(text: &str) -> Verdict<Self> {
        let card: Value = serde_json::from_str(text).unwrap_or_default();
        let number = |key| card.get(key).and_then(Value::as_u64).unwrap_or_default();
        let bytes = card.get("address").and_then(Value::as_array);
        let bytes = bytes.into_iter().flatten().filter_map(Value::as_u64);
        Ok(Self {
            address: bytes.filter_map(|b| u8::try_from(b).ok()).collect(),
            base: number("base"),
            key: number("key"),
        })
    }
}

/// One side: its node, and what it knows of the other.
struct Side {
    node: Node,
    peer: u64,
    other: Card,
}

impl Side {
    fn start(&mut self, op: &Op) -> Verdict<u64> {
        let start = Instant::now();
        loop {
            if let Some(user) = self.node.offer(op)? {
                return Ok(user);
            }
            self.node.poll()?;
            ensure!(
                start.elapsed() < LIMIT,
                "an operation is not taken within {LIMIT:?}"
            );
        }
    }

    fn wait_for(&mut self, user: u64, limit: Duration) -> Verdict<Option<FabricCompletion>> {
        let start = Instant::now();
        loop {
            if let Some(done) = self.node.take(user) {
                return Ok(Some(done));
            }
            if start.elapsed() > limit {
                return Ok(None);
            }
            if self.node.poll()? == 0 {
                std::thread::yield_now();
            }
        }
    }

    fn must(&mut self, what: &str, user: u64) -> Verdict<FabricCompletion> {
        match self.wait_for(user, LIMIT)? {
            Some(done) if done.status.is_ok() => Ok(done),
            Some(done) => failed(format!("{what} completed as {:?}", done.status)),
            None => failed(format!("{what} does not complete within {LIMIT:?}")),
        }
    }

    /// A message of the other side, at offset `at` of the memory.
    fn message(&mut self, what: &str, tag: u64, at: usize) -> Verdict<Vec<u8>> {
        let user = self.start(&Op::recv(tag, at, 2 * MESSAGE))?;
        let done = self.must(what, user)?;
        Ok(self.node.get(at, done.len as usize))
    }

    fn send(&mut self, what: &str, tag: u64, data: &[u8]) -> Verdict {
        self.node.put(0, data);
        let user = self.start(&Op::send(self.peer, tag, 0, data.len()))?;
        self.must(what, user).map(drop)
    }

    /// Reads the other side's memory or writes to it, in as many operations as it takes.
    fn access(&mut self, op: FabricOp, data: &mut [u8]) -> Verdict {
        const AT: usize = 2 << 20;
        let most = usize::try_from(self.node.most_at_once())
            .unwrap_or(usize::MAX)
            .min(1 << 20);
        let mut offset = 0;
        while offset < data.len() {
            let len = most.min(data.len() - offset);
            let part = &mut data[offset..offset + len];
            if op == FabricOp::WRITE {
                self.node.put(AT, part);
            }
            let place = (self.other.base + offset as u64, self.other.key);
            let user = self.start(&Op::remote(op, self.peer, (AT, len), place))?;
            self.must(
                &format!("a {op:?} of {len} bytes of the other process"),
                user,
            )?;
            if op == FabricOp::READ {
                part.copy_from_slice(&self.node.get(AT, len));
            }
            offset += len;
        }
        Ok(())
    }
}

fn same(what: &str, found: &[u8], expected: &[u8]) -> Verdict {
    match difference(found, expected) {
        None => Ok(()),
        Some(how) => failed(format!("{what}: {how}")),
    }
}

/// What the memory of each side holds at first, and what the other side writes there.
fn contents(seed: u64) -> [Vec<u8>; 4] {
    let mut random = Random::new(seed);
    [(); 4].map(|()| random.bytes(SHARED_LEN))
}

fn other_process(bench: &FabricBench) -> Verdict {
    let domain = bench.open()?;
    // A second one meets an endpoint that has lost a peer.
    for round in 0..2 {
        one_peer(bench, &domain, bench.random(300 + round).next())?;
    }
    Ok(())
}

fn one_peer(bench: &FabricBench, domain: &FabricDomain, seed: u64) -> Verdict {
    let [mine, theirs, i_write, they_write] = contents(seed);
    let mut child = Other::start(&bench.base, PEER, "the other process")?;
    let mut node = Node::new(&bench.base.instance, domain)?;
    node.put(SHARED, &mine);
    child.tell(&seed.to_string());
    child.tell(&Card::of(&mut node)?);
    let Some(card) = child.heard(LIMIT)? else {
        return failed(format!(
            "the other process opens no endpoint within {LIMIT:?}"
        ));
    };
    let other = Card::read(&card)?;
    let peer = node.endpoint().resolve(&other.address).or_else(|status| {
        failed(format!(
            "the address of an endpoint in another process is refused: {status:?}"
        ))
    })?;
    let mut side = Side { node, peer, other };
    // Request and reply.
    let request = Random::new(seed ^ 1).bytes(MESSAGE);
    let waiting = side.start(&Op::recv(REPLY, 512 << 10, 2 * MESSAGE))?;
    side.send("a request to the other process", REQUEST, &request)?;
    let reply = answered(&mut side, &mut child, "the reply", waiting)?;
    let reply = side.node.get(512 << 10, reply.len as usize);
    let expected: Vec<u8> = request.iter().map(|b| !b).collect();
    same("the reply of the other process", &reply, &expected)?;
    // Its memory.
    let mut found = vec![0; SHARED_LEN];
    side.access(FabricOp::READ, &mut found)?;
    same("memory read from the other process", &found, &theirs)?;
    let waiting = side.start(&Op::recv(WRITTEN, 512 << 10, 2 * MESSAGE))?;
    side.access(FabricOp::WRITE, &mut i_write.clone())?;
    side.send("a message to the other process", LOOK, b"look")?;
    // It compares, then does the same with this memory.
    answered(
        &mut side,
        &mut child,
        "the other process's remote accesses",
        waiting,
    )?;
    same(
        "memory that the other process wrote to",
        &side.node.get(SHARED, SHARED_LEN),
        &they_write,
    )?;
    // It is killed with something outstanding on both sides.
    let pending = side.start(&Op::recv(NEVER, 768 << 10, 64))?;
    child.tell("die");
    child.dies()?;
    gone(&mut side)?;
    // The endpoint is none the worse for it.
    side.node.endpoint().cancel(pending)?;
    match side.wait_for(pending, LIMIT)? {
        Some(done) if done.status == Status::CANCELLED => Ok(()),
        other => failed(format!(
            "a cancelled receive after the death of a peer: {other:?}"
        )),
    }
}

/// Waits for a receive; what the other process has to say meanwhile comes first.
fn answered(
    side: &mut Side,
    child: &mut Other,
    what: &str,
    user: u64,
) -> Verdict<FabricCompletion> {
    let start = Instant::now();
    loop {
        if let Some(done) = side.wait_for(user, Duration::from_millis(20))? {
            ensure!(done.status.is_ok(), "{what} completed as {:?}", done.status);
            return Ok(done);
        }
        child.heard(Duration::ZERO)?;
        ensure!(
            start.elapsed() < 2 * LIMIT,
            "{what} does not come within {:?}",
            2 * LIMIT
        );
    }
}

/// Operations towards a process that is dead fail. A first message may still be taken by the network.
fn gone(side: &mut Side) -> Verdict {
    let place = (side.other.base, side.other.key);
    for op in [FabricOp::READ, FabricOp::WRITE] {
        let operation = Op::remote(op, side.peer, (0, 64), place);
        let user = side.start(&operation)?;
        ends_badly(
            side,
            &format!("a {op:?} of memory of a process that was killed"),
            user,
        )?;
    }
    let start = Instant::now();
    loop {
        let user = side.start(&Op::send(side.peer, NEVER, 0, 64))?;
        match side.wait_for(user, Duration::from_secs(3))? {
            Some(done) if done.status.is_ok() && start.elapsed() < LIMIT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Some(done) => {
                return ended_badly("a message to a process that was killed", done.status);
            }
            None => return ends_badly(side, "a message to a process that was killed", user),
        }
    }
}

fn ends_badly(side: &mut Side, what: &str, user: u64) -> Verdict {
    if let Some(done) = side.wait_for(user, Duration::from_secs(3))? {
        return ended_badly(what, done.status);
    }
    match side.node.endpoint().cancel(user) {
        // It may have completed inside the provider meanwhile.
        Ok(()) | Err(Status::NOT_FOUND) => {}
        Err(status) => return Err(status.into()),
    }
    match side.wait_for(user, LIMIT)? {
        Some(done) => ended_badly(what, done.status),
        None => failed(format!("{what} does not end, not even cancelled")),
    }
}

/// The role [`PEER`].
pub(in crate::conformance) fn be_a_peer(
    table: &'static PluginTable,
    target: &Target,
    line: &mut dyn Line,
) -> Verdict {
    let seed = crate::conformance::other::told_number(line)?;
    let other = Card::read(&told(line)?)?;
    let [theirs, mine, they_write, i_write] = contents(seed);
    let instance = instance(table, target)?;
    let domain = instance.open_fabric(&target.fabric_request(), CallOptions::default())?;
    let mut node = Node::new(&instance, &domain)?;
    node.put(SHARED, &mine);
    line.tell(&Card::of(&mut node)?);
    let peer = node.endpoint().resolve(&other.address).or_else(|status| {
        failed(format!(
            "it refuses the address of an endpoint in another process: {status:?}"
        ))
    })?;
    let mut side = Side { node, peer, other };
    let mut request = side.message("the request", REQUEST, 0)?;
    request.iter_mut().for_each(|b| *b = !*b);
    side.send("the reply", REPLY, &request)?;
    side.message("word that its memory was written to", LOOK, 0)?;
    let found = side.node.get(SHARED, SHARED_LEN);
    same(
        "memory that the other process wrote to",
        &found,
        &they_write,
    )?;
    let mut found = vec![0; SHARED_LEN];
    side.access(FabricOp::READ, &mut found)?;
    same("memory read from the other process", &found, &theirs)?;
    side.access(FabricOp::WRITE, &mut i_write.clone())?;
    side.send("word that memory was written to", WRITTEN, b"look")?;
    side.start(&Op::recv(NEVER, 768 << 10, 64))?;
    let start = Instant::now();
    while line
        .hear(Duration::from_millis(1))
        .is_ok_and(|text| text.is_none())
    {
        side.node.poll()?;
        ensure!(start.elapsed() < 2 * LIMIT, "nobody tells it to die");
    }
    die()
}
