//! `make run`: the first thing anybody tries.

use daos_e2e::{Finished, Port, Programs, Site, User, eventually, finish, may_mount, not_run};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[track_caller]
fn assert_ran_and_left_nothing(site: &Site, done: Finished, port: u16) {
    let done = done.expect(0);
    for word in [
        "verified",
        &format!("127.0.0.1:{port}"),
        "system query",
        "storage scan",
        "plugin list",
    ] {
        assert!(done.stdout.contains(word), "{word:?} is missing in {done}");
    }
    let left: Vec<_> = fs::read_dir(site.path("tmp")).expect("ours").collect();
    assert!(left.is_empty(), "{left:?} is left by {done}");
    let port_is_free = std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    assert!(port_is_free, "somebody still listens on {port}");
}

/// `make run ONCE=1`, which builds what is not built.
#[test]
fn make_run_as_whoever_i_am() {
    let site = Site::new();
    let port = Port::reserve();
    let target = Programs::built().path("..");
    let mut command = Command::new("make");
    command
        .args(["-s", "run", "ONCE=1", "PROFILE=dev"])
        .env("CARGO_TARGET_DIR", target)
        .env("TMPDIR", site.path("tmp"))
        .env("PORT", port.number().to_string())
        .current_dir(tree());
    for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS"] {
        command.env_remove(name);
    }
    let done = finish(command, Duration::from_secs(600));
    assert_ran_and_left_nothing(&site, done, port.number());
}

/// The script behind it, on programs that are there.
fn script(site: &Site, port: &Port, variables: &[(&str, &str)]) -> Command {
    let tools = site.make_dir("tools");
    fs::copy(tree().join("tools/run"), tools.join("run")).expect("our tree");
    let mut command = site.command_of(&tools.join("run"));
    let programs = site.program("daos_server");
    command
        .env("PROGRAMS", programs.parent().expect("a directory"))
        .env("PORT", port.number().to_string())
        .envs(variables.iter().copied());
    command
}

fn run(user: User, variables: &[(&str, &str)]) {
    let site = Site::of(user);
    let port = Port::reserve();
    let mut command = script(&site, &port, variables);
    command.env("ONCE", "1");
    let done = finish(command, Duration::from_secs(120));
    assert_ran_and_left_nothing(&site, done, port.number());
}

#[test]
fn it_stays_up_until_ctrl_c() {
    let site = Site::of(User::Unprivileged);
    let port = Port::reserve();
    let output = site.path("output");
    let file = fs::File::create(&output).expect("our directory");
    let mut command = script(&site, &port, &[("BDEV", "malloc")]);
    command
        .stdin(Stdio::null())
        .stderr(file.try_clone().expect("our file"))
        .stdout(file);
    // As a terminal does: one group for all, which Ctrl-C reaches as a whole.
    command.process_group(0);
    let mut child = command.spawn().expect("our script");
    let group = Pid::from_raw(child.id() as i32);
    let text = || fs::read_to_string(&output).unwrap_or_default();
    let up = eventually("the workload is done", || {
        let ended = child.try_wait().expect("our child").is_some();
        let up = text().contains("Ctrl-C ends it");
        (up || ended).then_some(up)
    });
    // Whatever comes now: nothing is left running.
    let signalled = killpg(group, Signal::SIGINT);
    let status = eventually("the script ends", || child.try_wait().expect("our child"));
    let _ = killpg(group, Signal::SIGKILL);
    assert!(up && signalled.is_ok(), "{}", text());
    assert_eq!(status.code(), Some(130), "{}", text());
    let done = Finished {
        line: "tools/run".to_owned(),
        code: Some(0),
        stdout: text(),
        stderr: String::new(),
    };
    assert_ran_and_left_nothing(&site, done, port.number());
}

#[test]
fn run_without_privileges() {
    run(User::Unprivileged, &[]);
}

#[test]
fn run_on_memory_with_plugins_from_files() {
    run(User::Caller, &[("BDEV", "malloc"), ("PLUGINS", "dir")]);
}

#[test]
fn run_on_a_kernel_device_with_plugins_from_files() {
    if may_mount() && Path::new("/dev/loop-control").exists() {
        run(User::Caller, &[("BDEV", "kdev"), ("PLUGINS", "dir")]);
    } else {
        let test = "run_on_a_kernel_device_with_plugins_from_files";
        not_run(test, "loop devices need root");
    }
}

#[test]
fn run_refuses_what_it_does_not_know() {
    for (name, value) in [("BDEV", "floppy"), ("PLUGINS", "none")] {
        let mut command = Command::new(tree().join("tools/run"));
        command.env(name, value);
        let done = finish(command, Duration::from_secs(10)).expect(1);
        assert!(done.stderr.contains(value), "{done}");
    }
}
