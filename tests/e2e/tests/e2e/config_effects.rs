//! What keys of an engine do, seen from outside. `docs/config-keys.md` names these tests.

use crate::traces::assert_only_storage_is_left;
use daos_e2e::{Bdev, Port, Server, Site, not_run};
use nix::sys::statvfs::statvfs;
use std::fs;
use std::net::TcpStream;
use std::path::Path;

pub(crate) const START: &[&str] = &["-o", "daos_server.yml", "start", "-i"];

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
pub(crate) fn ready<'a>(site: &'a Site, text: &str) -> Server<'a> {
    site.write_text(text);
    let mut server = site.start_with(START);
    server.make_ready();
    server
}

/// Words of an engine's command line, each with what follows it.
pub(crate) fn assert_arguments(server: &Server<'_>, index: usize, wanted: &[(&str, &str)]) {
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
pub(crate) fn assert_variables(server: &Server<'_>, index: usize, wanted: &[&str]) {
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
        "provider: tcp",
        "fabric_iface: lo",
        &format!("fabric_iface_port: {number}"),
        "targets: 1",
    ];
    let text = with_server_keys(&site, &keys)
        .replacen("provider: 'tcp'\n", "provider: 'acme'\n", 1)
        .replacen("fabric_iface: lo\n", "fabric_iface: no0\n", 1);
    assert!(text.contains("acme") && text.contains("no0"), "{text}");
    let server = ready(&site, &text);
    let variables = [
        "D_PROVIDER=tcp",
        "D_INTERFACE=lo",
        &format!("D_PORT={number}"),
    ];
    assert_variables(&server, 0, &variables);
    let state = site.state().expect("the server answers");
    let uri = state["engines"][0]["uri"].as_str().unwrap_or("");
    assert!(uri.starts_with("tcp://"), "{state:#}");
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
fn the_list_of_devices_has_the_form_that_its_engine_reads() {
    let site = Site::with_file();
    let list = |site: &Site| fs::read_to_string(site.scm(0).join("daos_nvme.conf"));
    let text = site.config_text();
    // Whoever it is, it does not live long with these options.
    site.write_text(&format!(
        "engine_path: /bin/true\nengine_conf_format: text\n{text}"
    ));
    let mut server = site.start_with(&["-o", "daos_server.yml", "start", "-i"]);
    server.wait_phase("maintenance");
    let done = server.format(&[]);
    let told = list(&site).unwrap_or_else(|error| panic!("no list of devices: {error}; {done}"));
    let device = site.path("bdev0").display().to_string();
    assert!(
        told.starts_with(&format!("[AIO]\n    AIO {device} AIO_")),
        "{told}"
    );
    assert!(told.ends_with("_0 4096\n"), "{told}");
    server.stop();
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
