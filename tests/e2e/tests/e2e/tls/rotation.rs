//! Certificates that are replaced under load.

use super::secured;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn certificates_are_replaced_while_many_call() {
    const SHELLS: usize = 6;
    let site = secured();
    let certs = site.path("certs");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let (dir, address) = (certs.display().to_string(), site.address());
    let done = AtomicBool::new(false);
    let calls = AtomicUsize::new(0);
    let command = |args: &[&str]| {
        let mut command = site.command("daos_shell");
        command.args(args);
        command
    };
    let ask = ["--cert-dir", &dir, "-l", &address, "system", "query"];
    let commands: Vec<_> = (0..SHELLS).map(|_| command(&ask)).collect();
    std::thread::scope(|scope| {
        let (done, calls) = (&done, &calls);
        for mut command in commands {
            scope.spawn(move || {
                command.stdout(Stdio::null()).stderr(Stdio::piped());
                while !done.load(Ordering::Relaxed) {
                    let output = command.output().expect("the shell runs");
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "{said}");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let before = calls.load(Ordering::Relaxed);
            let issue = ["cert", "issue", "server", "--ca-dir", &dir, "--replace"];
            let issued = site.run("daos_server", &issue);
            if issued.code != Some(0) {
                done.store(true, Ordering::Relaxed);
                panic!("{issued}");
            }
            // Everybody has called with the new one.
            let limit = Instant::now() + Duration::from_secs(60);
            while calls.load(Ordering::Relaxed) < before + 2 * SHELLS && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(calls.load(Ordering::Relaxed) >= 5 * SHELLS);
    let renewed = server
        .log()
        .matches("new certificates of this server are in use")
        .count();
    assert!(renewed >= 5, "{renewed} renewals");
    server.stop();
}
