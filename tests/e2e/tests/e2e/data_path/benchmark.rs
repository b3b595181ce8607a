//! `daos bench` against a running node: mixed sizes, verification, latencies as text, JSON and SVG.

use daos_e2e::Site;
use std::fs;

#[test]
fn latencies_are_told_as_text_json_and_picture() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    let bench = [
        "bench", "--verify", "--ops", "300", "--size", "1..64KiB", "--depth", "4",
    ];

    let text = site
        .daos(&[&bench[..], &["--histogram"]].concat())
        .expect(0);
    for words in [
        "P99.9",
        "latency of put",
        "latency of get",
        "verified: all of",
        "#",
    ] {
        assert!(
            text.stdout.contains(words),
            "{words:?} is missing in {text}"
        );
    }

    let picture = site.path("latency.svg");
    let file = picture.display().to_string();
    let done = site
        .daos(&[&bench[..], &["--json", "--svg", &file]].concat())
        .expect(0);
    let report = done.json()["response"].take();
    assert_eq!(report["verified"], true, "{report:#}");
    for (index, name) in ["put", "get"].into_iter().enumerate() {
        let phase = &report["phases"][index];
        assert_eq!(phase["name"], name, "{report:#}");
        let counts = phase["histogram"].as_array().cloned().unwrap_or_default();
        let sum: u64 = counts.iter().filter_map(|b| b["count"].as_u64()).sum();
        assert_eq!(phase["ops"], sum, "{phase:#}");
        let percentiles = phase["percentiles"].as_array().cloned().unwrap_or_default();
        let us: Vec<_> = percentiles
            .iter()
            .filter_map(|p| p["us"].as_f64())
            .collect();
        assert!(us.len() > 20 && us.is_sorted(), "{phase:#}");
    }
    let svg = fs::read_to_string(&picture).expect("a picture");
    assert!(svg.starts_with("<svg") && svg.contains("put: ") && svg.contains("99 %"));

    // Refused before anything is measured.
    let nowhere = site.path("no/such.svg").display().to_string();
    let refused = site
        .daos(&[&bench[..], &["--svg", &nowhere]].concat())
        .expect(1);
    assert!(refused.stderr.contains("--svg"), "{refused}");
    server.stop();
}
