//! Choices on machines that are made of files.

use daos_topology::{Choice, Link, Named, Offer, Refusal, Wish, choose, interfaces};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// An interface as files.
#[derive(Clone, Copy, Debug)]
struct Port {
    name: &'static str,
    link: Link,
    is_up: bool,
    node: Option<u32>,
    is_physical: bool,
    speed: i64,
}

const fn port(name: &'static str, link: Link, node: u32) -> Port {
    Port {
        name,
        link,
        is_up: true,
        node: Some(node),
        is_physical: true,
        speed: 100_000,
    }
}

const LO: Port = Port {
    node: None,
    is_physical: false,
    ..port("lo", Link::Loopback, 0)
};

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

/// A machine with these interfaces, numbered in their order.
fn machine(ports: &[Port]) -> TempDir {
    let sys = tempfile::tempdir().unwrap();
    for (index, port) in ports.iter().enumerate() {
        let files = sys.path().join("class/net").join(port.name);
        let (kind, rdma) = match port.link {
            Link::Loopback => (772, None),
            Link::OmniPath => (32, Some(format!("hfi1_{index}"))),
            Link::Infiniband => (32, Some(format!("mlx5_{index}"))),
            Link::Roce => (1, Some(format!("mlx5_{index}"))),
            Link::Ethernet => (1, None),
            Link::Other => (65534, None),
        };
        put(&files.join("type"), &kind.to_string());
        put(&files.join("ifindex"), &(index + 1).to_string());
        put(&files.join("flags"), "0x1003");
        put(&files.join("speed"), &port.speed.to_string());
        let state = match (port.is_up, port.link) {
            (false, _) => "down",
            (true, Link::Loopback) => "unknown",
            (true, _) => "up",
        };
        put(&files.join("operstate"), state);
        put(&files.join("carrier"), if port.is_up { "1" } else { "0" });
        if port.is_physical {
            let node = port.node.map_or(-1, i64::from);
            put(&files.join("device/numa_node"), &node.to_string());
            if let Some(device) = rdma {
                fs::create_dir_all(files.join("device/infiniband").join(device)).unwrap();
            }
        }
    }
    sys
}

fn offer(provider: &str, plugin: &str, port: &Port) -> Offer {
    Offer {
        provider: provider.to_owned(),
        plugin: plugin.to_owned(),
        interface: port.name.to_owned(),
        is_up: Some(port.is_up),
        addresses: Some(vec![format!("10.0.0.{}", port.name.len())]),
        is_loopback: port.link == Link::Loopback,
    }
}

/// What the plugins would say: ours always, libfabric with the providers for the hardware.
fn offers(ports: &[Port], libfabric: bool) -> Vec<Offer> {
    let mut all: Vec<Offer> = ports
        .iter()
        .map(|p| offer("tcp", "fabric-tcp", p))
        .collect();
    for port in ports.iter().filter(|_| libfabric) {
        all.push(offer("ofi+tcp;ofi_rxm", "fabric-ofi", port));
        all.push(offer("ofi+sockets", "fabric-ofi", port));
        match port.link {
            Link::OmniPath => all.push(Offer {
                addresses: None,
                ..offer("ofi+psm2", "fabric-ofi", port)
            }),
            Link::Infiniband | Link::Roce => {
                all.push(offer("ofi+verbs;ofi_rxm", "fabric-ofi", port));
            }
            _ => {}
        }
    }
    if libfabric {
        all.push(Offer {
            addresses: None,
            ..offer("ofi+shm", "fabric-ofi", &Port { name: "shm", ..LO })
        });
    }
    all
}

fn on_node(node: u32) -> Wish {
    Wish {
        node: Some(node),
        ..Wish::default()
    }
}

fn chosen(ports: &[Port], wishes: &[Wish]) -> Vec<Result<Choice, Refusal>> {
    let sys = machine(ports);
    choose(&interfaces(sys.path()), &offers(ports, true), wishes, false)
}

/// Provider and interface per engine.
fn pairs(ports: &[Port], wishes: &[Wish]) -> Vec<(String, String)> {
    chosen(ports, wishes)
        .into_iter()
        .map(|choice| {
            let choice = choice.unwrap();
            assert!(!choice.reason.is_empty());
            (choice.provider, choice.interface.unwrap_or_default())
        })
        .collect()
}

fn pair(provider: &str, interface: &str) -> (String, String) {
    (provider.to_owned(), interface.to_owned())
}

const TWO: [Wish; 2] = [
    Wish {
        provider: None,
        interface: None,
        node: Some(0),
    },
    Wish {
        provider: None,
        interface: None,
        node: Some(1),
    },
];

#[test]
fn omni_path_is_preferred_to_infiniband_and_that_to_ethernet() {
    let eth = [
        port("eth0", Link::Ethernet, 0),
        port("eth1", Link::Ethernet, 1),
    ];
    let ib = [
        port("ib0", Link::Infiniband, 0),
        port("ib1", Link::Infiniband, 1),
    ];
    let opa = [
        port("opa0", Link::OmniPath, 0),
        port("opa1", Link::OmniPath, 1),
    ];
    let all = [&[LO][..], &eth, &ib, &opa].concat();
    assert_eq!(
        pairs(&all, &TWO),
        [pair("ofi+psm2", "opa0"), pair("ofi+psm2", "opa1")]
    );
    assert_eq!(
        pairs(&[&[LO][..], &eth, &ib].concat(), &TWO),
        [
            pair("ofi+verbs;ofi_rxm", "ib0"),
            pair("ofi+verbs;ofi_rxm", "ib1")
        ]
    );
    assert_eq!(
        pairs(&[&[LO][..], &eth].concat(), &TWO),
        [pair("ofi+tcp", "eth0"), pair("ofi+tcp", "eth1")]
    );
    let roce = [LO, eth[0], port("roce0", Link::Roce, 1)];
    assert_eq!(
        pairs(&roce, &TWO),
        [
            pair("ofi+verbs;ofi_rxm", "roce0"),
            pair("ofi+verbs;ofi_rxm", "roce0")
        ]
    );
}

#[test]
fn an_interface_that_is_down_is_not_chosen_and_named_in_the_reason() {
    let down = |port: Port| Port {
        is_up: false,
        ..port
    };
    let ib = down(port("ib0", Link::Infiniband, 0));
    let ports = [LO, port("eth0", Link::Ethernet, 0), ib];
    let choice = chosen(&ports, &TWO)[0].clone().unwrap();
    assert_eq!(choice.interface.as_deref(), Some("eth0"));
    assert!(choice.reason.contains("ib0 is down"), "{}", choice.reason);
    // One of two: the engine of its node takes the other one.
    let half = [
        down(port("ib0", Link::Infiniband, 0)),
        port("ib1", Link::Infiniband, 1),
    ];
    let both = pair("ofi+verbs;ofi_rxm", "ib1");
    assert_eq!(pairs(&half, &TWO), [both.clone(), both]);
    let reason = &chosen(&half, &TWO)[0].clone().unwrap().reason;
    assert!(reason.contains("ib1"), "{reason}");
}

#[test]
fn engines_without_an_interface_of_their_node_share_evenly_but_tcp_takes_the_first() {
    let far = [
        port("ib0", Link::Infiniband, 2),
        port("ib1", Link::Infiniband, 2),
    ];
    assert_eq!(
        pairs(&far, &TWO),
        [
            pair("ofi+verbs;ofi_rxm", "ib0"),
            pair("ofi+verbs;ofi_rxm", "ib1")
        ]
    );
    let unknown = |name| Port {
        node: None,
        ..port(name, Link::Ethernet, 0)
    };
    let eth = [unknown("enp2s0"), unknown("enp1s0")];
    assert_eq!(
        pairs(&eth, &TWO),
        [pair("ofi+tcp", "enp2s0"), pair("ofi+tcp", "enp2s0")],
        "the first that the kernel found"
    );
    let reason = chosen(&eth, &TWO)[1].clone().unwrap().reason;
    assert!(
        reason.contains("enp2s0 is the first Ethernet interface"),
        "{reason}"
    );
}

#[test]
fn virtual_interfaces_come_after_real_ones_and_bonds_are_what_they_are_made_of() {
    let bridge = Port {
        node: None,
        is_physical: false,
        ..port("br0", Link::Ethernet, 0)
    };
    let ports = [bridge, port("eth0", Link::Ethernet, 1)];
    assert_eq!(pairs(&ports, &TWO)[0], pair("ofi+tcp", "eth0"));
    assert_eq!(pairs(&[bridge], &TWO)[0], pair("ofi+tcp", "br0"));

    let bond = Port {
        name: "bond0",
        ..bridge
    };
    let sys = machine(&[
        bond,
        port("eth0", Link::Ethernet, 1),
        port("eth1", Link::Ethernet, 1),
    ]);
    for lower in ["eth0", "eth1"] {
        let link = sys.path().join(format!("class/net/bond0/lower_{lower}"));
        fs::create_dir(link).unwrap();
    }
    let found = interfaces(sys.path());
    let bond = found.iter().find(|i| i.name == "bond0").unwrap();
    assert!(bond.is_physical);
    assert_eq!(bond.numa_node, Some(1));
}

#[test]
fn the_loopback_is_taken_only_when_it_may_be() {
    let sys = machine(&[LO]);
    let found = interfaces(sys.path());
    assert!(found[0].is_up, "its state is unknown, its carrier is there");
    let all = offers(&[LO], false);
    let secure = choose(&found, &all, &TWO[..1], false)
        .remove(0)
        .unwrap_err();
    assert!(secure.cause.contains("lo is the loopback"), "{secure:?}");
    assert!(secure.remedy.contains("-i"), "{secure:?}");
    let insecure = choose(&found, &all, &TWO[..1], true).remove(0).unwrap();
    assert_eq!(insecure.provider, "tcp");
    assert_eq!(insecure.interface.as_deref(), Some("lo"));
    assert!(
        insecure.reason.contains("this machine only"),
        "{insecure:?}"
    );
    // With a way out of the machine, it is not the loopback that is taken.
    let ports = [LO, port("eth0", Link::Ethernet, 0)];
    let sys = machine(&ports);
    let both = choose(
        &interfaces(sys.path()),
        &offers(&ports, false),
        &TWO[..1],
        true,
    );
    assert_eq!(both[0].clone().unwrap().interface.as_deref(), Some("eth0"));
}

#[test]
fn an_interface_that_is_named_gets_its_best_provider() {
    let ports = [
        LO,
        port("eth0", Link::Ethernet, 0),
        port("ib0", Link::Infiniband, 1),
    ];
    let named = |interface: &str| Wish {
        interface: Some(interface.to_owned()),
        ..on_node(0)
    };
    let wishes = [
        named("eth0"),
        named("ib0"),
        named("lo"),
        named("10.0.0.4"),
        named("eth9"),
    ];
    let choices = chosen(&ports, &wishes);
    let provider = |n: usize| choices[n].clone().unwrap().provider;
    assert_eq!(provider(0), "ofi+tcp");
    assert_eq!(provider(1), "ofi+verbs;ofi_rxm");
    assert_eq!(provider(2), "ofi+tcp");
    assert_eq!(provider(3), "ofi+tcp");
    let kept = choices[3].clone().unwrap().interface;
    assert_eq!(kept.as_deref(), Some("10.0.0.4"), "as it was configured");
    let refused = choices[4].clone().unwrap_err();
    assert!(refused.what.contains("eth9"), "{refused:?}");
    assert!(refused.remedy.contains("eth0, ib0, lo"), "{refused:?}");
}

#[test]
fn a_provider_that_is_named_gets_its_best_interface() {
    let ports = [
        LO,
        port("eth0", Link::Ethernet, 0),
        port("ib0", Link::Infiniband, 0),
        port("ib1", Link::Infiniband, 1),
    ];
    let named = |name: &str, plugin: &str| Wish {
        provider: Some(Named {
            name: name.to_owned(),
            plugin: plugin.to_owned(),
        }),
        ..on_node(1)
    };
    let wishes = [
        named("ofi+verbs", "fabric-ofi"),
        named("ofi+tcp", "fabric-ofi"),
        named("ofi+sockets", "fabric-ofi"),
        named("sockets", "fabric-tcp"),
        named("ofi+shm", "fabric-ofi"),
    ];
    assert_eq!(
        pairs(&ports, &wishes),
        [
            pair("ofi+verbs", "ib1"),
            pair("ofi+tcp", "eth0"),
            pair("ofi+sockets", "eth0"),
            pair("sockets", "eth0"),
            pair("ofi+shm", ""),
        ]
    );
    let only_down = [Port {
        is_up: false,
        ..port("ib0", Link::Infiniband, 0)
    }];
    let refused = chosen(&only_down, &wishes[..1]).remove(0).unwrap_err();
    assert!(refused.cause.contains("ib0 is down"), "{refused:?}");
}

#[test]
fn psm2_without_a_network_interface_is_named_by_its_device() {
    let device = Offer {
        addresses: None,
        ..offer("ofi+psm2", "fabric-ofi", &port("hfi1_0", Link::OmniPath, 0))
    };
    let alone = choose(&[], std::slice::from_ref(&device), &TWO[..1], false).remove(0);
    assert_eq!(alone.unwrap().interface.as_deref(), Some("hfi1_0"));
    // Where there are interfaces, it is on them.
    let ports = [
        port("opa0", Link::OmniPath, 0),
        port("opa1", Link::OmniPath, 1),
    ];
    let sys = machine(&ports);
    let whole = Offer {
        interface: "psm2".to_owned(),
        ..device
    };
    let both = choose(&interfaces(sys.path()), &[whole], &TWO, false);
    let names: Vec<_> = both
        .into_iter()
        .map(|c| c.unwrap().interface.unwrap())
        .collect();
    assert_eq!(names, ["opa0", "opa1"]);
}

#[test]
fn software_rdma_makes_an_ethernet_interface_one_of_rdma() {
    let ports = [port("eth0", Link::Ethernet, 0)];
    let sys = machine(&ports);
    put(&sys.path().join("class/infiniband/rxe0/parent"), "eth0");
    assert_eq!(interfaces(sys.path())[0].link, Link::Roce);
}

const NAMES: [&str; 6] = ["p0", "p1", "p2", "p3", "p4", "p5"];

fn any_machine() -> impl Strategy<Value = Vec<Port>> {
    let link = prop_oneof![
        Just(Link::OmniPath),
        Just(Link::Infiniband),
        Just(Link::Roce),
        Just(Link::Ethernet),
        Just(Link::Ethernet),
    ];
    let one = (link, any::<bool>(), prop::option::of(0..3u32));
    prop::collection::vec(one, 0..6).prop_map(|ports| {
        let ports = ports.into_iter().enumerate();
        let mut all: Vec<Port> = ports
            .map(|(n, (link, is_up, node))| Port {
                is_up,
                node,
                ..port(NAMES[n], link, 0)
            })
            .collect();
        all.push(LO);
        all
    })
}

fn rank(link: Link) -> u8 {
    match link {
        Link::OmniPath => 0,
        Link::Infiniband | Link::Roce => 1,
        _ => 2,
    }
}

proptest! {
    #[test]
    fn what_is_chosen_is_usable_the_best_and_near(
        ports in any_machine(),
        nodes in prop::collection::vec(0..3u32, 1..4),
        insecure in any::<bool>(),
        turn in 0..20usize,
    ) {
        let sys = machine(&ports);
        let found = interfaces(sys.path());
        let mut all = offers(&ports, true);
        let wishes: Vec<Wish> = nodes.iter().map(|node| on_node(*node)).collect();
        let choices = choose(&found, &all, &wishes, insecure);
        let turn = turn % all.len();
        all.rotate_left(turn);
        prop_assert_eq!(&choices, &choose(&found, &all, &wishes, insecure), "another order");

        let up: Vec<&Port> = ports.iter().filter(|p| p.is_up && p.name != "lo").collect();
        let best = up.iter().map(|p| rank(p.link)).min();
        for (choice, node) in choices.iter().zip(&nodes) {
            let Some(best) = best else {
                prop_assert_eq!(choice.is_ok(), insecure, "{:?}", choice);
                if let Ok(choice) = choice {
                    prop_assert_eq!(choice.interface.as_deref(), Some("lo"));
                }
                continue;
            };
            let choice = choice.as_ref().expect("something is up");
            let name = choice.interface.as_deref().expect("no shared memory");
            let port = up.iter().find(|p| p.name == name).expect("it is up, and not the loopback");
            let provider = ["ofi+psm2", "ofi+verbs;ofi_rxm", "ofi+tcp"][usize::from(best)];
            prop_assert_eq!(choice.provider.as_str(), provider);
            prop_assert_eq!(rank(port.link), best);
            let is_near = |p: &&&Port| rank(p.link) == best && p.node == Some(*node);
            if up.iter().any(|p| is_near(&p)) {
                prop_assert_eq!(port.node, Some(*node), "{}", &choice.reason);
            }
        }
    }
}
