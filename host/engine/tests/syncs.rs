//! The system calls of the program that make its files durable, as strace(1) sees them: the tests that
//! take the power away have files of their own.

mod common;

use common::{Shape, Storage};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const CALLS: &str = "trace=fsync,fdatasync,rename,renameat,renameat2,pwrite64,unlink,unlinkat";

/// Starts an engine on new storage, stops it, and returns its calls; `None` where processes cannot be
/// traced.
fn trace(storage: &Storage) -> Option<Vec<String>> {
    let usable = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status();
    if !usable.is_ok_and(|status| status.success()) {
        return None;
    }
    let out = storage.dir().join("calls");
    let mut child = Command::new("strace")
        .args(["-f", "-y", "-s", "0", "-e", CALLS, "-o"])
        .arg(&out)
        .arg(env!("CARGO_BIN_EXE_daos_io_server"))
        .args(storage.arguments())
        .arg("--no-server")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("strace runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let started = lines
        .map_while(Result::ok)
        .any(|line| line.starts_with("uri "));
    assert!(started, "the engine starts");
    // strace hands the signal on and ends with the engine.
    let engine = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))
        .expect("its child");
    let engine: i32 = engine.trim().parse().expect("one child");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(engine),
        nix::sys::signal::SIGTERM,
    )
    .expect("it runs");
    assert!(child.wait().expect("it ends").success());
    let text = std::fs::read_to_string(&out).expect("the calls");
    Some(text.lines().map(str::to_owned).collect())
}

/// Where the last call before `end` is that is named `call` and is about `what`.
fn last(calls: &[String], call: &str, what: &str, end: usize) -> Option<usize> {
    calls[..end]
        .iter()
        .rposition(|line| line.contains(&format!(" {call}(")) && line.contains(what))
}

#[test]
fn files_are_synced_before_anything_relies_on_them() {
    let storage = Storage::format(Shape {
        targets: 1,
        ..Shape::default()
    });
    let Some(calls) = trace(&storage) else {
        eprintln!(
            "NOT RUN files_are_synced_before_anything_relies_on_them: strace is missing or not allowed"
        );
        return;
    };
    let at = |name: &str| storage.mount.join(name).display().to_string();
    let open = |path: &str| format!("<{path}>");
    let all = calls.len();
    // The record that the targets were made: its content, then its name.
    let record = at("engine.json");
    let renamed = last(&calls, "rename", &format!("\"{record}\""), all).expect("it appears");
    let staged = open(&at(".engine.json.staging"));
    let synced = last(&calls, "fsync", &staged, renamed);
    assert!(
        synced.is_some(),
        "engine.json gets its name before its content is durable"
    );
    let directory = open(&storage.mount.display().to_string());
    assert!(
        calls[renamed..]
            .iter()
            .any(|c| c.contains(" fsync(") && c.contains(&directory)),
        "the name of engine.json is not made durable"
    );
    // The index is on the medium before the record says that it was made, and when the engine ends.
    let index = open(&at("target-0.index"));
    for (end, when) in [(renamed, "when the record appears"), (all, "at the end")] {
        let written = last(&calls, "pwrite64", &index, end).expect("it is written");
        let synced = last(&calls, "fdatasync", &index, end);
        assert!(synced > Some(written), "the index is not durable {when}");
    }
}

#[test]
fn what_is_removed_stays_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("superblock");
    if std::env::var_os("SYNCS_REMOVE").is_some() {
        // The process that is watched.
        let path = std::env::var_os("SYNCS_REMOVE").expect("seen");
        assert!(daos_media::atomic::remove(Path::new(&path)).expect("removed"));
        return;
    }
    std::fs::write(&path, b"x").expect("written");
    let out = dir.path().join("calls");
    let status = Command::new("strace")
        .args(["-f", "-y", "-e", CALLS, "-o"])
        .arg(&out)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "what_is_removed_stays_removed"])
        .env("SYNCS_REMOVE", &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN what_is_removed_stays_removed: strace is missing or not allowed");
        return;
    }
    let text = std::fs::read_to_string(&out).expect("the calls");
    let calls: Vec<String> = text.lines().map(str::to_owned).collect();
    let name = path.display().to_string();
    let gone = last(&calls, "unlink", &format!("\"{name}\""), calls.len()).expect("removed");
    let directory = format!("<{}>", dir.path().display());
    assert!(
        calls[gone..]
            .iter()
            .any(|c| c.contains(" fsync(") && c.contains(&directory)),
        "the removal is not made durable"
    );
}
