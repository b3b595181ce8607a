//! Network scans: by the server's program without a server, and by the shell from a server.

use daos_e2e::{Bdev, Site, not_run};
use serde_json::Value;

fn interface<'v>(report: &'v Value, provider: &str, name: &str) -> Option<&'v Value> {
    let rows = report["interfaces"].as_array()?;
    rows.iter()
        .find(|row| row["provider"] == provider && row["interface"] == name)
}

#[test]
fn the_loopback_is_found_under_the_built_in_provider() {
    let site = Site::new();
    site.add_engine(Bdev::Malloc, 1);
    let scan = site.run("daos_server", &["network", "scan"]).expect(0);
    assert!(scan.stdout.trim_start().starts_with("PROVIDER"), "{scan}");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let shown = site.shell(&["--json", "network", "scan"]).expect(0).json();
    let report = &shown["response"]["hosts"][site.address()];
    let loopback = interface(report, "tcp", "lo").unwrap_or_else(|| panic!("no lo in {shown:#}"));
    assert_eq!(loopback["link"], "up", "{shown:#}");
    assert_eq!(loopback["plugin"], "fabric-tcp", "{shown:#}");
    // The configuration names its provider; another one is asked for by name.
    assert_eq!(report["wanted"][0], "tcp", "{shown:#}");
    let other = site.shell(&["network", "scan", "-p", "ofi+psm2"]).expect(1);
    assert!(
        other.stdout.contains("no interface for provider ofi+psm2"),
        "{other}"
    );
    server.stop();
}

#[test]
fn libfabrics_providers_are_listed_with_their_interfaces() {
    let mut site = Site::new();
    if let Err(why) = site.use_ofi("ofi+tcp;ofi_rxm") {
        return not_run(
            "libfabrics_providers_are_listed_with_their_interfaces",
            &why,
        );
    }
    site.add_engine(Bdev::Malloc, 1);
    let dir = site.path("plugins").display().to_string();
    let run = |args: &[&str]| {
        let all = [&["--plugins-dir", &dir, "network", "scan"], args].concat();
        site.run("daos_server", &all).expect(0)
    };
    let all = run(&["-p", "all", "--json"]).json();
    for (provider, name) in [("ofi+tcp;ofi_rxm", "lo"), ("ofi+shm", "shm"), ("tcp", "lo")] {
        assert!(
            interface(&all["response"], provider, name).is_some(),
            "{provider} in {all:#}"
        );
    }
    let shm = run(&["-p", "shm", "--json"]).json();
    let rows = shm["response"]["interfaces"].as_array().map(Vec::len);
    assert_eq!(rows, Some(1), "{shm:#}");
    let providers = run(&["--providers"]).stdout;
    assert!(providers.contains("tcp:\n    version: "), "{providers}");

    let mut server = site.start();
    server.wait_phase("maintenance");
    // Two names of one host: equal answers are shown once.
    let (one, other) = (site.address(), format!("localhost:{}", site.port()));
    let hosts = format!("{one},{other}");
    let folded = site
        .run("daos_shell", &["-i", "-l", &hosts, "network", "scan"])
        .expect(0);
    assert_eq!(folded.stdout.matches("PROVIDER").count(), 1, "{folded}");
    assert!(folded.stdout.contains("ofi+tcp;ofi_rxm"), "{folded}");
    assert!(
        !folded.stdout.contains("ofi+shm"),
        "the configuration names another one: {folded}"
    );
    server.stop();
}
