//! The life of a server from outside: what keeps it from starting, what it leaves, how it looks after its
//! engines.

use crate::data::{Workload, bench};
use crate::traces::assert_only_storage_is_left;
use daos_e2e::{Finished, Site, User, eventually};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn refused(site: &Site, args: &[&str]) -> Finished {
    let start = [&["-o", "daos_server.yml", "start", "-i"][..], args].concat();
    site.run("daos_server", &start).expect(1)
}

#[track_caller]
fn assert_says(done: &Finished, words: &[&str]) {
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} is missing in {done}");
    }
}

#[test]
fn a_socket_directory_that_cannot_be_used_is_refused_with_the_remedy() {
    // Root may write anywhere, so this is for others.
    let site = Site::of(User::Unprivileged);
    site.add_engine(daos_e2e::Bdev::Malloc, 1);
    site.write_config();
    let remedies = ["-d", "socket_dir:"];

    let missing = site.path("a/b").display().to_string();
    let done = refused(&site, &["-d", &missing]);
    assert_says(
        &done,
        &["Unable to create socket directory", &missing, "mkdir -p"],
    );
    assert_says(&done, &remedies);

    let file = site.path("file");
    fs::write(&file, "").expect("our directory");
    let file = file.display().to_string();
    let done = refused(&site, &["-d", &file]);
    assert_says(&done, &["is not a directory", &file]);
    assert_says(&done, &remedies);

    let locked = site.make_dir("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).expect("our directory");
    let locked = locked.display().to_string();
    let done = refused(&site, &["-d", &locked]);
    assert_says(
        &done,
        &[
            "permissions failure accessing socket directory",
            &locked,
            "chown",
        ],
    );
    assert_says(&done, &remedies);

    // The last part of the path alone is made.
    let fresh = site.path("fresh").display().to_string();
    let mut server = site.start_with(&["-o", "daos_server.yml", "start", "-i", "-d", &fresh]);
    server.wait_phase("maintenance");
    server.stop();
    assert_eq!(fs::read_dir(&fresh).expect("a directory").count(), 0);
}

#[test]
fn sockets_of_a_dead_server_are_replaced_and_those_of_a_live_process_refused() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let pid = server.engine_pid(0);
    server.kill();
    drop(server);
    let own = site.path("sockets/daos_server.sock");
    let engine = site.path(&format!("sockets/daos_engine_{pid}.sock"));
    assert!(own.exists() && engine.exists(), "nothing stale to replace");
    let mut server = site.start();
    server.wait_phase("ready");
    assert!(!engine.exists(), "{} is left", engine.display());
    server.stop();
    assert_only_storage_is_left(&site);

    let kind = (AddressFamily::Unix, SockType::SeqPacket);
    let live = socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    let address = UnixAddr::new(&own).expect("a short path");
    bind(std::os::fd::AsRawFd::as_raw_fd(&live), &address).expect("nobody is there");
    listen(&live, Backlog::new(1).expect("small")).expect("our socket");
    let done = refused(&site, &[]);
    let pid = format!("process {}", std::process::id());
    assert_says(&done, &["daos_server.sock", &pid, "socket_dir"]);
    assert!(own.exists(), "somebody else's socket was removed");
    drop(live);
    let mut server = site.start();
    server.wait_phase("ready");
    server.stop();
}

/// Names of everything below a directory.
fn names(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of ours") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

#[test]
fn a_server_that_ends_leaves_its_storage_and_nothing_else() {
    let site = Site::with_file();
    site.write_config();
    let before = names(site.dir());
    let mut server = site.start();
    server.wait_phase("maintenance");
    server.stop();
    let unformatted: Vec<_> = names(site.dir()).difference(&before).cloned().collect();
    let allowed = [".daos_server.active.yml", "server.log"].map(|name| site.path(name));
    let state = site.path("state");
    assert!(
        unformatted
            .iter()
            .all(|p| allowed.contains(p) || p.starts_with(&state)),
        "{unformatted:?}"
    );

    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    workload.write();
    server.stop();
    let once = names(site.dir());
    for path in once.difference(&before) {
        let storage = path.starts_with(site.scm(0)) || *path == site.path("bdev0");
        let known = allowed.contains(path) || path.starts_with(&state);
        let ours = path.starts_with(site.path("work"));
        assert!(storage || known || ours, "{} is left", path.display());
    }
    // Another life adds nothing to what the first one left.
    let mut server = site.start();
    server.wait_phase("ready");
    workload.verify();
    bench(&site);
    server.stop();
    assert_eq!(names(site.dir()), once);
    assert_only_storage_is_left(&site);
}

#[test]
fn an_engine_that_dies_again_and_again_is_restarted_ever_later_and_then_given_up() {
    let mut site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    server.stop();
    site.add_config("engine_path: /bin/false\n");
    let mut server = site.start();
    let mut pauses = Vec::new();
    for number in 1..=4u64 {
        let state = server.wait_state("waiting for a restart", |s| {
            let engine = &s["engines"][0];
            engine["state"] == "restarting" && engine["restarts"].as_u64() >= Some(number)
        });
        let engine = &state["engines"][0];
        let time = |key: &str| engine[key].as_u64().unwrap_or(0);
        pauses.push(time("restart_at_ms") - time("since_ms"));
        let reason = engine["reason"].as_str().unwrap_or("");
        assert!(reason.contains("exited with status 1"), "{state:#}");
    }
    assert!(
        pauses.is_sorted() && pauses[0] >= 400 && pauses[3] >= 3000,
        "{pauses:?}"
    );
    let text = site.shell(&["system", "query"]).expect(0).stdout;
    for word in ["restarting", "SINCE", "exited with status 1", "restart "] {
        assert!(text.contains(word), "{word:?} is missing in {text}");
    }
    let state = server.wait_state("given up", |s| s["engines"][0]["state"] == "errored");
    let reason = state["engines"][0]["reason"].as_str().unwrap_or("");
    assert!(reason.contains("6 times in a row"), "{state:#}");
    assert_ne!(state["engines"][0]["hint"], "", "{state:#}");
    server.stop();
}

#[test]
fn a_server_that_is_told_to_end_while_an_engine_waits_for_its_restart_ends() {
    let mut site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    server.stop();
    site.add_config("engine_path: /bin/false\n");
    let mut server = site.start();
    server.wait_state("waiting for a restart", |s| {
        s["engines"][0]["state"] == "restarting" && s["engines"][0]["restarts"].as_u64() >= Some(2)
    });
    server.stop();
    assert_only_storage_is_left(&site);
}

/// The seed's options of `start`, and what becomes of each.
#[test]
fn every_option_of_start_reaches_its_place() {
    let site = Site::new();
    site.add_engine(daos_e2e::Bdev::File(site.path("bdev0")), 2);
    site.write_config();
    let scm = site.memory_dir().join("other-scm").display().to_string();
    let sockets = site.make_dir("other-sockets").display().to_string();
    let port = daos_e2e::Port::reserve();
    let number = port.number().to_string();
    let options = [
        "-p", &number, "-s", &scm, "-m", "vos,obj", "-t", "1", "-x", "1", "-f", "1", "-g", "other",
        "-a", "attach", "-d", &sockets,
    ];
    let line = [&["-o", "daos_server.yml", "start", "-i"][..], &options].concat();
    let server = site.start_with(&line);
    let address = format!("127.0.0.1:{number}");
    let shell = |args: &[&str]| site.run("daos_shell", &[&["-i", "-l", &address], args].concat());
    eventually("the server answers at its port", || {
        (shell(&["system", "query"]).code == Some(0)).then_some(())
    });
    shell(&["storage", "format", "-f"]).expect(0);
    let state = eventually("ready", || {
        let state =
            shell(&["--json", "system", "query"]).json()["response"]["hosts"][&address].take();
        (state["phase"] == "ready").then_some(state)
    });
    assert_eq!(state["system"], "other", "{state:#}");
    let pid = state["engines"][0]["pid"].as_u64().expect("a process");
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a running engine");
    let words: Vec<&str> = line.split('\0').collect();
    for (flag, value) in [
        ("-s", &scm[..]),
        ("-m", "vos,obj"),
        ("-t", "1"),
        ("-x", "1"),
        ("-f", "1"),
        ("-g", "other"),
        ("-d", &sockets),
    ] {
        let found = words.windows(2).any(|pair| pair == [flag, value]);
        assert!(found, "{flag} {value} is missing in {words:?}");
    }
    let active = fs::read_to_string(site.path(".daos_server.active.yml")).expect("beside the file");
    assert!(active.contains("attach"), "{active}");
    server.stop();
}

#[test]
fn a_missing_command_is_start_with_a_remark() {
    let site = Site::with_file();
    site.write_config();
    let mut server = site.start_with(&["-o", "daos_server.yml", "-i", "-i"]);
    server.wait_phase("maintenance");
    assert!(
        server
            .log()
            .contains("No command supplied; defaulting to start"),
        "{}",
        server.log()
    );
    server.stop();
}
