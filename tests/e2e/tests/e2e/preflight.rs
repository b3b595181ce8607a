//! `daos_server preflight` on this machine, and `daos_shell preflight` over servers.

use daos_e2e::{Finished, Site, User, not_run};
use nix::unistd::Uid;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn preflight(site: &Site, more: &[&str]) -> Finished {
    let line = [&["-o", "daos_server.yml", "--json", "preflight"], more].concat();
    site.run("daos_server", &line)
}

/// Findings of one check.
fn of<'v>(json: &'v Value, check: &str) -> Vec<&'v Value> {
    let all = json["response"]["findings"].as_array().expect("findings");
    all.iter().filter(|f| f["check"] == check).collect()
}

#[track_caller]
fn assert_state(json: &Value, check: &str, state: &str, words: &str) {
    let found = of(json, check);
    let fits =
        |f: &&&Value| f["state"] == state && f["found"].as_str().is_some_and(|t| t.contains(words));
    assert!(
        found.iter().any(|f| fits(&f)),
        "{check} {state} {words}: {found:#?}"
    );
}

#[test]
fn every_check_of_the_checklist_is_made_and_told() {
    let site = Site::with_file();
    site.write_config();
    let done = preflight(&site, &[]);
    let json = done.json();
    for check in [
        "config",
        "time",
        "clock",
        "users",
        "directories",
        "privileges",
        "hugepages",
        "iommu",
        "memlock",
        "thp",
        "ports",
        "certificates",
        "plugins",
    ] {
        assert!(!of(&json, check).is_empty(), "{check} in {json:#}");
    }
    let findings = json["response"]["findings"].as_array().expect("findings");
    for finding in findings {
        let bad = finding["state"] == "warn" || finding["state"] == "fail";
        assert_eq!(finding["remedy"] != "", bad, "{finding:#}");
        assert_ne!(finding["why"], "", "{finding:#}");
    }
    let failures = findings.iter().filter(|f| f["state"] == "fail").count();
    assert_eq!(json["response"]["failures"], failures);
    assert_eq!(done.code, Some(i32::from(failures > 0)), "{done}");
    assert_eq!(json["status"] == 0, failures == 0);
    // The insecure site warns at least; who wants no warning gets a failure.
    preflight(&site, &["--strict"]).expect(1);
    // For people it says the same.
    let text = site.run("daos_server", &["-o", "daos_server.yml", "preflight"]);
    assert!(
        text.stdout.contains("WARN  certificates") && text.stdout.contains("remedy:"),
        "{text}"
    );
    // Nothing was changed, and without a configuration it works, too.
    assert!(!site.path("state/engines.yml").exists());
    let bare = site.run(
        "daos_server",
        &[
            "--state-dir",
            &site.path("state").display().to_string(),
            "--json",
            "preflight",
        ],
    );
    assert!(!of(&bare.json(), "plugins").is_empty(), "{bare}");
    site.run("daos_server", &["preflight", "--nonsense"])
        .expect(2);
}

#[test]
fn what_is_wrong_is_found_and_mended() {
    let mut site = Site::with_file();
    let certs = site.use_certificates();
    let sockets = site.path("run/deep/daos");
    let text = site.config_text().replace(
        &format!("socket_dir: '{}'", site.path("sockets").display()),
        &format!("socket_dir: '{}'", sockets.display()),
    );
    site.write_text(&text);
    let key = certs.join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("our file");
    let found = preflight(&site, &[]).expect(1).json();
    assert_state(&found, "certificates", "fail", "server.key");
    // Root makes the directory at the start whatever is missing above it; others are told.
    assert_state(&found, "directories", "fail", "run/deep/daos");
    assert!(!sockets.exists(), "a check has changed something");
    let refused = site
        .run("daos_server", &["-o", "daos_server.yml", "start"])
        .expect(1);
    assert!(refused.stderr.contains("server.key"), "{refused}");

    let fixed = preflight(&site, &["--fix"]).json();
    assert_state(&fixed, "certificates", "ok", "is valid for another");
    assert_state(&fixed, "directories", "ok", "run/deep/daos");
    let said = of(&fixed, "certificates")[0]["fixed"][0]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(said.starts_with("chmod 0400"), "{said}");
    let mode = fs::metadata(&key).expect("our file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o400);
    // A second time there is nothing to do, and the server starts on it.
    let again = preflight(&site, &["--fix"]).json();
    assert!(
        of(&again, "certificates")[0]["fixed"].is_null(),
        "{again:#}"
    );
    let mut server = site.start_with(&["-o", "daos_server.yml", "start"]);
    server.wait_phase("maintenance");
    let running = preflight(&site, &[]).json();
    assert_state(&running, "ports", "warn", "it runs already");
    server.stop();
}

#[test]
fn a_wrong_configuration_is_a_finding() {
    let site = Site::with_file();
    site.write_text(&format!("prt: 1\n{}", site.config_text()));
    let found = preflight(&site, &[]).expect(1).json();
    assert_state(&found, "config", "fail", "prt");
    site.write_text(
        &site
            .config_text()
            .replace("bdev_class: file", "bdev_class: none_such"),
    );
    let found = preflight(&site, &[]).expect(1).json();
    assert_state(&found, "plugins", "fail", "none_such");
    let gone = site
        .run(
            "daos_server",
            &["-o", "/none/such.yml", "--json", "preflight"],
        )
        .expect(1);
    assert_state(&gone.json(), "config", "fail", "/none/such.yml");
}

#[test]
fn what_only_root_can_mend_is_left_to_root_and_said_first() {
    let name = "what_only_root_can_mend_is_left_to_root_and_said_first";
    if !Uid::effective().is_root() {
        return not_run(name, "needs root, to make a directory that is another's");
    }
    let site = Site::of(User::Unprivileged);
    let bdev = daos_e2e::Bdev::File(site.path("bdev0"));
    site.add_engine(bdev, 1);
    let roots = site.path("roots");
    fs::create_dir(&roots).expect("our directory");
    let text = site.config_text().replace(
        &format!("socket_dir: '{}'", site.path("sockets").display()),
        &format!("socket_dir: '{}'", roots.join("daos").display()),
    );
    site.write_text(&text);
    let done = preflight(&site, &["--fix"]).expect(1);
    assert!(
        done.stderr.contains("NOTE: only root can do this") && done.stderr.contains("sudo"),
        "{done}"
    );
    assert_state(&done.json(), "directories", "fail", "cannot make it");
    assert!(!roots.join("daos").exists());
}

#[test]
fn hosts_that_are_alike_and_hosts_that_differ() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let port = site.port();
    // One server by two names is alike.
    let twice = format!("127.0.0.1:{port},localhost:{port}");
    let shell = |list: &str, more: &[&str]| {
        let line = [&["-i", "-l", list, "--json", "preflight"], more].concat();
        site.run("daos_shell", &line)
    };
    let alike = shell(&twice, &["--user", "root,no_such_user", "--group", "root"])
        .expect(0)
        .json();
    let items = |json: &Value| json["response"]["items"].as_array().expect("items").clone();
    let item = |json: &Value, name: &str| {
        let found = items(json).into_iter().find(|i| i["item"] == name);
        found.unwrap_or_else(|| panic!("{name} in {json:#}"))
    };
    assert_eq!(
        item(&alike, "user root")["values"]["0:0"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    assert_eq!(item(&alike, "user no_such_user")["verdict"], "same");
    assert_eq!(item(&alike, "group root")["verdict"], "same");
    assert_eq!(alike["response"]["skewed"], false);
    assert!(
        alike["response"]["skew_ms"]
            .as_f64()
            .is_some_and(|ms| ms < 500.0)
    );

    // Another server differs in what it may and in what it must not.
    let other = Site::with_file();
    let text = other
        .config_text()
        .replace("targets: 2", "targets: 1\n  rank: 5");
    other.write_text(&format!("control_log_mask: DEBUG\n{text}"));
    let mut second = other.start_with(&["-o", "daos_server.yml", "start"]);
    second.wait_phase("maintenance");
    let both = format!("127.0.0.1:{port},{}", other.address());
    let done = shell(&both, &[]).expect(1);
    let json = done.json();
    for differs in [
        "configuration",
        "key port",
        "key control_log_mask",
        "key servers[0].targets",
    ] {
        assert_eq!(item(&json, differs)["verdict"], "differs", "{differs}");
    }
    assert_eq!(item(&json, "key servers[0].rank")["verdict"], "own");
    assert!(
        json["error"].as_str().is_some_and(|e| e.contains("differ")),
        "{done}"
    );
    let text = site
        .run("daos_shell", &["-i", "-l", &both, "preflight"])
        .expect(1);
    assert!(
        text.stdout.contains("DIFFERS  key servers[0].targets")
            && text.stdout.contains("own      key"),
        "{text}"
    );

    // Who does not answer is named, and what the others say is told.
    let gone = daos_e2e::Port::reserve();
    let done = shell(&format!("{twice},127.0.0.1:{}", gone.number()), &[]).expect(1);
    let json = done.json();
    assert_eq!(
        json["response"]["errors"]
            .as_object()
            .map(serde_json::Map::len),
        Some(1)
    );
    assert_eq!(
        json["response"]["hosts"]
            .as_object()
            .map(serde_json::Map::len),
        Some(2)
    );
    // Too much is not looked up.
    let many = vec!["x"; 65].join(",");
    let refused = shell(&twice, &["--user", &many]).expect(1);
    assert!(refused.text().contains("at most 64"), "{refused}");
    server.stop();
    second.stop();
}
