//! One command to many hosts: what they say is told once, who fails is named, and nobody is waited for in vain.
//! The hosts are simulated; the shell and the connections are real.

use daos_certs::{Files, Identity, Role, server_config};
use daos_e2e::{Finished, PrivateDir, Programs, finish};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use simulated_hosts::{Hosts, Manner};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(Programs::built().path("daos_shell"));
    command.args(args);
    command
}

fn shell(args: &[&str]) -> Finished {
    finish(command(args), Duration::from_secs(60))
}

#[test]
fn two_hundred_hosts_that_say_the_same_are_told_once() {
    let hosts = Hosts::start(1, 200, None, |_| Manner::Well).expect("hosts");
    let port = hosts.addresses()[0].port();
    let list = format!("127.1.0.[1-200]:{port}");
    let done = shell(&["-i", "-l", &list, "storage", "scan"]).expect(0);
    assert_eq!(
        done.stdout.lines().next(),
        Some(format!("{list}:").as_str()),
        "{done}"
    );
    // Serial numbers differ, what there is does not.
    assert!(
        done.stdout.contains("Block devices: 8 nvme, 23.3 TiB"),
        "{done}"
    );
    assert!(!done.stdout.contains("Serial"), "{done}");
    assert_eq!(done.stderr, "");
    let verbose = shell(&["-i", "-l", &list, "storage", "scan", "--verbose"]).expect(0);
    assert_eq!(verbose.stdout.matches("PCI Addr:").count(), 200 * 8);
    assert!(verbose.stdout.contains("Serial:S000199-7"), "{verbose}");

    // One at a time is slow and no less complete; --json tells every host by its name.
    let done = shell(&[
        "-i",
        "-l",
        &list,
        "--fan-out",
        "1",
        "--json",
        "storage",
        "scan",
    ])
    .expect(0);
    let json = done.json();
    let told = json["response"]["hosts"].as_object().expect("hosts");
    assert_eq!(told.len(), 200, "{done}");
    for address in hosts.addresses() {
        let devices = &told[&address.to_string()]["devices"];
        assert_eq!(devices.as_array().map(Vec::len), Some(8), "{address}");
    }
    assert_eq!(json["status"], 0);
}

#[test]
fn hosts_that_differ_or_fail_are_named() {
    let manner = |number| match number {
        3 | 150 => Manner::Otherwise,
        5..=6 | 99 => Manner::Faulty,
        7 => Manner::Absent,
        8..=9 => Manner::Silent,
        _ => Manner::Well,
    };
    let hosts = Hosts::start(2, 200, None, manner).expect("hosts");
    let port = hosts.addresses()[0].port();
    let dir = PrivateDir::new(&std::env::temp_dir(), None);
    let file = dir.path().join("hosts");
    std::fs::write(
        &file,
        format!("# both racks\n127.2.0.[101-200]:{port}\n127.2.0.[1-100]:{port} # old\n"),
    )
    .expect("a file");
    let file = file.display().to_string();
    let begun = Instant::now();
    let args = [
        "-i",
        "--host-file",
        &file,
        "--timeout",
        "3",
        "storage",
        "scan",
    ];
    let done = shell(&args).expect(1);
    assert!(begun.elapsed() >= Duration::from_secs(3), "{done}");
    let headings: Vec<&str> = done
        .stdout
        .lines()
        .filter(|l| l.starts_with("127."))
        .collect();
    assert_eq!(
        headings,
        [
            format!("127.2.0.[1-3,5,11-99,101-150,152-200]:{port}:"),
            format!("127.2.0.[4,151]:{port}:"),
        ],
        "{done}"
    );
    let errors: Vec<&str> = done
        .stderr
        .lines()
        .filter(|l| l.starts_with("ERROR"))
        .collect();
    let expected = [
        (format!("ERROR: 127.2.0.[6-7,100]:{port}: "), "told to fail"),
        (format!("ERROR: 127.2.0.8:{port}: "), "onnection refused"),
        (
            format!("ERROR: 127.2.0.[9-10]:{port}: "),
            "no answer within 3 s",
        ),
    ];
    assert_eq!(errors.len(), expected.len(), "{done}");
    for (error, (start, words)) in errors.iter().zip(&expected) {
        assert!(
            error.starts_with(start) && error.contains(words),
            "{error} is not {start}{words}"
        );
    }

    let args = [&args[..5], &["--json"], &args[5..]].concat();
    let json = shell(&args).expect(1).json();
    assert_eq!(
        json["response"]["hosts"].as_object().map(|h| h.len()),
        Some(194)
    );
    let errors = json["response"]["errors"].as_object().expect("errors");
    assert_eq!(errors.len(), 6, "{errors:?}");
    assert!(
        json["error"]
            .as_str()
            .is_some_and(|e| e.starts_with("6 hosts failed")),
        "{json}"
    );
    assert_ne!(json["status"], 0);
}

#[test]
fn an_interrupted_command_tells_what_it_has_heard() {
    let manner = |number| {
        if number < 2 {
            Manner::Silent
        } else {
            Manner::Well
        }
    };
    let hosts = Hosts::start(3, 20, None, manner).expect("hosts");
    let port = hosts.addresses()[0].port();
    let list = format!("127.3.0.[1-20]:{port}");
    let mut child = command(&["-i", "-l", &list, "storage", "scan"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the shell runs");
    // Long enough for those that answer.
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        child.try_wait().expect("our child").is_none(),
        "it waits for two hosts"
    );
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it can be interrupted");
    let begun = Instant::now();
    let output = child.wait_with_output().expect("its end");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(130));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stdout.starts_with(&format!("127.3.0.[3-20]:{port}:\n")),
        "{stdout}"
    );
    assert!(
        stderr.contains(&format!("ERROR: 127.3.0.[1-2]:{port}: it had not answered")),
        "{stderr}"
    );
}

#[test]
fn a_format_that_reaches_nobody_names_them_all() {
    let done = shell(&["-i", "-l", "127.4.0.[1-3]:9", "storage", "format"]).expect(1);
    assert!(
        done.stderr
            .contains("ERROR: 127.4.0.[1-3]:9: failed to connect to the host"),
        "{done}"
    );
    assert!(done.stderr.contains("No active connections!"), "{done}");
}

#[test]
fn many_hosts_are_asked_over_tls_too() {
    let dir = PrivateDir::new(&std::env::temp_dir(), None);
    let certs = dir.path().join("certs");
    let mut init = Command::new(Programs::built().path("daos_server"));
    init.args(["cert", "init", "--dir"]).arg(&certs);
    finish(init, Duration::from_secs(60)).expect(0);
    let files = Files::in_dir(&certs, Role::Server);
    let identity = Identity::load(&files, Role::Server, "server").expect("certificates");
    let config = server_config(&identity).expect("a configuration");
    let hosts = Hosts::start(5, 50, Some(config), |_| Manner::Well).expect("hosts");
    let port = hosts.addresses()[0].port();
    let list = format!("127.5.0.[1-50]:{port}");
    let certs = certs.display().to_string();
    let done = shell(&["--cert-dir", &certs, "-l", &list, "storage", "scan"]).expect(0);
    assert!(done.stdout.starts_with(&format!("{list}:\n")), "{done}");
    // In plain text nobody answers; in which words depends on who closes the connection first.
    let done = shell(&["-i", "-l", &list, "storage", "scan"]).expect(1);
    assert!(
        done.stdout.is_empty() && done.stderr.contains("ERROR: 127.5.0."),
        "{done}"
    );
    assert!(done.stderr.contains("come without -i"), "{done}");
}

#[test]
fn host_lists_that_make_no_sense_are_told_before_anybody_is_asked() {
    for (list, words) in [
        ("node[1-3", "without \"]\""),
        ("node[3-1]", "ends before it begins"),
        ("node[1-99999]", "more than 16384 hosts"),
        ("node[1-2]:0", "no port"),
        (",", "the host list is empty"),
    ] {
        let done = shell(&["-i", "-l", list, "storage", "scan"]).expect(1);
        assert!(done.stderr.contains(words), "{list}: {done}");
        let done = shell(&["-i", "--json", "-l", list, "storage", "scan"]).expect(1);
        assert!(
            done.json()["error"]
                .as_str()
                .is_some_and(|e| e.contains(words)),
            "{list}"
        );
    }
    let done = shell(&["-i", "--host-file", "/nonexistent", "storage", "scan"]).expect(1);
    assert!(done.stderr.contains("/nonexistent"), "{done}");
    shell(&["-i", "--fan-out", "0", "storage", "scan"]).expect(2);
    shell(&["-i", "--timeout", "0", "storage", "scan"]).expect(2);
}
