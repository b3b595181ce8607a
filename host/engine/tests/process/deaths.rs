//! How the program dies: of memory that cannot be accessed, and of signals from outside.

use super::common::{Shape, Storage, runtime};
use super::{Acknowledged, Process, load};
use daos_engine::engine::Engine;
use daos_engine::error::exit;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn a_region_that_cannot_be_accessed_ends_the_engine_with_its_place_and_is_not_used_again() {
    let storage = Storage::format(Shape {
        targets: 1,
        ..Shape::default()
    });
    let said = storage.dir().join("said");
    let stderr = std::fs::File::create(&said).expect("a file");
    let mut process = Process::start_with(&storage, stderr.into());
    let rt = runtime();
    let acknowledged = Acknowledged::default();
    let uri = process.uri.clone();
    rt.spawn(load(
        uri,
        1,
        Arc::clone(&acknowledged),
        Acknowledged::default(),
    ));
    let begun = Instant::now();
    while acknowledged.lock().unwrap().len() < 20 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is acknowledged"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    // Under load the next store comes before the look at the files.
    let region = storage.mount.join("regions/target-0.log");
    let log = std::fs::File::options()
        .write(true)
        .open(&region)
        .expect("the log");
    let whole = log.metadata().expect("a file").len();
    log.set_len(4096).expect("cut");
    let status = process.child.wait().expect("it ends");
    let signal = status.signal();
    let words = std::fs::read_to_string(&said).expect("its words");
    assert_eq!(signal, Some(Signal::SIGBUS as i32), "{status}: {words}");
    let line = words.lines().find(|line| line.contains("SIGBUS at 0x"));
    let line = line.expect("last words");
    let place = format!(" of the region {} cannot be accessed", region.display());
    assert!(
        line.starts_with("daos_io_server: ") && line.contains(&place),
        "{line}"
    );
    // Also when everything seems to be there again.
    log.set_len(whole).expect("mended");
    let error = Engine::start(&storage.options()).err().expect("refused");
    assert_eq!(error.code, exit::STORAGE, "{error}");
    assert!(
        error
            .text
            .contains("target 0: the region is marked as failed: SIGBUS"),
        "{error}"
    );
    let mark = storage.mount.join("regions/target-0.log.failed");
    assert!(error.text.contains(&mark.display().to_string()), "{error}");
}

#[test]
fn a_fatal_signal_from_outside_ends_it_at_once() {
    let storage = Storage::format(Shape {
        targets: 1,
        ..Shape::default()
    });
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        let mut process = Process::start(&storage);
        kill(Pid::from_raw(process.child.id() as i32), signal).expect("it runs");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = process.child.try_wait().expect("a child") {
                break status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "it goes on after {signal}"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let died_of = status.signal();
        assert_eq!(died_of, Some(signal as i32), "{status}");
    }
}
