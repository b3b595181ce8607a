//! `daos_shell network ping`: against engines and against hosts without one, over several providers.

use crate::data_path::namespaces::{Namespaces, Relay};
use crate::membership::{make_system, two_secured};
use daos_e2e::{Bdev, Finished, LIMIT, Server, Site, eventually, finish, not_run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The shell with the site's plugins.
fn ping(site: &Site, args: &[&str]) -> Finished {
    let dir = site.path("plugins").display().to_string();
    let all = [&["network", "ping", "--plugins-dir", &dir], args].concat();
    site.shell(&all)
}

/// The same in the background.
fn ping_long(site: &Site, args: &[&str]) -> Child {
    let mut command = site.command("daos_shell");
    let dir = site.path("plugins").display().to_string();
    command
        .args([
            "-i",
            "-l",
            &site.address(),
            "network",
            "ping",
            "--plugins-dir",
            &dir,
        ])
        .args(args)
        .args(["-n", "100000", "-S", "1m"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().expect("the shell runs")
}

/// Process ids of the responders of a server.
fn responders(server: &Server<'_>) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == "--respond")
    };
    server.processes().into_iter().filter(is_one).collect()
}

fn wait_for_responders(server: &Server<'_>, count: usize) -> Vec<u32> {
    eventually(&format!("{count} responders"), || {
        let found = responders(server);
        (found.len() == count).then_some(found)
    })
}

#[track_caller]
fn assert_measured(report: &Value, sizes: &[u64]) {
    let rows = report["response"]["rows"].as_array().expect("rows");
    let bytes: Vec<u64> = rows.iter().filter_map(|r| r["bytes"].as_u64()).collect();
    assert_eq!(bytes, sizes, "{report:#}");
    for row in rows {
        assert_eq!(row["sent"], row["acknowledged"], "{report:#}");
        for key in ["usec_per_xfer", "mb_per_second", "usec_min", "usec_p99"] {
            let value = row[key].as_f64().unwrap_or(0.0);
            assert!(value > 0.0, "{key} in {report:#}");
        }
        assert!(
            row["usec_min"].as_f64() <= row["usec_p99"].as_f64(),
            "{report:#}"
        );
    }
}

#[test]
fn a_host_in_maintenance_and_its_engine_are_measured() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let plot = site.path("tmp").join("ping.svg");
    let shown = plot.display().to_string();
    let host = site.address();
    let done = ping(&site, &[&host, "-n", "10", "--plot", &shown]).expect(0);
    for word in [
        "bytes",
        "#sent",
        "#ack",
        "total",
        "MB/sec",
        "usec/xfer",
        "Mxfers/sec",
        "=10",
        "64k",
        "1m",
    ] {
        assert!(done.stdout.contains(word), "{word} in {done}");
    }
    assert!(done.stdout.contains("at lo over tcp"), "{done}");
    let picture = fs::read_to_string(&plot).expect("a picture");
    assert!(picture.starts_with("<svg"), "{picture}");
    // The responder does not outlive its client.
    wait_for_responders(&server, 0);

    server.make_ready();
    let rank = ping(&site, &["0", "-n", "10", "-S", "64,8k,1m", "--json"]).expect(0);
    let report = rank.json();
    assert_measured(&report, &[64, 8192, 1 << 20]);
    assert_eq!(report["response"]["peer"], "rank 0");
    // The other target, and the host while its engine runs.
    ping(&site, &["0", "-n", "5", "-t", "1"]).expect(0);
    let beside = ping(&site, &[&host, "-n", "5", "-p", "tcp", "--json"]).expect(0);
    assert_eq!(beside.json()["response"]["provider"], "tcp");
    wait_for_responders(&server, 0);
    server.stop();
}

/// The control plane is asked over TLS for a responder, and for the address of a rank; ranks are looked up at the access point,
/// whichever server is asked.
#[test]
fn hosts_and_ranks_are_found_over_tls() {
    let (site, other) = two_secured();
    let mut server = site.start();
    let mut second = other.start();
    make_system(&site, &mut server, &other, &mut second);
    let sizes = ["-n", "10", "-S", "64,8k", "--json"];
    for (asked, rank) in [(&site, "0"), (&site, "1"), (&other, "0"), (&other, "1")] {
        let done = ping(asked, &[&[rank][..], &sizes].concat()).expect(0);
        let report = done.json();
        assert_measured(&report, &[64, 8192]);
        assert_eq!(report["response"]["peer"], format!("rank {rank}"));
    }
    let host = other.address();
    let done = ping(&site, &[&[host.as_str()][..], &sizes].concat()).expect(0);
    assert_measured(&done.json(), &[64, 8192]);
    // Who shows no certificate gets no address of an engine.
    let dir = site.path("plugins").display().to_string();
    let address = site.address();
    let plain = [
        "-i",
        "-l",
        &address,
        "network",
        "ping",
        "--plugins-dir",
        &dir,
        "0",
    ];
    let refused = site.run("daos_shell", &plain).expect(1);
    assert!(
        refused.stderr.contains("does not talk in plain text"),
        "{refused}"
    );
    let none = ping(&site, &["7", "-n", "1"]).expect(1);
    assert!(none.stderr.contains("rank 7"), "{none}");
    second.stop();
    server.stop();
}

/// Measures a host and its engine over a provider of libfabric.
fn over(provider: &str, test: &str) {
    let mut site = Site::with_file();
    if let Err(why) = site.use_ofi(provider) {
        return not_run(test, &why);
    }
    let mut server = site.start();
    server.wait_phase("maintenance");
    let host = site.address();
    let sizes = ["-n", "5", "-S", "64,4k,64k,1m", "--json"];
    let of_host = ping(&site, &[&[host.as_str()][..], &sizes].concat()).expect(0);
    assert_measured(&of_host.json(), &[64, 4096, 65536, 1 << 20]);
    assert_eq!(of_host.json()["response"]["provider"], provider);
    server.make_ready();
    let of_rank = ping(&site, &[&["0"][..], &sizes].concat()).expect(0);
    assert_measured(&of_rank.json(), &[64, 4096, 65536, 1 << 20]);
    server.stop();
}

#[test]
fn over_tcp_with_rxm() {
    over("ofi+tcp;ofi_rxm", "over_tcp_with_rxm");
}

#[test]
fn over_net() {
    over("ofi+net", "over_net");
}

#[test]
fn over_sockets() {
    over("ofi+sockets", "over_sockets");
}

#[test]
fn what_cannot_be_measured_is_said_with_what_to_do() {
    let mut site = Site::with_file();
    let has_ofi = site.use_ofi("ofi+tcp").is_ok();
    let mut server = site.start();
    let host = site.address();
    server.wait_phase("maintenance");
    let early = ping(&site, &["0"]).expect(1);
    assert!(early.stderr.contains("storage format"), "{early}");
    server.make_ready();
    let refused = |args: &[&str], words: &[&str]| {
        let done = ping(&site, args).expect(1);
        for word in words {
            assert!(done.stderr.contains(word), "{word:?} in {done}");
        }
    };
    refused(&["7"], &["no rank 7", "system query --members"]);
    refused(&["0", "-t", "9"], &["\"9\"", "counted from 0"]);
    refused(&["0", "-p", "shm"], &["rank 0 uses provider", "by name"]);
    refused(
        &[&host, "-p", "acme+x"],
        &["no plugin of this host has provider acme+x", "network scan"],
    );
    if has_ofi {
        refused(&[&host, "-p", "ofi+psm2"], &["psm2", "no hardware"]);
        refused(&[&host, "-p", "ofi+vebrs"], &["did you mean"]);
    } else {
        not_run(
            "what_cannot_be_measured: libfabric",
            "the plugin was not built",
        );
    }
    // A port that nobody listens on.
    refused(
        &["127.0.0.1:1"],
        &["failed to connect to 127.0.0.1:1", "daos_server runs there"],
    );
    let json = ping(&site, &["7", "--json"]).expect(1).json();
    assert!(
        json["error"].as_str().is_some_and(|e| e.contains("rank 7")),
        "{json:#}"
    );
    server.stop();
}

#[test]
fn a_responder_that_is_killed_is_reported_and_their_number_is_bounded() {
    let site = Site::new();
    site.add_engine(Bdev::Malloc, 1);
    let mut server = site.start();
    server.wait_phase("maintenance");
    let host = site.address();
    let client = ping_long(&site, &[&host]);
    eventually("the responder is open", || {
        server.log().contains("responder opened").then_some(())
    });
    let victim = wait_for_responders(&server, 1)[0];
    kill(Pid::from_raw(victim as i32), Signal::SIGKILL).expect("the responder can be killed");
    let done = client.wait_with_output().expect("the shell ends");
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(
        text.contains("the responder is gone: its process has ended"),
        "{text}"
    );

    let mut clients: Vec<Child> = (0..4).map(|_| ping_long(&site, &[&host])).collect();
    wait_for_responders(&server, 4);
    let fifth = ping(&site, &[&host]).expect(1);
    assert!(fifth.stderr.contains("4 responders are open"), "{fifth}");
    // Clients that are killed free their places.
    for client in &mut clients {
        client.kill().expect("our child can be killed");
        client.wait().expect("our child can be waited for");
    }
    wait_for_responders(&server, 0);
    ping(&site, &[&host, "-n", "5"]).expect(0);
    // A server that ends takes its responders with it.
    let mut last = ping_long(&site, &[&host]);
    wait_for_responders(&server, 1);
    server.stop();
    assert_eq!(last.wait().expect("the shell ends").code(), Some(1));
}

#[test]
fn an_engine_that_is_killed_ends_a_ping_and_data_passes_beside_one() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    let mut beside = ping_long(&site, &["0"]);
    site.daos(&["bench", "--verify", "--seconds", "2"])
        .expect(0);
    assert_eq!(
        beside.try_wait().expect("our child"),
        None,
        "the ping goes on"
    );
    server.kill_engine(0);
    let done = eventually("the ping ends", || beside.try_wait().expect("our child"));
    assert_eq!(done.code(), Some(1));
    server.wait_phase("ready");
    ping(&site, &["0", "-n", "5"]).expect(0);
    server.stop();
}

#[test]
fn a_peer_that_is_not_reached_is_told_from_one_that_is() {
    let test = "a_peer_that_is_not_reached_is_told_from_one_that_is";
    let spaces = match Namespaces::new() {
        Ok(spaces) => spaces,
        Err(reason) => return not_run(test, &reason),
    };
    let mut site = Site::with_file();
    site.set_iface("daos0");
    let inside = |space: &str| format!("--net=/run/netns/{space}");
    site.set_wrapper(&["nsenter", &inside(&spaces.server)]);
    let mut server = site.start();
    server.make_ready();
    let relay = Relay::start(&spaces, site.port());
    let from_client = |args: &[&str]| {
        let mut command = Command::new("nsenter");
        command
            .arg(inside(&spaces.client))
            .arg(site.program("daos_shell"))
            .args(["-i", "-l", &site.address(), "network", "ping"])
            .args(args);
        finish(command, LIMIT)
    };
    let host = site.address();
    from_client(&["0", "-n", "5"]).expect(0);
    from_client(&[&host, "-n", "5"]).expect(0);
    // The control plane is still reached, the fabric is not.
    crate::data_path::namespaces::ip(&format!(
        "-n {} address del 192.0.2.2/24 dev daos1",
        spaces.client
    ))
    .expect("root may");
    for target in ["0", host.as_str()] {
        let lost = from_client(&[target, "-n", "5", "--interface", "lo"]).expect(1);
        assert!(lost.stderr.contains("firewall"), "{lost}");
    }
    drop(relay);
    server.stop();
}

#[test]
fn the_shell_does_not_need_libfabric() {
    let site = Site::new();
    let mut command = Command::new("ldd");
    command.arg(site.program("daos_shell"));
    let needs = finish(command, Duration::from_secs(30));
    assert!(needs.stdout.contains("libc.so"), "{needs}");
    assert!(!needs.stdout.contains("libfabric"), "{needs}");
}
