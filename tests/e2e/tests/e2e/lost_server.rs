//! A server that is killed while the shell follows what it does: the shell fails, says of which host and during what, and
//! what to do next.

use crate::burn_in::blank_site;
use crate::format_death::{STOP_AT, can_stop};
use daos_e2e::{Finished, Server, Site, eventually, finish};
use std::thread;
use std::time::Duration;

/// Long enough for a shell that notices; one that does not would wait for ever.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts the shell, kills the server when `middle` is reached, and returns what the shell says then.
#[track_caller]
fn killed_in(
    site: &Site,
    server: &mut Server<'_>,
    args: &[&str],
    middle: impl FnOnce(&Server<'_>),
) -> Finished {
    let mut command = site.command("daos_shell");
    command.args(["-i", "-l", &site.address()]).args(args);
    let shell = thread::spawn(move || finish(command, LIMIT));
    middle(server);
    server.kill();
    shell.join().expect("the shell ends")
}

/// One error, which names the host and has all of that.
#[track_caller]
fn assert_says(site: &Site, done: &Finished, words: &[&str]) {
    let prefix = format!(
        "ERROR: {}: the connection to the server was lost during ",
        site.address()
    );
    let error = done.stderr.lines().find(|line| line.starts_with("ERROR: "));
    let error = error.unwrap_or_else(|| panic!("no error: {done}"));
    assert!(error.starts_with(&prefix), "{done}");
    for word in words.iter().chain(&["journalctl -u daos_server"]) {
        assert!(error.contains(word), "nothing of {word:?}: {done}");
    }
    assert!(!error.contains("h2 protocol"), "{done}");
}

#[test]
fn in_a_format() {
    if !can_stop("lost_server::in_a_format") {
        return;
    }
    let mut site = Site::with_file();
    site.set_env(STOP_AT, "labelled");
    let stopped = |server: &Server<'_>| {
        server.wait_stopped("the format");
    };
    let mut server = site.start();
    server.wait_phase("maintenance");
    let args = ["storage", "format", "--force"];
    let done = killed_in(&site, &mut server, &args, stopped).expect(1);
    let words = ["the format", "daos_shell system query", "--reformat"];
    assert_says(&site, &done, &words);
    drop(server);

    let mut server = site.start();
    server.wait_phase("maintenance");
    let args = ["--json", "storage", "format", "--force", "--reformat"];
    let done = killed_in(&site, &mut server, &args, stopped).expect(1);
    let answer = done.json();
    let error = &answer["response"][site.address()]["error"];
    for word in words {
        assert!(
            error.as_str().is_some_and(|e| e.contains(word)),
            "{answer:#}"
        );
    }
    drop(server);

    // What it says to do works.
    site.clear_env(STOP_AT);
    let mut server = site.start();
    server.wait_phase("maintenance");
    site.shell(&["system", "query"]).expect(0);
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    server.stop();
}

#[test]
fn in_a_burn_in() {
    let site = blank_site();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let status = ["--json", "storage", "burn-in", "status"];
    let measured = |server: &Server<'_>| {
        eventually("something is measured", || {
            let done = site.shell(&status);
            let record = &done.json()["response"]["hosts"][site.address()];
            let device = &record.as_array()?.last()?["devices"][0];
            (device["reads"]["count"].as_u64()? > 0).then_some(())
        });
        assert!(!server.helpers().is_empty());
    };
    let args = ["storage", "burn-in", "start", "--all", "--follow"];
    let done = killed_in(&site, &mut server, &args, measured).expect(1);
    assert_says(
        &site,
        &done,
        &["the burn-in", "daos_shell storage burn-in report"],
    );
    drop(server);

    let mut server = site.start();
    server.wait_phase("maintenance");
    // Interrupted: that is no success either.
    let told = site.shell(&["storage", "burn-in", "report"]).expect(1);
    assert!(told.text().contains("interrupted"), "{told}");
    server.stop();
}

/// Of a host that is gone and one that is not, only the former is the error; what the other says is shown.
#[test]
fn of_one_host_of_two() {
    let (lost, well) = (blank_site(), blank_site());
    let mut server = lost.start();
    server.wait_phase("maintenance");
    let mut other = well.start();
    other.wait_phase("maintenance");
    let run = |site: &Site, time: &str| {
        let args = ["storage", "burn-in", "start", "--all", "--duration", time];
        site.shell(&args).expect(0)
    };
    run(&lost, "1h");
    run(&well, "3s");
    let both = format!("{},{}", lost.address(), well.address());
    let args = ["-l", &both, "storage", "burn-in", "status", "--follow"];
    let mut command = lost.command("daos_shell");
    command.arg("-i").args(args);
    let shell = thread::spawn(move || finish(command, LIMIT));
    thread::sleep(Duration::from_secs(1));
    server.kill();
    let done = shell.join().expect("the shell ends").expect(1);
    assert_says(&lost, &done, &["daos_shell storage burn-in report"]);
    assert!(done.stdout.contains(&well.address()), "{done}");
    assert!(done.stdout.contains("passed"), "{done}");
    drop(server);
    other.stop();
}
