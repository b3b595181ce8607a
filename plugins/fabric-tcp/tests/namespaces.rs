//! Two endpoints in two network namespaces, joined by a virtual cable: addresses, routes and
//! interfaces as between two machines, and a cable that can be cut.

mod common;

use common::*;
use daos_plugin_api::abi::{FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, Status};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::FabricEndpoint;
use fabric_tcp::{Settings, TcpDomain};
use nix::sched::{CloneFlags, setns};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("cannot run ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {arguments}: {}", why.trim()))
}

/// Two namespaces; gone with their cable when dropped.
struct Lab {
    names: [String; 2],
}

impl Lab {
    fn new(test: &str) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can make network namespaces".to_owned());
        }
        let id = std::process::id();
        let lab = Self {
            names: ["a", "b"].map(|end| format!("dft-{test}-{id}-{end}")),
        };
        let [a, b] = &lab.names;
        for name in &lab.names {
            ip(&format!("netns add {name}"))?;
        }
        ip(&format!(
            "link add cable0 netns {a} type veth peer name cable1 netns {b}"
        ))?;
        for (n, name) in lab.names.iter().enumerate() {
            ip(&format!(
                "-n {name} addr add 198.51.100.{}/24 dev cable{n}",
                n + 1
            ))?;
            ip(&format!("-n {name} link set cable{n} up"))?;
        }
        Ok(lab)
    }

    /// Moves the calling thread into a namespace and opens a domain on its end of the cable.
    fn enter(&self, n: usize, settings: Settings) -> TcpDomain {
        let file = std::fs::File::open(format!("/run/netns/{}", self.names[n])).unwrap();
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        let request = FabricOpenRequest {
            provider: "tcp".to_owned(),
            interface: format!("cable{n}"),
            ..Default::default()
        };
        TcpDomain::open(&request, settings).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            // The cable goes with either namespace.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

/// What one end tells the other.
type Card = (Vec<u8>, u64);

#[test]
fn data_crosses_from_one_namespace_to_another() {
    let lab = match Lab::new("data") {
        Ok(lab) => lab,
        Err(why) => {
            println!("NOT RUN data_crosses_from_one_namespace_to_another: {why}");
            return;
        }
    };
    let lab = &lab;
    let (tell, hear): (Sender<Card>, Receiver<Card>) = channel();
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let domain = lab.enter(1, Settings::default());
            let mut b = open_node(&domain);
            let mut shared = pattern(8, 1 << 20);
            let region = register(
                &domain,
                &mut shared,
                FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE,
            );
            let mut memory = vec![0; 100_000];
            b.submit(recv(1, 5, 0, &mut memory));
            tell.send((b.endpoint.address(), region.key)).unwrap();
            while stopped.try_recv().is_err() {
                b.poll();
            }
            assert_eq!(b.take(1).map(|done| done.status), Some(Status::OK));
            assert!(memory == pattern(7, 100_000));
            drop(region);
            assert!(shared == pattern(9, 1 << 20));
        });
        let domain = lab.enter(0, Settings::default());
        let mut a = open_node(&domain);
        let (address, key) = hear.recv().unwrap();
        let peer = a.endpoint.resolve(&address).unwrap();
        let place = Remote { peer, key, addr: 0 };
        let message = pattern(7, 100_000);
        a.submit(send(1, peer, 5, &message));
        assert_eq!(a.finish(1).status, Status::OK);
        let mut copy = vec![0; 1 << 20];
        a.submit(read(2, place, &mut copy));
        assert_eq!(a.finish(2).status, Status::OK);
        assert!(copy == pattern(8, 1 << 20));
        let new = pattern(9, 1 << 20);
        a.submit(write(3, place, &new));
        assert_eq!(a.finish(3).status, Status::OK);
        stop.send(()).unwrap();
    });
}

/// No reset ever arrives through a cut cable: only the clock tells that the peer is gone.
#[test]
fn a_peer_behind_a_cut_cable_becomes_unreachable() {
    let lab = match Lab::new("cut") {
        Ok(lab) => lab,
        Err(why) => {
            println!("NOT RUN a_peer_behind_a_cut_cable_becomes_unreachable: {why}");
            return;
        }
    };
    let lab = &lab;
    let settings = Settings {
        peer_timeout: Duration::from_secs(1),
        ..Settings::default()
    };
    let (tell, hear): (Sender<Card>, Receiver<Card>) = channel();
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let domain = lab.enter(1, settings);
            let mut b = open_node(&domain);
            let mut shared = pattern(8, 1 << 20);
            let region = register(&domain, &mut shared, FABRIC_REMOTE_READ);
            tell.send((b.endpoint.address(), region.key)).unwrap();
            while stopped.try_recv().is_err() {
                b.poll();
            }
            drop(region);
        });
        let domain = lab.enter(0, settings);
        let mut a = open_node(&domain);
        let (address, key) = hear.recv().unwrap();
        let peer = a.endpoint.resolve(&address).unwrap();
        let place = Remote { peer, key, addr: 0 };
        let mut copy = vec![0; 1 << 20];
        a.submit(read(1, place, &mut copy));
        assert_eq!(a.finish(1).status, Status::OK);
        ip(&format!("-n {} link set cable1 down", lab.names[1])).unwrap();
        let start = Instant::now();
        a.submit(read(2, place, &mut copy));
        assert_eq!(a.finish(2).status, Status::UNREACHABLE);
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "took {:?}",
            start.elapsed()
        );
        ip(&format!("-n {} link set cable1 up", lab.names[1])).unwrap();
        // The same peer, still alive: the next operation finds it again.
        let start = Instant::now();
        loop {
            a.submit(read(3, place, &mut copy));
            if a.finish(3).status == Status::OK {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "never reachable again");
        }
        stop.send(()).unwrap();
    });
}
