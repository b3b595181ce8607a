//! What keys of the configuration do, seen from outside. `docs/config-keys.md` names these tests.

use crate::data::bench;
use crate::traces::assert_only_storage_is_left;
use daos_e2e::{Bdev, Port, Server, Site, eventually, not_run};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Group, Uid, User};
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const START: &[&str] = &["-o", "daos_server.yml", "start", "-i"];

/// Adds lines to the one entry of `servers:`, replacing keys that the site sets itself.
fn with_server_keys(site: &Site, lines: &[&str]) -> String {
    let text = site.config_text();
    let name = |line: &str| line.trim().split(':').next().unwrap_or("").to_owned();
    let mut out: Vec<String> = Vec::new();
    let mut replaced: Vec<&str> = Vec::new();
    let mut in_servers = false;
    for line in text.lines() {
        in_servers |= line.starts_with("servers:");
        let key = name(line.trim_start_matches("- "));
        match lines.iter().find(|l| name(l) == key) {
            Some(new) if in_servers => {
                let indent = if line.starts_with("- ") { "- " } else { "  " };
                out.push(format!("{indent}{new}"));
                replaced.push(new);
            }
            _ => out.push(line.to_owned()),
        }
    }
    for line in lines.iter().filter(|l| !replaced.contains(l)) {
        out.push(format!("  {line}"));
    }
    out.join("\n") + "\n"
}

/// Writes a text as the configuration, starts, formats.
fn ready<'a>(site: &'a Site, text: &str) -> Server<'a> {
    site.write_text(text);
    let mut server = site.start_with(START);
    server.make_ready();
    server
}

/// Words of an engine's command line, each with what follows it.
fn assert_arguments(server: &Server<'_>, index: usize, wanted: &[(&str, &str)]) {
    let path = format!("/proc/{}/cmdline", server.engine_pid(index));
    let line = fs::read_to_string(path).expect("a running engine");
    let words: Vec<&str> = line.split('\0').collect();
    for (flag, value) in wanted {
        let found = words.windows(2).any(|pair| pair == [*flag, *value]);
        assert!(found, "{flag} {value} is missing in {words:?}");
    }
}

fn environment(server: &Server<'_>, index: usize) -> Vec<String> {
    let path = format!("/proc/{}/environ", server.engine_pid(index));
    let text = fs::read_to_string(path).expect("a running engine");
    text.split('\0').map(str::to_owned).collect()
}

#[track_caller]
fn assert_variables(server: &Server<'_>, index: usize, wanted: &[&str]) {
    let found = environment(server, index);
    for variable in wanted {
        assert!(
            found.iter().any(|v| v == variable),
            "{variable} is missing in {found:?}"
        );
    }
}

/// Names of an engine's threads, and the cores each may run on.
fn threads(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running engine");
    tasks
        .flatten()
        .map(|task| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let field = |name: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(name));
                line.unwrap_or("").trim().to_owned()
            };
            (field("Name:"), field("Cpus_allowed_list:"))
        })
        .collect()
}

#[test]
fn targets_helpers_and_cores_are_as_configured() {
    let site = Site::with_file();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let first = cores - 1;
    let text = with_server_keys(
        &site,
        &[
            "targets: 1",
            "nr_xs_helpers: 1",
            &format!("first_core: {first}"),
        ],
    );
    let server = ready(&site, &format!("hyperthreads: true\n{text}"));
    let pid = server.engine_pid(0);
    let found = threads(pid);
    let targets: Vec<_> = found
        .iter()
        .filter(|t| t.0.starts_with("target-"))
        .collect();
    assert_eq!(targets.len(), 1, "{found:?}");
    // The numbers of usable cores need not be 0, 1, 2 in a container; here they mostly are.
    let own = fs::read_to_string("/proc/self/status").expect("ours");
    let all = format!("Cpus_allowed_list:\t0-{first}");
    if cores > 1 && own.contains(&all) {
        assert_eq!(targets[0].1, first.to_string(), "{found:?}");
    } else {
        not_run(
            "targets_helpers_and_cores_are_as_configured: first_core",
            "this process may use other cores than 0 to N, or one alone",
        );
    }
    let helpers = found.iter().filter(|t| t.0.starts_with("helper-")).count();
    assert!(helpers >= 1, "{found:?}");
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a running engine");
    assert!(line.contains("--hyperthreads"), "{line}");
    server.stop();
}

#[test]
fn rank_names_and_modules_reach_the_engine() {
    let site = Site::with_file();
    let text = with_server_keys(
        &site,
        &["rank: 3", "name: engines_own", "modules: 'vos,obj'"],
    );
    let server = ready(&site, &text.replace("name: daos_server", "name: my_system"));
    let state = site.state().expect("the server answers");
    assert_eq!(state["engines"][0]["rank"], 3, "{state:#}");
    assert_eq!(state["system"], "my_system", "{state:#}");
    assert_arguments(&server, 0, &[("-g", "engines_own"), ("-m", "vos,obj")]);
    site.daos(&["--system", "my_system", "--rank", "3", "query"])
        .expect(0);
    let other = site.daos(&["--system", "other", "query"]).expect(1);
    assert!(other.stderr.contains("my_system"), "{other}");
    site.daos(&["--rank", "0", "query"]).expect(1);
    server.stop();
}

#[test]
fn modules_of_the_file_are_those_of_engines_without_their_own() {
    let site = Site::with_file();
    let text = format!("modules: 'vos,mgmt'\n{}", site.config_text());
    let server = ready(&site, &text);
    assert_arguments(&server, 0, &[("-m", "vos,mgmt")]);
    server.stop();
}

#[test]
fn engines_log_where_and_what_they_are_told() {
    let site = Site::with_file();
    let log = site.path("engine.log");
    let log_file = format!("log_file: '{}'", log.display());
    let text = with_server_keys(&site, &["log_mask: DEBUG", &log_file]);
    let server = ready(&site, &text);
    assert_variables(
        &server,
        0,
        &["D_LOG_MASK=DEBUG", &format!("D_LOG_FILE={}", log.display())],
    );
    server.stop();
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.contains("stopping"), "{text}");

    // Only what matters more than the mask is written.
    fs::remove_file(&log).expect("our file");
    site.write_text(&with_server_keys(&site, &["log_mask: ERR", &log_file]));
    let mut server = site.start_with(START);
    server.wait_phase("ready");
    server.stop();
    let text = fs::read_to_string(&log).expect("a log");
    assert!(!text.contains("INFO"), "{text}");
}

#[test]
fn environment_variables_reach_the_engine_in_either_spelling() {
    for lines in [
        &["env_vars: ['CRT_TIMEOUT=30', 'WITH=a=b']"][..],
        &["env_vars:\n    CRT_TIMEOUT=30\n    WITH=a=b"],
    ] {
        let site = Site::with_file();
        let server = ready(&site, &with_server_keys(&site, lines));
        assert_variables(&server, 0, &["CRT_TIMEOUT=30", "WITH=a=b"]);
        server.stop();
    }
}

#[test]
fn fabric_keys_of_an_engine_win_over_those_of_the_file() {
    let site = Site::with_file();
    let port = Port::reserve();
    let number = port.number();
    let keys = [
        "provider: sockets",
        "fabric_iface: lo",
        &format!("fabric_iface_port: {number}"),
        "targets: 1",
    ];
    let text =
        with_server_keys(&site, &keys).replacen("fabric_iface: lo\n", "fabric_iface: no0\n", 1);
    let server = ready(&site, &text);
    let variables = [
        "D_PROVIDER=sockets",
        "D_INTERFACE=lo",
        &format!("D_PORT={number}"),
    ];
    assert_variables(&server, 0, &variables);
    let state = site.state().expect("the server answers");
    let uri = state["engines"][0]["uri"].as_str().unwrap_or("");
    assert!(uri.starts_with("sockets://"), "{state:#}");
    TcpStream::connect(("127.0.0.1", number)).expect("the engine listens on its port");
    server.stop();
}

#[test]
fn fabric_keys_of_the_file_are_those_of_engines_without_their_own() {
    for (line, words) in [
        ("fabric_ifaces: [lo]", "fabric_iface: lo\n"),
        ("fabric_iface: lo", "fabric_iface: lo\n"),
    ] {
        let site = Site::with_file();
        let port = Port::reserve();
        let text = site.config_text().replacen(words, "", 1);
        let number = port.number();
        let text = format!("{line}\nfabric_iface_port: {number}\n{text}");
        let server = ready(&site, &text);
        let variables = [
            "D_PROVIDER=tcp",
            "D_INTERFACE=lo",
            &format!("D_PORT={number}"),
        ];
        assert_variables(&server, 0, &variables);
        server.stop();
    }
}

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
fn scm_has_its_place_and_size() {
    let mut site = Site::with_file();
    let base = site.memory_dir().join("below");
    site.add_config(&format!("scm_mount_path: '{}'\n", base.display()));
    let text = site.config_text();
    let mount = format!("  scm_mount: '{}'\n", site.scm(0).display());
    assert!(text.contains(&mount));
    let text = text
        .replace(&mount, "")
        .replace("scm_size_mib: 128", "scm_size: 1");
    let server = ready(&site, &text);
    let place = base.join("0");
    assert!(place.join("superblock").is_file());
    assert_arguments(&server, 0, &[("-s", &place.display().to_string())]);
    if daos_e2e::may_mount() {
        let stat = statvfs(&place).expect("a mounted file system");
        let bytes = stat.blocks() as u64 * stat.fragment_size() as u64;
        // A tmpfs takes a GB for 2^30 bytes.
        assert_eq!(bytes, 1 << 30);
    } else {
        not_run(
            "scm_has_its_place_and_size: the size",
            "mounting needs root",
        );
    }
    server.stop();
}

#[test]
fn block_devices_have_their_number_and_size() {
    let site = Site::new();
    site.add_engine(Bdev::Malloc, 2);
    let server = ready(&site, &with_server_keys(&site, &["bdev_number: 2"]));
    let list = fs::read_to_string(site.scm(0).join("daos_nvme.conf")).expect("a list of devices");
    let devices = list.matches("\"label\"").count();
    assert_eq!(devices, 2, "{list}");
    server.stop();

    let site = Site::with_file();
    let text = site
        .config_text()
        .replace("bdev_size_mib: 512", "bdev_size: 1");
    let server = ready(&site, &text);
    let size = fs::metadata(site.path("bdev0")).expect("a device").len();
    // A GB in whole blocks.
    assert_eq!(size, 1_000_000_000 / 4096 * 4096);
    server.stop();
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
fn an_engine_may_have_a_socket_directory_of_its_own() {
    let site = Site::with_file();
    let own = site.path("own-sockets");
    let key = format!("socket_dir: '{}'", own.display());
    let server = ready(&site, &with_server_keys(&site, &[&key]));
    assert_arguments(&server, 0, &[("-d", &own.display().to_string())]);
    let count = |dir: &Path| fs::read_dir(dir).expect("a directory").count();
    // The lock, the server's socket, the engine's.
    assert_eq!(count(&own), 3);
    assert_eq!(count(&site.path("sockets")), 2);
    server.stop();
    assert_eq!(count(&own), 0);
    assert_only_storage_is_left(&site);
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
