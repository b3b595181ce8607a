//! Metrics for Prometheus.

use crate::data::bench;
use crate::hostile_engines::Bed;
use daos_e2e::{Bdev, Port, Site};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// The metrics as Prometheus gets them.
pub(crate) fn scrape(port: u16) -> String {
    scrape_at((Ipv4Addr::LOCALHOST, port).into())
}

/// The same from an address of another interface.
pub(crate) fn scrape_at(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// The value of a metric with these labels.
#[track_caller]
pub(crate) fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let line = text.lines().find(|line| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    });
    let line = line.unwrap_or_else(|| panic!("no {name} with {labels:?} in {text}"));
    line.rsplit(' ')
        .next()
        .and_then(|v| v.parse().ok())
        .expect("a number")
}

#[test]
fn metrics_tell_of_engines_helpers_and_devices() {
    let port = Port::reserve();
    let mut site = Site::new();
    site.add_engine(Bdev::File(site.path("bdev0")), 1);
    site.change_engine(0, |engine| engine.extra += "  bdev_layers: [{stats: {}}]\n");
    site.add_config(&format!("telemetry_port: {}\n", port.number()));
    let mut server = site.start();
    server.make_ready();
    bench(&site);
    let text = scrape(port.number());
    assert_eq!(value(&text, "daos_engine_ready", &["engine=\"0\""]), 1.0);
    assert_eq!(
        value(&text, "daos_engine_restarts_total", &["engine=\"0\""]),
        0.0
    );
    assert!(value(&text, "daos_plugin_calls_total", &["plugin=\"bdev-file\""]) >= 1.0);
    assert!(
        value(
            &text,
            "daos_plugin_helper_starts_total",
            &["plugin=\"bdev-file\""]
        ) >= 1.0
    );
    let writes = ["engine=\"0\"", "device=\"0\"", "op=\"write\""];
    assert!(value(&text, "daos_bdev_request_seconds_count", &writes) >= 1.0);
    // The first size class of both.
    let all = [&writes[..], &["le=\"+Inf\""]].concat();
    assert_eq!(
        value(&text, "daos_bdev_request_seconds_bucket", &all),
        value(&text, "daos_bdev_request_seconds_count", &writes)
    );
    assert_eq!(
        value(&text, "daos_bdev_request_failures_total", &writes),
        0.0
    );
    let scans = ["plugin=\"bdev-file\"", "operation=\"devices\""];
    assert!(value(&text, "daos_plugin_call_seconds_count", &scans) >= 1.0);
    let asked = ["method=\"daos_host.v1.HostSvc/ServerState\"", "code=\"OK\""];
    assert!(value(&text, "daos_grpc_calls_total", &asked) >= 1.0);
    assert!(value(&text, "daos_grpc_call_seconds_count", &asked[..1]) >= 1.0);
    server.kill_engine(0);
    server.wait_state("restarted", |s| {
        s["phase"] == "ready" && s["engines"][0]["restarts"] == 1
    });
    let text = scrape(port.number());
    assert_eq!(
        value(&text, "daos_engine_restarts_total", &["engine=\"0\""]),
        1.0
    );
    server.stop();
}

#[test]
fn metrics_of_plugins_are_there_from_helpers_and_engines() {
    let port = Port::reserve();
    let mut bed = Bed::new("scan: metrics");
    bed.site
        .add_config(&format!("telemetry_port: {}\n", port.number()));
    let server = bed.start();
    bed.put();
    // Registers a thousand metrics that make no sense.
    bed.misbehave(true);
    bed.site.shell(&["storage", "scan"]).expect(0);
    let text = scrape(port.number());
    let helper = ["plugin=\"fixture-hostile\"", "process=\"helper\""];
    assert!(value(&text, "daos_plugin_scans_total", &helper) >= 1.0);
    assert_eq!(value(&text, "daos_plugin_drums", &helper), 3.0);
    let waits = [&helper[..], &["le=\"0.025\""]].concat();
    assert!(value(&text, "daos_plugin_wait_seconds_bucket", &waits) >= 1.0);
    let engine = ["plugin=\"fixture-hostile\"", "process=\"engine 0\""];
    assert!(value(&text, "daos_plugin_batches_total", &engine) >= 1.0);
    // Whatever they are called, each is one line of the usual form.
    let (_, body) = text.split_once("\r\n\r\n").expect("an answer with a body");
    for line in body.lines().filter(|l| l.starts_with("daos_plugin")) {
        let (name, number) = line.rsplit_once(' ').expect("a name and a number");
        assert!(number.parse::<f64>().is_ok(), "{line}");
        assert!(name.ends_with('}'), "{line}");
    }
    let lines = body.matches("process=\"helper\"").count();
    assert!((100..2000).contains(&lines), "{lines} lines");
    server.stop();
}

#[test]
fn a_port_that_is_taken_is_told_and_keeps_nothing_from_starting() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("its number").port();
    let mut site = Site::new();
    site.add_engine(Bdev::File(site.path("bdev0")), 1);
    site.add_config(&format!("telemetry_port: {port}\n"));
    let mut server = site.start();
    server.make_ready();
    assert!(server.log().contains("choose another telemetry_port"));
    server.stop();
}
