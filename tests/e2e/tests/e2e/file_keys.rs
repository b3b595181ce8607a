//! What keys of the file as a whole do, seen from outside. `docs/config-keys.md` names these tests.

use crate::config_effects::{START, assert_arguments, ready};
use crate::data::bench;
use daos_e2e::{Site, eventually, not_run};
use nix::unistd::{Group, Uid, User};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

#[test]
fn the_fault_domain_is_recorded() {
    let site = Site::with_file();
    let script = site.path("fault_domain");
    fs::write(&script, "#!/bin/sh\necho /rack8/from-callback\n").expect("our directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).expect("our file");
    for (line, domain) in [
        ("fault_path: /rack7/node2", "/rack7/node2"),
        ("fault_cb: ./fault_domain", "/rack8/from-callback"),
    ] {
        site.write_text(&format!("{line}\n{}", site.config_text()));
        let mut server = site.start_with(START);
        server.wait_phase("maintenance");
        server.format(&["--reformat"]).expect(0);
        server.wait_phase("ready");
        let superblock = fs::read_to_string(site.scm(0).join("superblock")).expect("a superblock");
        assert!(superblock.contains(domain), "{superblock}");
        server.stop();
    }
    fs::write(&script, "#!/bin/sh\nexit 1\n").expect("our file");
    let start = site.run("daos_server", START).expect(1);
    assert!(start.stderr.contains("fault_cb"), "{start}");
}

#[test]
fn the_control_log_goes_where_and_as_it_is_told() {
    let site = Site::with_file();
    let log = site.path("control.log");
    let start = |lines: &str| {
        // Appended to what the run before wrote.
        let _ = fs::remove_file(&log);
        let text = format!(
            "control_log_file: ./control.log\n{lines}{}",
            site.config_text()
        );
        site.write_text(&text);
        let mut server = site.start_with(START);
        server.wait_phase("maintenance");
        server.stop();
        fs::read_to_string(&log).expect("a log")
    };
    let text = start("");
    assert!(text.contains("listening on"), "{text}");
    let text = start("control_log_json: true\n");
    for line in text.lines() {
        let document: serde_json::Value = serde_json::from_str(line).expect("an object per line");
        assert!(document["level"].is_string(), "{line}");
    }
    assert_eq!(start("control_log_mask: ERROR\n"), "");
    assert_eq!(start("control_log_mask: DISABLED\n"), "");
    let text = start("control_log_mask: WARN\n");
    assert!(
        text.contains("TLS is off") && !text.contains("INFO"),
        "{text}"
    );
    let text = start("control_log_mask: TRACE\n");
    assert!(text.contains("DEBUG") || text.contains("TRACE"), "{text}");
}

#[test]
fn the_attach_file_lists_engines_that_serve() {
    let mut site = Site::with_file();
    let file = site.path("attach_info");
    site.add_config("attach: ./attach_info\n");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let read = || fs::read_to_string(&file).unwrap_or_default();
    eventually("nobody serves", || {
        (read() == "name daos_server\nsize 0\nall\n").then_some(())
    });
    server.format(&[]).expect(0);
    let state = server.wait_phase("ready");
    let uri = state["engines"][0]["uri"].as_str().expect("a URI");
    let wanted = format!("name daos_server\nsize 1\nall\n0 {uri}\n");
    eventually("one engine serves", || (read() == wanted).then_some(()));
    // It is enough to reach the engine without asking the server.
    site.run("daos", &["--uri", uri, "query"]).expect(0);
    server.stop();
    assert!(!file.exists(), "the file outlives the server");
}

#[test]
fn plugins_are_those_of_the_list_with_their_settings() {
    let mut site = Site::with_file();
    site.add_config(
        "plugins: {scm-ram: {}, fabric-tcp: {}, bdev-file: {settings: {io_engine: threads}}}\n",
    );
    let server = ready(&site, &site.config_text());
    let settings = r#"{"bdev-file":{"io_engine":"threads"}}"#;
    assert_arguments(&server, 0, &[("--plugin-settings", settings)]);
    let listed = site.shell(&["--json", "plugin", "list"]).expect(0).json();
    let rows = listed["response"]["hosts"][site.address()]["plugins"].clone();
    let state = |name: &str| {
        let rows = rows.as_array().expect("rows");
        let row = rows.iter().find(|r| {
            let shown = r["name"].as_str().unwrap_or("");
            shown == name || shown.contains(name)
        });
        row.map_or_else(String::new, |r| {
            r["state"].as_str().unwrap_or("").to_owned()
        })
    };
    assert_eq!(state("bdev-file"), "usable", "{listed:#}");
    assert_ne!(state("bdev-malloc"), "usable", "{listed:#}");
    bench(&site);
    server.stop();
}

#[test]
fn a_plugin_of_another_hash_is_refused() {
    let mut site = Site::with_file();
    site.use_plugin_files();
    let wrong = "0".repeat(64);
    site.add_config(&format!(
        "plugins: {{scm-ram: {{}}, fabric-tcp: {{}}, bdev-file: {{sha256: '{wrong}'}}}}\n"
    ));
    site.write_config();
    let listed = site.run("daos_server", &["-o", "daos_server.yml", "plugin", "list"]);
    let text = listed.expect(0).text();
    assert!(
        text.contains("libdaos_bdev_file.so") && text.contains("sha256"),
        "{text}"
    );
    // What is linked in is no file; it serves instead.
    let server = ready(&site, &site.config_text());
    let maps = fs::read_to_string(format!("/proc/{}/maps", server.engine_pid(0)));
    let maps = maps.expect("a running engine");
    assert!(maps.contains("libdaos_scm_ram.so"), "{maps}");
    assert!(!maps.contains("libdaos_bdev_file.so"), "{maps}");
    server.stop();
}

#[test]
fn the_state_directory_holds_what_survives() {
    let site = Site::with_file();
    let server = ready(&site, &site.config_text());
    let leases = fs::read_to_string(site.path("state/leases.json")).expect("leases");
    assert!(leases.contains("bdev0"), "{leases}");
    server.stop();
}

#[test]
fn engines_run_as_the_configured_user() {
    let test = "engines_run_as_the_configured_user";
    if !Uid::effective().is_root() || !daos_e2e::may_mount() {
        return not_run(test, "changing users needs root");
    }
    let Ok(Some(user)) = User::from_name("nobody") else {
        return not_run(test, "there is no user nobody");
    };
    let mut site = Site::with_file();
    site.copy_programs();
    let group = Group::from_name("daemon").ok().flatten();
    match &group {
        Some(group) => {
            site.add_config(&format!("user_name: nobody\ngroup_name: {}\n", group.name));
        }
        None => {
            not_run(&format!("{test}: group_name"), "there is no group daemon");
            site.add_config("user_name: nobody\n");
        }
    }
    let own = site.path("own-sockets");
    site.write_config();
    let refused = site.run("daos_server", START).expect(1);
    assert!(refused.stderr.contains("chown"), "{refused}");
    let sockets = own.display().to_string();
    let line = [START, &["-d", &sockets]].concat();
    let mut server = site.start_with(&line);
    server.make_ready();
    let pid = server.engine_pid(0);
    let process = fs::metadata(format!("/proc/{pid}")).expect("a running engine");
    assert_eq!(process.uid(), user.uid.as_raw());
    let gid = group.map_or(user.gid, |g| g.gid);
    assert_eq!(process.gid(), gid.as_raw());
    let daemon = fs::metadata(format!("/proc/{}", server.pid())).expect("a running server");
    assert_eq!(daemon.uid(), 0);
    for path in [site.scm(0).join("superblock"), site.path("bdev0")] {
        let owner = fs::metadata(&path).expect("formatted storage").uid();
        assert_eq!(owner, user.uid.as_raw(), "{}", path.display());
    }
    bench(&site);
    server.kill_engine(0);
    server.wait_state("restarted", |s| {
        s["phase"] == "ready" && s["engines"][0]["restarts"] == 1
    });
    bench(&site);
    // The engine dies with the server, also as another user.
    let pid = server.engine_pid(0);
    server.kill();
    eventually("the engine dies with the server", || {
        (!server.processes().contains(&pid)).then_some(())
    });
    drop(server);
    let mut server = site.start_with(&line);
    server.wait_phase("ready");
    bench(&site);
    server.stop();
}
