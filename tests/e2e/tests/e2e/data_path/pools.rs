//! Pools and containers: made, filled, listed, destroyed, through everything and by hand.

use daos_e2e::{Bdev, Finished, Site, eventually};
use serde_json::Value;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

#[track_caller]
fn pool(site: &Site, args: &[&str]) -> Finished {
    site.shell(&[&["pool"], args].concat())
}

/// What `pool query` says.
#[track_caller]
fn query(site: &Site, name: &str) -> Value {
    let answer = site.shell(&["--json", "pool", "query", name]).expect(0);
    answer.json()["response"].take()
}

/// Bytes in all and free on a tier.
fn tier(pool: &Value, name: &str) -> (u64, u64) {
    let number = |key: &str| pool[name][key].as_u64().expect("a number");
    (number("total_bytes"), number("free_bytes"))
}

#[track_caller]
fn says(finished: Finished, code: i32, words: &[&str]) {
    let finished = finished.expect(code);
    for word in words {
        assert!(
            finished.text().contains(word),
            "{word:?} is missing in {finished}"
        );
    }
}

#[test]
fn made_by_hand_named_and_destroyed() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let early = pool(&site, &["create", "tank", "--size", "50%"]);
    says(early, 1, &["does not serve", "storage format"]);
    server.format(&[]).expect(0);
    server.wait_phase("ready");
    says(pool(&site, &["list"]), 0, &["no pools", "pool create"]);
    says(site.daos(&["bench"]), 1, &["daos_shell pool create"]);

    // As in the guide of 2019: no label, destroyed by its UUID.
    let made = site
        .shell(&["--json", "pool", "create", "-s", "8MiB", "-n", "64MiB"])
        .expect(0);
    let made = made.json()["response"].take();
    let uuid = made["uuid"].as_str().expect("a UUID").to_owned();
    assert_eq!(made["scm_bytes"], 8 << 20, "{made:#}");
    says(pool(&site, &["destroy", "-u", &uuid, "-f"]), 0, &[]);

    says(
        pool(&site, &["create", "tank", "--size", "50%"]),
        0,
        &["tank", "next: daos container create"],
    );
    says(
        pool(&site, &["create", "tank", "-s", "2MiB"]),
        1,
        &["tank already exists", "another label"],
    );
    says(
        pool(&site, &["create", "big", "-s", "10GiB"]),
        1,
        &["10737418240 bytes of SCM", "belong to no pool"],
    );
    says(
        pool(&site, &["create", "tiny", "-s", "1MiB"]),
        1,
        &["too few", "2097152"],
    );
    says(
        pool(&site, &["create", "far", "-s", "4MiB", "-r", "7"]),
        1,
        &["rank 7"],
    );
    says(pool(&site, &["query", "lake"]), 1, &["lake", "pool list"]);
    says(pool(&site, &["destroy", "lake", "-f"]), 1, &["lake"]);
    let lists = pool(&site, &["list"]);
    says(lists, 0, &["tank", "Ready"]);

    says(
        site.daos(&["object", "list", "--cont", "weather", "1"]),
        1,
        &["weather does not exist", "daos container create"],
    );
    site.daos(&["container", "create", "weather"]).expect(0);
    site.daos(&["container", "create", "--pool", "tank", "news"])
        .expect(0);
    let put = ["object", "put", "--cont", "weather", "1", "d", "a", "sunny"];
    site.daos(&put).expect(0);
    let listed = site.daos(&["--json", "container", "list"]).expect(0).json();
    let listed = listed["response"]["containers"].as_array().map(Vec::len);
    assert_eq!(listed, Some(2));
    site.daos(&["container", "destroy", "news"]).expect(0);

    says(
        pool(&site, &["destroy", "tank", "-f"]),
        1,
        &["1 of them", "--recursive"],
    );
    // Standard input is at its end: no answer is a no.
    says(
        pool(&site, &["destroy", "tank", "-r"]),
        1,
        &["All data in pool tank", "Nothing was destroyed"],
    );
    let got = site.daos(&["object", "get", "--cont", "weather", "1", "d", "a"]);
    assert_eq!(got.expect(0).stdout, "sunny");
    pool(&site, &["destroy", "tank", "-r", "-f"]).expect(0);
    says(
        site.daos(&[
            "object", "get", "--pool", "tank", "--cont", "weather", "1", "d", "a",
        ]),
        1,
        &["tank does not exist", "daos_shell pool create"],
    );
    // Everything is there again.
    pool(&site, &["create", "all", "--size", "100%"]).expect(0);
    let (total, free) = tier(&query(&site, "all"), "bdev");
    assert_eq!(total, free);
    assert!(total > 480 << 20, "{total} bytes of 512 MiB");
    server.stop();
}

#[test]
fn a_full_pool_leaves_the_others_alone_and_gives_its_space_back() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    pool(&site, &["create", "small", "-s", "4MiB", "-n", "16MiB"]).expect(0);
    pool(&site, &["create", "large", "--size", "100%"]).expect(0);
    let in_small = ["--pool", "small", "--cont", "c"];
    site.daos(&["container", "create", "--pool", "small", "c"])
        .expect(0);
    let sizes = [
        "--size", "1MiB", "--ops", "64", "--keys", "64", "--depth", "4",
    ];
    let bench = [&["bench", "--keep"][..], &in_small, &sizes].concat();
    says(
        site.daos(&bench),
        1,
        &["no space left", "pool small", "block-device tier"],
    );
    let (total, free) = tier(&query(&site, "small"), "bdev");
    assert!(free < total / 2, "{free} of {total} are free");
    // What is inline still fits; another pool does not notice.
    let put = [
        "object", "put", "--pool", "small", "--cont", "c", "9", "d", "a", "small",
    ];
    site.daos(&put).expect(0);
    site.daos(&[&["bench", "--verify", "--pool", "large"][..], &sizes].concat())
        .expect(0);
    // The other tier of the small one.
    let sizes = ["--size", "4096", "--ops", "4000", "--keys", "4000"];
    let bench = [&["bench", "--keep"][..], &in_small, &sizes].concat();
    says(
        site.daos(&bench),
        1,
        &["no space left", "pool small", "SCM tier"],
    );
    site.daos(&["container", "destroy", "--pool", "small", "c"])
        .expect(0);
    for name in ["small", "large"] {
        let pool = query(&site, name);
        for name in ["scm", "bdev"] {
            let (total, free) = tier(&pool, name);
            assert_eq!(total, free, "{pool:#}");
        }
    }
    server.stop();
}

#[test]
fn a_destruction_that_is_killed_is_completed() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    for (round, pause) in [0, 3, 10, 30].into_iter().enumerate() {
        site.daos(&["container", "create", "doomed"]).expect(0);
        let fill = [
            "bench", "--keep", "--cont", "doomed", "--size", "1..20000", "--ops", "3000", "--keys",
            "3000", "--depth", "64",
        ];
        site.daos(&fill).expect(0);
        site.daos(&["container", "create", "kept"]).expect(0);
        let kept = [
            "object",
            "put",
            "--cont",
            "kept",
            "1",
            "d",
            "a",
            "still here",
        ];
        site.daos(&kept).expect(0);
        let mut command = site.command("daos");
        command
            .args(site.client_args())
            .args(["container", "destroy", "doomed"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut destroyer = command.spawn().expect("daos can be started");
        // Some of it is connecting.
        thread::sleep(Duration::from_millis(150 + pause));
        server.kill_engine(0);
        // It repeats its request at the next engine, or finds nothing any more.
        destroyer.wait().expect("our child");
        server.wait_phase("ready");
        let got = site.daos(&["object", "get", "--cont", "kept", "1", "d", "a"]);
        assert_eq!(got.expect(0).stdout, "still here");
        let listed = site.daos(&["--json", "container", "list"]).expect(0).json();
        let row = listed["response"]["containers"]
            .as_array()
            .and_then(|all| all.iter().find(|c| c["label"] == "doomed").cloned());
        if row.as_ref().is_some_and(|row| row["state"] == "live") {
            // Killed before it was marked: nothing has happened.
            let verify = site.daos(&["object", "list", "--cont", "doomed", "0.1"]);
            assert_eq!(
                verify.expect(0).stdout.lines().count(),
                3000,
                "round {round}"
            );
            site.daos(&["container", "destroy", "doomed"]).expect(0);
        }
        site.daos(&["container", "destroy", "kept"]).expect(0);
        eventually("everything is free", || {
            let pool = query(&site, "tank");
            let is_free = |name| tier(&pool, name).0 == tier(&pool, name).1;
            (is_free("scm") && is_free("bdev")).then_some(())
        });
    }
    server.stop();
}

#[test]
fn stopped_engines_start_again() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    site.daos(&["container", "create", "c"]).expect(0);
    let put = ["object", "put", "--cont", "c", "1", "d", "a", "v"];
    site.daos(&put).expect(0);
    site.shell(&["system", "stop"]).expect(0);
    let state = site.state().expect("the server answers");
    let hint = state["hint"].as_str().unwrap_or("");
    assert!(hint.contains("system start"), "{state:#}");
    says(
        pool(&site, &["list"]),
        1,
        &["does not serve", "system start"],
    );
    says(site.shell(&["system", "start"]), 0, &["engine 0: serves"]);
    let got = site.daos(&["object", "get", "--cont", "c", "1", "d", "a"]);
    assert_eq!(got.expect(0).stdout, "v");
    // Those that run are left alone.
    let pid = server.engine_pid(0);
    says(site.shell(&["system", "start"]), 0, &["engine 0: serves"]);
    assert_eq!(server.engine_pid(0), pid);
    server.stop();
}

#[test]
fn a_pool_that_fails_on_one_engine_is_undone_on_the_others() {
    let site = Site::new();
    for name in ["bdev0", "bdev1"] {
        site.add_engine(Bdev::File(site.path(name)), 1);
    }
    let mut server = site.start();
    server.make_ready();
    // Rank 1 looks well until it has to write down that it has a pool.
    let catalogue = site.scm(1).join("catalogue");
    std::fs::remove_file(&catalogue).expect("the catalogue of rank 1");
    let failed = pool(&site, &["create", "both", "-s", "8MiB", "-n", "64MiB"]);
    says(failed, 1, &["rank 1"]);
    let listed = pool(&site, &["--json", "list"]).expect(0).json();
    assert_eq!(
        listed["response"]["pools"].as_array().map_or(0, Vec::len),
        0,
        "{listed:#}"
    );
    // All of rank 0 is free again.
    pool(&site, &["create", "first", "-r", "0", "--size", "100%"]).expect(0);
    server.stop();
}

#[test]
fn a_pool_spans_all_engines_or_none() {
    let site = Site::new();
    for name in ["bdev0", "bdev1"] {
        site.add_engine(Bdev::File(site.path(name)), 1);
    }
    let mut server = site.start();
    server.make_ready();
    // Less is left on rank 1: what does not fit there is made nowhere.
    pool(
        &site,
        &["create", "one", "-s", "8MiB", "-n", "64MiB", "-r", "1"],
    )
    .expect(0);
    says(
        pool(&site, &["create", "both", "-s", "20MiB"]),
        1,
        &["on rank 1"],
    );
    let listed = pool(&site, &["list"]).expect(0);
    assert!(!listed.stdout.contains("both"), "{listed}");
    pool(&site, &["create", "both", "-s", "4MiB", "-n", "32MiB"]).expect(0);
    let both = query(&site, "both");
    assert_eq!(both["ranks"], "0,1", "{both:#}");
    assert_eq!(tier(&both, "bdev").0, 64 << 20, "{both:#}");
    // Each client sees the part of its rank.
    for rank in ["0", "1"] {
        site.daos(&["--rank", rank, "container", "create", "--pool", "both", "c"])
            .expect(0);
        let part = site
            .daos(&["--rank", rank, "--json", "pool", "query", "both"])
            .expect(0)
            .json();
        assert_eq!(part["response"]["bdev_total"], 32 << 20, "{part:#}");
    }
    says(
        site.daos(&["--rank", "0", "pool", "query", "one"]),
        1,
        &["one does not exist"],
    );
    says(
        pool(&site, &["destroy", "both", "-f"]),
        1,
        &["2 of them", "--recursive"],
    );
    pool(&site, &["destroy", "both", "-r", "-f"]).expect(0);
    for rank in ["0", "1"] {
        let gone = site.daos(&["--rank", rank, "container", "list", "--pool", "both"]);
        says(gone, 1, &["both does not exist"]);
    }
    server.stop();
}
