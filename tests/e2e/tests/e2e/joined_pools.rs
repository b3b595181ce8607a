//! Pools of a system of two servers: they lie on the engines of both.

use crate::membership::{joiner, make_system, two_secured, wait_states};
use daos_e2e::{Site, eventually};
use serde_json::Value;

/// The pools as the site tells them, each with its label and ranks.
#[track_caller]
fn pools(site: &Site) -> Vec<(String, String)> {
    let done = site.shell(&["--json", "pool", "list", "--no-query"]);
    let mut json = done.expect(0).json();
    let pools = json["response"]["pools"].take();
    let text = |pool: &Value, key: &str| pool[key].as_str().unwrap_or_default().to_owned();
    let pools = pools.as_array().cloned().expect("pools");
    pools
        .iter()
        .map(|pool| (text(pool, "label"), text(pool, "ranks")))
        .collect()
}

fn named(label: &str, ranks: &str) -> (String, String) {
    (label.to_owned(), ranks.to_owned())
}

#[test]
fn a_pool_lies_on_the_engines_of_both_servers() {
    let site = Site::with_file();
    let other = joiner(&site);
    let mut server = site.start();
    let mut second = other.start();
    make_system(&site, &mut server, &other, &mut second);

    let made = site.shell(&["--json", "pool", "create", "tank", "--size", "50%"]);
    let made = made.expect(0).json();
    assert_eq!(made["response"]["ranks"], serde_json::json!([0, 1]));
    assert_eq!(pools(&site), [named("tank", "0,1")]);
    // Asked for at the other one, by way of the access point.
    assert_eq!(pools(&other), [named("tank", "0,1")]);
    let queried = site
        .shell(&["--json", "pool", "query", "tank"])
        .expect(0)
        .json();
    assert_eq!(queried["response"]["ranks"], "0,1", "{queried:#}");

    // One that is too large for the ranks of the other server is refused before anything is made.
    let large = site
        .shell(&["pool", "create", "lake", "-z", "1T"])
        .expect(1);
    assert!(large.stderr.contains("on rank 0"), "{large}");
    let one = site.shell(&["--json", "pool", "create", "pond", "-r", "1", "-z", "20%"]);
    assert_eq!(
        one.expect(0).json()["response"]["ranks"],
        serde_json::json!([1])
    );

    // Its data lies there: an object is found at the rank where it was stored, after that one's death as well.
    site.daos(&[
        "--rank",
        "1",
        "container",
        "create",
        "--pool",
        "tank",
        "box",
    ])
    .expect(0);
    let object = ["--pool", "tank", "--cont", "box", "0.1", "monday", "sky"];
    let put = ["--rank", "1", "object", "put"];
    site.daos(&[&put[..], &object, &["sunny"]].concat())
        .expect(0);
    second.kill_engine(0);
    wait_states(&site, &["joined", "errored"]);
    wait_states(&site, &["joined", "joined"]);
    let get = ["--rank", "1", "object", "get"];
    let got = site.daos(&[&get[..], &object].concat()).expect(0);
    assert_eq!(got.stdout.trim_end(), "sunny");

    // A label is changed on both, and what has containers is not destroyed by accident.
    site.shell(&["pool", "set-prop", "tank", "label:lake"])
        .expect(0);
    let refused = site.shell(&["pool", "destroy", "lake", "-f"]);
    let refused = refused.expect(1);
    assert!(refused.stderr.contains("has containers"), "{refused}");
    site.shell(&["pool", "destroy", "lake", "-f", "--recursive"])
        .expect(0);
    assert_eq!(pools(&site), [named("pond", "1")]);
    second.stop();
    server.stop();
}

#[test]
fn a_pool_outlives_a_server_that_is_gone_and_can_be_destroyed_without_it() {
    let (site, other) = two_secured();
    let mut server = site.start();
    let mut second = other.start();
    make_system(&site, &mut server, &other, &mut second);
    site.shell(&["pool", "create", "tank", "--size", "50%"])
        .expect(0);
    assert_eq!(pools(&site), [named("tank", "0,1")]);

    second.kill();
    drop(second);
    // As long as nobody knows that it is gone, it is said not to answer.
    eventually("the loss is noticed", || {
        let done = site.shell(&["--json", "pool", "list", "--no-query"]);
        if done.code != Some(0) {
            let address = other.address();
            assert!(done.to_string().contains(&address), "{done}");
            return None;
        }
        Some(())
    });
    wait_states(&site, &["joined", "unresponsive"]);
    assert_eq!(pools(&site), [named("tank", "0")]);
    for change in [
        &["pool", "create", "lake", "--size", "10%"][..],
        &["pool", "destroy", "tank", "-f"],
        &["pool", "set-prop", "tank", "label:lake"],
    ] {
        let refused = site.shell(change).expect(1);
        assert!(
            refused.stderr.contains("rank 1 at") && refused.stderr.contains("system exclude"),
            "{refused}"
        );
    }
    site.shell(&["system", "exclude", "-r", "1", "-f"])
        .expect(0);
    site.shell(&["pool", "destroy", "tank", "-f"]).expect(0);
    assert_eq!(pools(&site), []);

    // It comes back with its part, which is seen and can be removed as well.
    let mut second = other.start();
    second.wait_phase("maintenance");
    site.shell(&["system", "clear-exclude", "-r", "1"])
        .expect(0);
    site.shell(&["system", "start", "-r", "1"]).expect(0);
    wait_states(&site, &["joined", "joined"]);
    assert_eq!(pools(&site), [named("tank", "1")]);
    site.shell(&["pool", "destroy", "tank", "-f"]).expect(0);
    assert_eq!(pools(&site), []);
    second.stop();
    server.stop();
}

/// The connection between the servers outlives calls, but not what it was made with or led to.
#[test]
fn other_certificates_and_a_restart_disturb_no_call() {
    let (site, other) = two_secured();
    let mut server = site.start();
    let mut second = other.start();
    make_system(&site, &mut server, &other, &mut second);
    site.shell(&["pool", "create", "tank", "--size", "50%"])
        .expect(0);
    let dir = site.path("certs").display().to_string();
    for days in ["5", "6", "7"] {
        let issue = ["cert", "issue", "server", "--replace", "--ca-dir", &dir];
        let args = [&issue[..], &["--days", days]].concat();
        site.run("daos_server", &args).expect(0);
        assert_eq!(pools(&site), [named("tank", "0,1")]);
    }
    // Both ends show the last ones: the other server has said so of connections that came after the first.
    let renewed = second
        .log()
        .matches("new certificates of this server are in use")
        .count();
    assert_eq!(renewed, 3, "{}", second.log());
    for _ in 0..2 {
        second.stop();
        second = other.start();
        second.wait_phase("ready");
        wait_states(&site, &["joined", "joined"]);
        // The first call after it.
        assert_eq!(pools(&site), [named("tank", "0,1")]);
    }
    site.shell(&["pool", "destroy", "tank", "-f"]).expect(0);
    second.stop();
    server.stop();
}
