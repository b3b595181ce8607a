//! Who belongs to a system: engines of the access point and of another server, through stops, deaths, exclusion and the
//! end of the system.

use crate::control_plane::{SYS, admin, block_on, channel, number, of};
use daos_e2e::{Bdev, Server, Site, eventually};
use daos_proto::ctl::RanksReq;
use daos_proto::ctl::ctl_svc_client::CtlSvcClient;
use daos_proto::mgmt::SystemEraseReq;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A node whose membership another one keeps.
pub(crate) fn joiner(access_point: &Site) -> Site {
    let mut site = Site::with_file();
    site.add_config(&format!("access_points: ['{}']\n", access_point.address()));
    site.use_certificates_of(access_point);
    site
}

/// An access point with certificates, and a node that joins it.
pub(crate) fn two_secured() -> (Site, Site) {
    let mut site = Site::with_file();
    site.use_certificates();
    let other = joiner(&site);
    (site, other)
}

/// The members as the site tells them.
#[track_caller]
fn members(site: &Site) -> Vec<Value> {
    let done = site
        .shell(&["--json", "system", "query", "--members"])
        .expect(0);
    let members = done.json()["response"]["members"].take();
    members.as_array().cloned().expect("members")
}

/// The states of all members, by rank.
#[track_caller]
pub(crate) fn states(site: &Site) -> Vec<String> {
    let text = |m: &Value| m["state"].as_str().unwrap_or_default().to_owned();
    members(site).iter().map(text).collect()
}

#[track_caller]
pub(crate) fn wait_states(site: &Site, wanted: &[&str]) {
    eventually(&format!("states {wanted:?}"), || {
        (states(site) == wanted).then_some(())
    });
}

/// Formats both, the access point first, and waits for two members.
pub(crate) fn make_system(
    site: &Site,
    server: &mut Server<'_>,
    other: &Site,
    second: &mut Server<'_>,
) {
    second.wait_phase("maintenance");
    server.make_ready();
    second.format(&[]).expect(0);
    second.wait_phase("ready");
    wait_states(site, &["joined", "joined"]);
    assert_eq!(
        states(other),
        ["joined", "joined"],
        "asked for at the other"
    );
}

#[test]
fn two_servers_are_one_system() {
    let site = Site::with_file();
    let other = joiner(&site);
    let mut server = site.start();
    let mut second = other.start();
    // Whoever comes first waits for the access point's format.
    second.wait_phase("maintenance");
    second.format(&[]).expect(0);
    second.wait_state("waiting to join", |state| {
        let reason = state["engines"][0]["reason"].as_str().unwrap_or_default();
        reason.contains("system is uninitialized")
    });
    server.make_ready();
    second.wait_phase("ready");
    wait_states(&site, &["joined", "joined"]);
    let two = members(&site);
    assert_eq!(two[1]["rank"], 1);
    assert_eq!(two[1]["address"], other.address());
    assert_eq!(second.wait_phase("ready")["engines"][0]["rank"], 1);

    // Stopped and started from either end, by ranks or hosts.
    let done = other.shell(&["system", "stop", "-r", "0-1,5"]).expect(1);
    assert!(done.stderr.contains("the system has no rank 5"), "{done}");
    assert_eq!(states(&site), ["stopped", "stopped"]);
    site.shell(&["system", "start", "--rank-hosts", &other.address()])
        .expect(0);
    assert_eq!(states(&site), ["stopped", "joined"]);
    let json = site
        .shell(&["--json", "system", "start", "-r", "0-1"])
        .expect(0)
        .json();
    assert_eq!(json["response"]["ranks"][1]["state"], "joined", "{json:#}");
    let not_ok = site.shell(&["system", "query", "--not-ok"]).expect(0);
    assert!(not_ok.stdout.contains("no members"), "{not_ok}");

    // A death is told, and so is the return.
    second.kill_engine(0);
    wait_states(&site, &["joined", "errored"]);
    wait_states(&site, &["joined", "joined"]);

    // The access point dies and remembers.
    site.shell(&["system", "exclude", "-r", "1", "-f"])
        .expect(0);
    server.kill();
    drop(server);
    let mut server = site.start();
    server.wait_phase("ready");
    wait_states(&site, &["joined", "adminexcluded"]);
    let refused = other.shell(&["system", "start"]).expect(1);
    assert!(
        refused.stdout.contains("clear-exclude --ranks 1"),
        "{refused}"
    );
    other
        .shell(&["system", "clear-exclude", "-r", "1"])
        .expect(0);
    assert_eq!(states(&site), ["joined", "excluded"]);
    other.shell(&["system", "start"]).expect(0);
    wait_states(&site, &["joined", "joined"]);

    // A server that is gone does not keep the others from anything.
    second.kill();
    drop(second);
    let done = site.shell(&["system", "stop", "-r", "0-1"]).expect(1);
    assert!(done.stderr.contains("ERROR: rank 1: "), "{done}");
    assert_eq!(
        states(&site),
        ["joined", "unresponsive"],
        "not even one was prepared"
    );
    site.shell(&["system", "stop", "-r", "0-1", "--force"])
        .expect(1);
    assert_eq!(states(&site), ["stopped", "unresponsive"]);
    let mut second = other.start();
    second.wait_phase("ready");
    wait_states(&site, &["stopped", "joined"]);
    second.stop();
    server.stop();
}

/// Nobody is left to tell: the access point finds out by itself.
#[test]
fn a_server_that_vanishes_without_a_word_is_missed() {
    let (site, other) = two_secured();
    let mut server = site.start();
    let mut second = other.start();
    make_system(&site, &mut server, &other, &mut second);

    // It hangs, and goes on.
    let pid = Pid::from_raw(second.pid().cast_signed());
    kill(pid, Signal::SIGSTOP).expect("our child");
    wait_states(&site, &["joined", "unresponsive"]);
    let info = members(&site)[1]["reason"].take();
    let info = info.as_str().unwrap_or_default();
    assert!(info.contains(&other.address()), "{info}");
    kill(pid, Signal::SIGCONT).expect("our child");
    wait_states(&site, &["joined", "joined"]);

    // It dies with its engine, and comes back.
    second.kill();
    drop(second);
    wait_states(&site, &["joined", "unresponsive"]);
    let mut second = other.start();
    second.wait_phase("ready");
    wait_states(&site, &["joined", "joined"]);

    // Who was stopped in order is not missed.
    site.shell(&["system", "stop", "-r", "1"]).expect(0);
    second.stop();
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert_eq!(states(&site), ["joined", "stopped"]);
    server.stop();
}

/// Not only the access point stops engines.
#[test]
fn what_is_stopped_at_its_own_server_is_told_as_stopped() {
    let (site, other) = two_secured();
    let mut server = site.start();
    let mut second = other.start();
    make_system(&site, &mut server, &other, &mut second);
    other.shell(&["system", "stop"]).expect(0);
    assert_eq!(states(&site), ["joined", "stopped"]);
    assert_eq!(members(&site)[1]["reason"], "it was stopped at its server");
    other.shell(&["system", "start"]).expect(0);
    wait_states(&site, &["joined", "joined"]);
    // The whole server.
    second.stop();
    assert_eq!(states(&site), ["joined", "stopped"]);
    server.stop();
}

#[test]
fn an_erasure_that_was_cut_short_can_be_finished() {
    let site = Site::with_file();
    let other = joiner(&site);
    let mut server = site.start();
    let mut second = other.start();
    make_system(&site, &mut server, &other, &mut second);
    site.shell(&["system", "stop", "-r", "0-1"]).expect(0);
    second.kill();
    drop(second);
    let done = site.shell(&["system", "erase", "-f"]).expect(1);
    assert!(done.stderr.contains("ERROR: rank 1: "), "{done}");
    assert_eq!(states(&site), ["awaitformat", "unresponsive"]);
    let mut second = other.start();
    second.wait_phase("ready");
    wait_states(&site, &["awaitformat", "joined"]);
    site.shell(&["system", "stop", "-r", "1"]).expect(0);
    site.shell(&["system", "erase", "-f"]).expect(0);
    let gone = site.shell(&["system", "query", "--members"]).expect(1);
    assert!(gone.stderr.contains("system is uninitialized"), "{gone}");
    second.stop();
    server.stop();
}

#[test]
fn two_servers_are_one_system_over_tls() {
    let (site, other) = two_secured();
    let mut server = site.start();
    let mut second = other.start();
    make_system(&site, &mut server, &other, &mut second);
    site.shell(&["system", "stop", "-r", "1"]).expect(0);
    assert_eq!(states(&site), ["joined", "stopped"]);
    site.shell(&["system", "start", "-r", "1"]).expect(0);
    second.stop();
    server.stop();
}

#[test]
fn a_rank_that_was_excluded_is_not_started_by_anything() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let none = site.shell(&["system", "exclude", "-f"]).expect(1);
    assert!(none.stderr.contains("--ranks"), "{none}");
    site.shell(&["--json", "system", "exclude", "-r", "0"])
        .expect(1);
    site.shell(&["system", "exclude", "-r", "7", "-f"])
        .expect(1);
    let early = site
        .shell(&["system", "clear-exclude", "-r", "0"])
        .expect(1);
    assert!(early.stderr.contains("is not excluded"), "{early}");
    assert_eq!(states(&site), ["joined"]);

    site.shell(&["system", "exclude", "-r", "0", "-f"])
        .expect(0);
    assert_eq!(states(&site), ["adminexcluded"]);
    let state = site.state().expect("the server answers");
    assert_eq!(state["engines"][0]["pid"], 0, "{state:#}");
    for args in [
        &["system", "start"][..],
        &["system", "start", "-r", "0"],
        &["system", "stop", "-r", "0"],
    ] {
        let done = site.shell(args).expect(1);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains("clear-exclude"), "{done}");
    }
    server.kill();
    drop(server);
    let mut server = site.start();
    server.wait_state("excluded", |state| {
        let reason = state["engines"][0]["reason"].as_str().unwrap_or_default();
        reason.contains("excluded its rank")
    });
    assert_eq!(states(&site), ["adminexcluded"]);
    // Another engine in its place is not let in either.
    let format = server.format(&["--reformat"]);
    assert_eq!(format.code, Some(0), "{format}");
    server.wait_state("refused", |state| state["engines"][0]["state"] == "errored");
    site.shell(&["system", "clear-exclude", "-r", "0"])
        .expect(0);
    site.shell(&["system", "start"]).expect(0);
    wait_states(&site, &["joined"]);
    server.stop();
}

#[test]
fn new_pools_lie_on_the_engines_that_are_in_the_system() {
    let site = Site::with_file();
    site.add_engine(Bdev::File(site.path("bdev1")), 2);
    let mut server = site.start();
    server.make_ready();
    site.shell(&["system", "exclude", "-r", "1", "-f"])
        .expect(0);
    assert_eq!(states(&site), ["joined", "adminexcluded"]);
    let made = site
        .shell(&["--json", "pool", "create", "tank", "--size", "20%"])
        .expect(0)
        .json();
    let ranks: Vec<_> = made["response"]["ranks"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(ranks, [0], "{made:#}");
    site.shell(&["system", "exclude", "-r", "0", "-f"])
        .expect(0);
    let none = site
        .shell(&["pool", "create", "pond", "-z", "1G"])
        .expect(1);
    assert!(none.stderr.contains("excluded all of them"), "{none}");
    server.stop();
}

#[test]
fn a_system_is_erased_once_it_is_stopped() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let before = members(&site);
    let refused = site.shell(&["system", "erase", "-f"]).expect(1);
    assert!(
        refused.stderr.contains("has to be stopped first"),
        "{refused}"
    );
    assert_eq!(members(&site), before);
    // As its tools ask: with an errored result for each rank.
    block_on(async {
        let mut mgmt = MgmtSvcClient::new(channel(&site).await);
        let erase = || {
            admin(SystemEraseReq {
                sys: SYS.to_owned(),
            })
        };
        let told = mgmt.system_erase(erase()).await.expect("results");
        let row = &told.get_ref().results[0];
        assert!(row.errored && row.msg.contains("code = 612"), "{row:?}");
        assert_eq!(
            (row.action.as_str(), row.addr.is_empty()),
            ("reset format", false)
        );
        let mut ctl = CtlSvcClient::new(channel(&site).await);
        let ranks = RanksReq {
            ranks: "0".to_owned(),
            ..RanksReq::default()
        };
        let running = ctl.reset_format_ranks(of("server", "2.8.0", ranks)).await;
        assert_eq!(number(&running.expect_err("it runs")), 612);
    });
    site.shell(&["system", "stop"]).expect(0);
    let asked = site.shell(&["--json", "system", "erase"]).expect(1);
    assert!(asked.stderr.contains("add -f"), "{asked}");
    let done = site.shell(&["system", "erase", "-f"]).expect(0);
    assert!(done.stdout.contains("awaitformat"), "{done}");
    let gone = site.shell(&["system", "query", "--members"]).expect(1);
    assert!(gone.stderr.contains("system is uninitialized"), "{gone}");
    let state = site.state().expect("the server answers");
    assert_eq!(state["engines"][0]["state"], "await-format", "{state:#}");
    assert!(!site.scm(0).join("superblock").exists());
    site.shell(&["system", "start"]).expect(1);
    // Nothing starts on what is left, whoever asks; a format still says what it would destroy.
    server.kill();
    drop(server);
    let mut server = site.start();
    server.wait_phase("maintenance");
    server.format(&[]).expect(1);
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    let after = members(&site);
    assert_eq!(after[0]["rank"], 0);
    assert_ne!(after[0]["uuid"], before[0]["uuid"]);
    server.stop();
}

#[test]
fn an_engine_that_is_formatted_anew_keeps_its_rank() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let before = members(&site);
    site.shell(&["system", "stop"]).expect(0);
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    let after = members(&site);
    assert_eq!((after.len(), &after[0]["rank"]), (1, &before[0]["rank"]));
    assert_ne!(after[0]["uuid"], before[0]["uuid"]);
    // Without the file, who they are stands in their superblocks.
    server.stop();
    std::fs::remove_file(site.path("state/membership.json")).expect("the membership is a file");
    let mut server = site.start();
    server.wait_phase("ready");
    assert_eq!(members(&site)[0]["uuid"], after[0]["uuid"]);
    server.stop();
    // What cannot be read is not taken for an empty system.
    std::fs::write(site.path("state/membership.json"), "{").expect("our file");
    let start = site
        .run("daos_server", &["-o", "daos_server.yml", "start", "-i"])
        .expect(1);
    assert!(start.stderr.contains("membership.json"), "{start}");
}
