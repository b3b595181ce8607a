//! Clients that say little or nothing: they are turned away in the end, and keep nobody out.

use crate::control_plane::waiting;
use daos_e2e::Site;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn clients_that_dawdle_are_turned_away_and_hold_up_nobody() {
    let site = Site::with_file();
    let server = waiting(&site);
    // One that says nothing, one that never finishes its greeting, one that stops in the middle of a frame.
    let begins: [&[u8]; 3] = [
        b"",
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x7f\x01",
    ];
    let mut dawdlers = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(site.address()).expect("a connection");
        stream.write_all(begins[number % 3]).expect("a begin");
        dawdlers.push(stream);
    }
    let begun = Instant::now();
    site.shell(&["system", "query"]).expect(0);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    // The first two kinds are turned away after ten seconds, the third when it has not answered a ping, after eighty.
    for (number, patience) in [(0, 40), (1, 40), (2, 120)] {
        let stream = &mut dawdlers[number];
        stream
            .set_read_timeout(Some(Duration::from_secs(patience)))
            .expect("a limit");
        let mut rest = Vec::new();
        // Reset or closed, whichever comes first; what counts is that it ends.
        let end = stream.read_to_end(&mut rest);
        let waits = end
            .as_ref()
            .is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!waits, "dawdler {number} is still there");
    }
    site.shell(&["system", "query"]).expect(0);
    drop(dawdlers);
    server.stop();
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    const IDLE: usize = 10_000;
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .expect("the limit of open files");
    let wanted = IDLE as u64 + 2_000;
    if hard < wanted {
        daos_e2e::not_run(
            "10,000 idle connections",
            &format!("only {hard} open files are allowed"),
        );
        return;
    }
    if soft < wanted {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, wanted, hard)
            .expect("the limit can be raised");
    }
    let site = Site::with_file();
    let server = waiting(&site);
    assert!(
        server.log().contains("connections and files"),
        "{}",
        server.log()
    );
    // Real connections: greeted in HTTP/2, with settings, and then at rest.
    const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut stream = TcpStream::connect(site.address()).expect("a connection");
        stream.write_all(GREETING).expect("a greeting");
        idle.push(stream);
    }
    let begun = Instant::now();
    site.shell(&["system", "query"]).expect(0);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    drop(idle);
    site.shell(&["system", "query"]).expect(0);
    server.stop();
}
