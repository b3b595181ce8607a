//! A network that fails under clients: a cable that is pulled, packets that vanish, come late or get lost. Whoever
//! is cut off goes on afterwards; nobody else waits for him.

use super::namespaces::{Namespaces, Relay, ip};
use crate::data::{Objects, bench};
use daos_e2e::{Bdev, LIMIT, Server, Site, eventually, finish, not_run};
use std::path::PathBuf;
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
        // Few keys: each is soon written over, so that a change that is made twice shows as an old value.
        let write = [
            "workload",
            "write",
            "--count",
            "1000000",
            "--keys",
            "16",
            "--size",
            "1..128KiB",
            record,
        ];
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
            let done = finish(command, LIMIT);
            if done.code != Some(0) {
                return Err(format!("{program} {line}: {}", done.stderr.trim()));
            }
        }
        Ok(())
    }

    /// Nothing crosses from here on, and nobody is told: what either side sends goes to a card that nobody has.
    fn cut(&self) {
        let wrong = "neigh replace [] lladdr 02:00:00:00:00:99 nud permanent dev {}";
        self.both("ip", wrong).expect("root may");
    }

    fn heal(&self) {
        let forget = "neigh delete [] dev {}";
        self.both("ip", forget).expect("it was there before");
    }
}

/// A client at the far end that writes on through whatever happens to the network, and what is acknowledged to it.
struct Story<'a> {
    site: &'a Site,
    network: &'a Network,
    engine: u32,
    record: PathBuf,
    writer: Far,
}

impl<'a> Story<'a> {
    fn begin(site: &'a Site, network: &'a Network, server: &Server<'_>) -> Self {
        let record = site.make_dir("record").join("record");
        let engine = server.engine_pid(0);
        let writer = network.writer(site, &record.display().to_string());
        let story = Self {
            site,
            network,
            engine,
            record,
            writer,
        };
        eventually("something is acknowledged", || story.goes_on(0, 20));
        story
    }

    /// How many lines the record has.
    fn acknowledged(&self) -> usize {
        let text = std::fs::read(&self.record).unwrap_or_default();
        text.iter().filter(|b| **b == b'\n').count()
    }

    fn goes_on(&self, before: usize, by: usize) -> Option<()> {
        (self.acknowledged() > before + by).then_some(())
    }

    /// The same client writes on from here.
    fn writes_on(&mut self, when: &str) {
        let (before, began) = (self.acknowledged(), Instant::now());
        eventually(&format!("the client writes on {when}"), || {
            self.goes_on(before, 20)
        });
        println!("20 more acknowledged {:?} into: {when}", began.elapsed());
        let ended = self.writer.0.try_wait().expect("our child");
        assert!(ended.is_none(), "the client gave up {when}");
    }

    /// Nothing arrives for so long.
    fn stands_still(&self, time: Duration) {
        // What was on its way may arrive yet.
        thread::sleep(Duration::from_secs(1));
        let before = self.acknowledged();
        thread::sleep(time);
        assert!(self.goes_on(before, 0).is_none(), "nothing was cut");
    }

    /// Everything acknowledged is there, nothing older has come back over it, and the engine is the same.
    fn end(self, mut server: Server<'_>) {
        let Self {
            site,
            network,
            engine,
            record,
            writer,
        } = self;
        drop(writer);
        let path = record.display().to_string();
        let verify = network.daos(site, &["workload", "verify", &path]);
        finish(verify, LIMIT).expect(0);
        let state = server.wait_phase("ready");
        assert_eq!(state["engines"][0]["restarts"], 0, "{state:#}");
        assert_eq!(server.engine_pid(0), engine, "the engine died");
        server.stop();
    }
}

/// Starts the node, or says why the test cannot run here.
macro_rules! network {
    ($test:expr, $site:ident, $network:ident, $server:ident) => {
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

/// What netem does to the packets of both directions.
const WEATHER: &[&str] = &[
    "delay 20ms 10ms",
    "loss 5%",
    "delay 20ms reorder 25% 50%",
    "duplicate 5%",
];

/// Packets that are late, lost, doubled and out of order where the kernel can make them so; an interface that goes
/// down and up; a partition that heals. One client goes on through all of it.
#[test]
fn whatever_happens_to_the_network_is_survived() {
    const TEST: &str = "whatever_happens_to_the_network_is_survived";
    network!(TEST, site, network, server);
    let mut story = Story::begin(&site, &network, &server);
    let netem = network.both("tc", "qdisc add dev {} root netem limit 10000");
    for weather in WEATHER {
        if let Err(error) = &netem {
            let part = format!("{TEST} with {weather}");
            not_run(&part, &format!("no netem (module sch_netem): {error}"));
            continue;
        }
        let change = format!("qdisc change dev {{}} root netem limit 10000 {weather}");
        network.both("tc", &change).expect("it was there before");
        story.writes_on(&format!("with {weather}"));
    }
    if netem.is_ok() {
        network
            .both("tc", "qdisc delete dev {} root")
            .expect("it was there before");
        story.writes_on("on a network that is well again");
    }

    for _ in 0..2 {
        let space = &network.spaces.server;
        ip(&format!("-n {space} link set daos0 down")).expect("root may");
        thread::sleep(Duration::from_secs(2));
        ip(&format!("-n {space} link set daos0 up")).expect("root may");
        thread::sleep(Duration::from_secs(1));
    }
    story.writes_on("after the interface was down");

    network.cut();
    story.stands_still(Duration::from_secs(5));
    // Who starts now is told by whom he is not answered.
    let get = ["--deadline", "5", "container", "list"];
    let told = finish(network.daos(&site, &get), LIMIT);
    assert_ne!(told.code, Some(0), "{told}");
    assert!(told.stderr.contains("192.0.2.1"), "no peer in {told}");
    network.heal();
    story.writes_on("after the partition");
    story.end(server);
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
    let near = [
        "bench", "--verify", "--ops", "100", "--size", "1MiB", "--keys", "50", "--depth", "40",
    ];
    // Said of him by his address; or by his process, where that is the address.
    let is_given_up = || {
        let log = server.log();
        let of_him = |line: &str| {
            line.contains("a client takes too long") && line.contains("client=\"192.0.2.2:")
        };
        log.lines().any(of_him)
    };
    let mut cuts = 0;
    while !is_given_up() {
        // On a busy machine a cut may find him between two operations.
        assert!(cuts < 5, "what he holds is never given up");
        if cuts > 0 {
            network.heal();
            std::thread::sleep(Duration::from_secs(3));
        }
        cuts += 1;
        network.cut();
        let cut = Instant::now();
        site.daos(&near).expect(0);
        println!("the others were served {:?} after the cut", cut.elapsed());
        bench(&site);
        while cut.elapsed() < Duration::from_secs(30) && !is_given_up() {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("cut {cuts} ended {:?} after it", cut.elapsed());
    }
    network.heal();
    drop(far);
    site.daos(&near).expect(0);
    assert_eq!(server.engine_pid(0), pid, "the engine died");
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
