//! Endpoints that lie.

use super::*;
use crate::memory::{BufferCounts, Buffers};
use daos_plugin_api::abi::FabricInfo;
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::thunks;
use daos_plugin_api::sdk::{
    CallContext, FabricDomain, FabricEndpoint, FabricPlugin, Host, Plugin, Registration, Result,
};
use serde_json::{Map, Value};

/// A fabric that completes what the test tells it to, when the test tells it to.
struct Puppet;

struct PuppetEndpoint;

thread_local! {
    /// What the next poll completes: user numbers, each with a length; and what `submit` answers.
    static NEXT: std::cell::RefCell<Vec<(u64, u64)>> = const { std::cell::RefCell::new(Vec::new()) };
    static REFUSES: std::cell::Cell<Option<Status>> = const { std::cell::Cell::new(None) };
    static GIVEN: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

daos_plugin_api::declare_plugin!(Puppet, fabric);

impl Plugin for Puppet {
    const MANIFEST: &'static str = r#"{"name": "fabric-puppet", "version": "1.2.3",
        "classes": [{"kind": "fabric", "name": "puppet"}]}"#;

    fn create(_: Host, _: CallContext<'_>, _: Map<String, Value>) -> Result<Self> {
        Ok(Self)
    }
}

impl FabricPlugin for Puppet {
    type Domain = Puppet;

    fn open(&self, _: CallContext<'_>, _: FabricOpenRequest) -> Result<Puppet> {
        Ok(Puppet)
    }
}

impl FabricDomain for Puppet {
    type Endpoint = PuppetEndpoint;
    type Region = ();

    fn info(&self) -> FabricInfo {
        FabricInfo {
            max_message: 1 << 20,
            max_rma: 1 << 20,
            max_address: 16,
            scratch_size: 0,
            max_endpoints: 1,
            max_outstanding: 8,
            tag_bits: 64,
            numa_node: -1,
            flags: 0,
        }
    }

    unsafe fn register(&self, _: *mut u8, _: usize, _: u32) -> Result<Registration<()>> {
        Ok(Registration {
            region: (),
            descriptor: 0,
            key: 0,
            base: 0,
        })
    }

    fn open_endpoint(&self, _: CallContext<'_>) -> Result<PuppetEndpoint> {
        Ok(PuppetEndpoint)
    }
}

impl FabricEndpoint for PuppetEndpoint {
    fn address(&self) -> Vec<u8> {
        vec![1]
    }

    fn resolve(&mut self, address: &[u8]) -> std::result::Result<u64, Status> {
        Ok(address.try_into().map_or(7, u64::from_le_bytes))
    }

    fn release(&mut self, _: u64) -> std::result::Result<(), Status> {
        Ok(())
    }

    unsafe fn submit(&mut self, requests: &[FabricRequest]) -> std::result::Result<usize, Status> {
        if let Some(status) = REFUSES.take() {
            return Err(status);
        }
        GIVEN.with_borrow_mut(|given| given.extend(requests.iter().map(|r| r.user)));
        Ok(requests.len())
    }

    fn poll(&mut self, out: &mut [FabricCompletion]) -> std::result::Result<usize, Status> {
        let next = NEXT.take();
        for (place, (user, len)) in out.iter_mut().zip(&next) {
            *place = FabricCompletion {
                user: *user,
                len: *len,
                op: FabricOp::RECV,
                ..FabricCompletion::EMPTY
            };
        }
        Ok(next.len())
    }

    fn cancel(&mut self, _: u64) -> std::result::Result<(), Status> {
        Ok(())
    }

    fn arm_wait(&mut self) -> Wait {
        Wait::fd(-1)
    }
}

/// A net with this many messages offered, and those that were not.
fn net(offered: usize) -> (Net, Vec<Buffer>) {
    let table = thunks::table::<Puppet>();
    let instance = Instance::create(table, InstanceOptions::built_in()).unwrap();
    let request = FabricOpenRequest {
        provider: "puppet".to_owned(),
        interface: String::new(),
        port: 0,
        answers: true,
        config: Map::new(),
    };
    let domain = instance
        .open_fabric(&request, CallOptions::default())
        .unwrap();
    let counts = BufferCounts {
        messages: 4,
        small: 1,
        large: 1,
    };
    let mut buffers = Buffers::of_process(&domain, counts).unwrap();
    let endpoint = domain.open_endpoint(CallOptions::default()).unwrap();
    let mut net = Net::new(endpoint, 8);
    let mut messages = std::mem::take(&mut buffers.messages);
    for (index, message) in messages.drain(..offered).enumerate() {
        net.receive(index as u64, message);
    }
    GIVEN.take();
    net.poll(&mut Vec::new()).unwrap();
    (net, messages)
}

fn poll(net: &mut Net, completions: &[(u64, u64)]) -> std::result::Result<usize, String> {
    NEXT.set(completions.to_vec());
    let mut events = Vec::new();
    net.poll(&mut events).map_err(|d| d.to_string())?;
    Ok(events.len())
}

#[test]
fn what_is_not_under_way_ends_the_endpoint() {
    const NAMES: &str = "plugin fabric-puppet 1.2.3, call poll: ";
    for number in [99, u64::MAX, 1 << 32] {
        let (mut net, _rest) = net(2);
        let why = poll(&mut net, &[(number, 0)]).unwrap_err();
        assert!(why.starts_with(NAMES), "{why}");
        assert!(why.contains(&format!("operation {number},")), "{why}");
    }
    // Once is right, twice is not; not even in one answer.
    let (mut once, _rest) = net(2);
    let slot = GIVEN.take()[0];
    assert_eq!(poll(&mut once, &[(slot, 1)]), Ok(1));
    assert!(
        poll(&mut once, &[(slot, 1)])
            .unwrap_err()
            .contains("not under way")
    );
    let (mut twice, _rest) = net(2);
    let slot = GIVEN.take()[1];
    let why = poll(&mut twice, &[(slot, 1), (slot, 1)]).unwrap_err();
    assert!(why.contains("not under way"), "{why}");
}

#[test]
fn more_bytes_than_fit_end_the_endpoint() {
    let (mut net, rest) = net(2);
    let slot = GIVEN.take()[0];
    let room = rest[0].len() as u64;
    assert_eq!(poll(&mut net, &[(slot, room)]), Ok(1));
    let (mut net, _rest) = self::net(2);
    let slot = GIVEN.take()[0];
    let why = poll(&mut net, &[(slot, room + 1)]).unwrap_err();
    assert!(why.contains("bytes where"), "{why}");
}

#[test]
fn a_refusal_is_one_operation_and_a_panic_the_endpoint() {
    for (status, expected) in [
        (Status::UNREACHABLE, None),
        (Status::PANIC, Some("call submit: it panicked")),
        (Status::POISONED, Some("call submit")),
        (
            Status::INTERNAL,
            Some("call submit: its answer makes no sense"),
        ),
    ] {
        let (mut net, mut rest) = net(2);
        net.send(5, rest.remove(0), 10, 7);
        REFUSES.set(Some(status));
        match (poll(&mut net, &[]), expected) {
            (Ok(1), None) => {}
            (Err(why), Some(words)) => assert!(why.contains(words), "{why}"),
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[test]
fn an_impossible_descriptor_is_no_sleep() {
    let (mut net, _rest) = net(1);
    let why = net.arm_wait().unwrap_err();
    assert!(why.needs_new_process(), "{why}");
    assert!(why.to_string().contains("call arm_wait"), "{why}");
}

#[test]
fn replies_that_never_end_are_told_once_nothing_can_come_in() {
    const PATIENCE: Duration = Duration::from_millis(20);
    let (mut other, mut messages) = net(0);
    other.patience = PATIENCE;
    other.send(0, messages.remove(0), 10, 7);
    other.send(1, messages.remove(0), 10, 7);
    assert_eq!(poll(&mut other, &[]), Ok(0));
    for wait in [30, 50] {
        other.look_at_clock().expect("not for so long yet");
        std::thread::sleep(Duration::from_millis(wait));
    }
    let why = other.look_at_clock().unwrap_err();
    assert!(why.to_string().contains("completes nothing"), "{why}");

    // With one receive that is offered something may still come.
    let (mut third, mut messages) = net(1);
    third.patience = PATIENCE;
    third.send(1, messages.remove(0), 10, 7);
    assert_eq!(poll(&mut third, &[]), Ok(0));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(30));
        third.look_at_clock().expect("a receive is offered");
    }
}

#[test]
fn clients_are_named_by_address_and_those_at_work_are_not_forgotten() {
    let (mut net, mut messages) = net(1);
    assert_eq!(net.resolve(b"fi_shm://17:0\0"), Ok(7));
    assert_eq!(net.name(7), "fi_shm://17:0");
    assert_eq!(net.name(8), "peer 8");
    net.send(1, messages.remove(0), 10, 7);
    for client in 100..100 + 2 * ADDRESSES as u64 {
        assert_eq!(net.resolve(&client.to_le_bytes()), Ok(client));
        assert!(net.addresses.len() <= ADDRESSES);
        assert_ne!(net.name(client), format!("peer {client}"));
    }
    assert_eq!(net.name(7), "fi_shm://17:0");
    assert_eq!(net.name(100), "peer 100");
}
