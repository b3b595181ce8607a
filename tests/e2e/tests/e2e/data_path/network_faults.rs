//! A network that fails under clients: a cable that is pulled, packets that vanish, come late or get lost. Whoever
//! is cut off goes on afterwards; nobody else waits for him.

use super::namespaces::{Namespaces, Relay, ip};
use crate::data::{Objects, bench};
use daos_e2e::{Bdev, Server, Site, eventually, finish, not_run};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A node behind a cable, and a client at its other end.
struct Network {
    // Dropped in this order: nothing may run in namespaces that are gone.
    _relay: Relay,
    spaces: Namespaces,
}

fn inside(space: &str) -> String {
    format!("--net=/run/netns/{space}")
}

fn site() -> Result<(Site, Namespaces), String> {
    let spaces = Namespaces::new()?;
    let mut site = Site::new();
    site.add_engine(Bdev::File(site.path("bdev0")), 2);
    site.set_iface("daos0");
    site.set_wrapper(&["nsenter", &inside(&spaces.server)]);
    Ok((site, spaces))
}

/// A client at the far end that is killed with this value.
struct Far(Child);

impl Drop for Far {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Network {
    fn new(site: &Site, spaces: Namespaces) -> Self {
        let relay = Relay::start(&spaces, site.port());
        Self {
            _relay: relay,
            spaces,
        }
    }

    fn daos(&self, site: &Site, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(inside(&self.spaces.client))
            .arg(site.program("daos"))
            .args(site.client_args())
            .args(args);
        command
    }

    /// Starts to write without an end; each value is recorded when it is acknowledged.
    fn writer(&self, site: &Site, record: &str) -> Far {
        let write = ["workload", "write", "--count", "1000000", record];
        let mut command = self.daos(site, &write);
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null());
        Far(silent.spawn().expect("daos can be started"))
    }

    /// Runs `ip` or `tc` on both ends of the cable: `{}` is the end's interface, `[]` the other end's address.
    fn both(&self, program: &str, line: &str) -> Result<(), String> {
        let ends = [
            (&self.spaces.server, "daos0", "192.0.2.2"),
            (&self.spaces.client, "daos1", "192.0.2.1"),
        ];
        for (space, name, other) in ends {
            let line = line.replace("{}", name).replace("[]", other);
            let mut command = Command::new(program);
            command.args(["-n", space]).args(line.split(' '));
            let done = finish(command, Duration::from_secs(10));
            if done.code != Some(0) {
                return Err(format!("{program} {line}: {}", done.stderr.trim()));
            }
        }
        Ok(())
    }
}

fn acknowledged(record: &Path) -> usize {
    std::fs::read(record).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count())
}

/// Lets a client write, breaks the network for a while, and requires that the same client goes on afterwards
/// with everything there that was acknowledged to it.
fn writes_on_after(
    site: &Site,
    network: &Network,
    server: &mut Server<'_>,
    fault: impl FnOnce(&Network, &Path),
) {
    let pid = server.engine_pid(0);
    let record = site.make_dir("record").join("record");
    let path = record.display().to_string();
    let mut writer = network.writer(site, &path);
    eventually("something is acknowledged", || {
        (acknowledged(&record) > 20).then_some(())
    });
    fault(network, &record);
    let before = acknowledged(&record);
    eventually("the client writes on", || {
        (acknowledged(&record) > before + 20).then_some(())
    });
    let ended = writer.0.try_wait().expect("our child");
    assert!(ended.is_none(), "the client gave up");
    drop(writer);
    let verify = network.daos(site, &["workload", "verify", &path]);
    finish(verify, Duration::from_secs(90)).expect(0);
    assert_eq!(server.engine_pid(0), pid, "the engine died");
}

/// Starts the node, or says why the test cannot run here.
macro_rules! network {
    ($test:literal, $site:ident, $network:ident, $server:ident) => {
        let ($site, spaces) = match site() {
            Ok(made) => made,
            Err(reason) => return not_run($test, &reason),
        };
        let mut $server = $site.start();
        $server.make_ready();
        $site.ensure_pool();
        let $network = Network::new(&$site, spaces);
    };
}

#[test]
fn an_interface_that_goes_down_and_up_again_is_survived() {
    network!(
        "an_interface_that_goes_down_and_up_again_is_survived",
        site,
        network,
        server
    );
    writes_on_after(&site, &network, &mut server, |network, _| {
        for _ in 0..2 {
            let space = &network.spaces.server;
            ip(&format!("-n {space} link set daos0 down")).expect("root may");
            thread::sleep(Duration::from_secs(2));
            ip(&format!("-n {space} link set daos0 up")).expect("root may");
            thread::sleep(Duration::from_secs(1));
        }
    });
    server.stop();
}

#[test]
fn a_partition_is_survived() {
    network!("a_partition_is_survived", site, network, server);
    writes_on_after(&site, &network, &mut server, |network, record| {
        network
            .both("ip", "route add blackhole []/32")
            .expect("root may");
        // What was on its way may arrive yet.
        thread::sleep(Duration::from_secs(1));
        let cut_off = acknowledged(record);
        thread::sleep(Duration::from_secs(3));
        assert_eq!(acknowledged(record), cut_off, "nothing was cut");
        network
            .both("ip", "route delete blackhole []/32")
            .expect("root may");
    });
    server.stop();
}

/// A client that is cut off while the engine moves its values: what the engine holds for it must not be missing
/// to others, though the network tells nobody for many minutes.
#[test]
fn who_is_cut_off_does_not_hold_up_the_others() {
    network!(
        "who_is_cut_off_does_not_hold_up_the_others",
        site,
        network,
        server
    );
    let pid = server.engine_pid(0);
    let far = [
        "bench",
        "--size",
        "1MiB",
        "--keys",
        "100",
        "--depth",
        "64",
        "--seconds",
        "300",
    ];
    let mut command = network.daos(&site, &far);
    let silent = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let far = Far(silent.spawn().expect("daos can be started"));
    eventually(
        "values of his have arrived, so that more are on their way",
        || {
            let pool = site.shell(&["--json", "pool", "query", "tank"]).expect(0);
            let bdev = &pool.json()["response"]["bdev"];
            let bytes = |key: &str| bdev[key].as_u64().expect("a number");
            (bytes("total_bytes") - bytes("free_bytes") > 16 << 20).then_some(())
        },
    );
    network
        .both("ip", "route add blackhole []/32")
        .expect("root may");
    let cut = Instant::now();
    let near = [
        "bench", "--verify", "--ops", "100", "--size", "1MiB", "--keys", "50", "--depth", "40",
    ];
    site.daos(&near).expect(0);
    println!("the others were served {:?} after the cut", cut.elapsed());
    bench(&site);
    eventually("what he holds is given up", || {
        let log = server.log();
        log.contains("a client takes too long").then_some(())
    });
    println!("and he was given up {:?} after it", cut.elapsed());
    network
        .both("ip", "route delete blackhole []/32")
        .expect("root may");
    drop(far);
    site.daos(&near).expect(0);
    assert_eq!(server.engine_pid(0), pid, "the engine died");
    server.stop();
}

/// Loss and delay, where the kernel can make them.
#[test]
fn packets_that_are_lost_or_late_are_survived() {
    let test = "packets_that_are_lost_or_late_are_survived";
    network!(
        "packets_that_are_lost_or_late_are_survived",
        site,
        network,
        server
    );
    let netem = "qdisc add dev {} root netem delay 20ms 10ms loss 2%";
    if let Err(error) = network.both("tc", netem) {
        server.stop();
        let text = format!("no netem (module sch_netem, CONFIG_NET_SCH_NETEM): {error}");
        return not_run(test, &text);
    }
    writes_on_after(&site, &network, &mut server, |_, _| {
        thread::sleep(Duration::from_secs(5));
    });
    server.stop();
}

/// An interface that is not there when the node starts again.
#[test]
fn a_provider_that_cannot_start_says_why_and_starts_when_it_can() {
    let mut site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let objects = Objects::put(&site);
    server.stop();
    site.set_iface("daos-gone0");
    let mut server = site.start();
    let state = server.wait_state("given up", |s| {
        let reason = s["engines"][0]["reason"].as_str().unwrap_or("");
        reason.contains("daos-gone0")
    });
    assert_ne!(state["phase"], "ready", "{state:#}");
    server.stop();
    site.set_iface("lo");
    let mut server = site.start();
    server.wait_phase("ready");
    objects.check(&site);
    server.stop();
}
