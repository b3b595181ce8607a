//! `storage prepare`: what reaches the plugin, what is told without one, and how a failure ends. What it does to
//! devices is tested where there are devices, in `tests/vm`.

use daos_e2e::{Finished, Site};
use fixture_files::{HOSTILE, install};

/// A site with a plugin that tells what it was asked for, or fails as `behaviour` says.
fn site(lines: &str, behaviour: &str) -> Site {
    let mut site = Site::with_file();
    site.use_plugin_files();
    install(HOSTILE, &site.path("plugins"), "hostile.so");
    site.add_config(&format!(
        "{lines}plugins:\n  bdev-file: {{}}\n  fabric-tcp: {{}}\n  scm-ram: {{}}\n  fixture-hostile:\n    settings: \
         {{on: {{prepare: {behaviour}}}}}\n"
    ));
    site.write_config();
    site
}

fn prepare(site: &Site, args: &[&str]) -> Finished {
    let all = [&["-o", "daos_server.yml", "storage", "prepare"], args].concat();
    site.run("daos_server", &all)
}

#[test]
fn the_configuration_says_which_and_how_many() {
    let lines = "nr_hugepages: 77\nbdev_include: [\"0000:41:00.0\", \"0000.42.00.0\"]\nbdev_exclude: [\"0000:43:00.0\"]\n";
    let site = site(lines, "slow:1");
    let shown = prepare(&site, &["-n", "--dry-run"]).expect(0);
    for words in [
        "mode=\"plan\"",
        "hugepages=77",
        "devices=[\"0000:41:00.0\",\"0000:42:00.0\"]",
        "exclude=[\"0000:43:00.0\"]",
    ] {
        assert!(shown.stdout.contains(words), "{words} in {shown}");
    }
    let words = [
        "-n",
        "--dry-run",
        "-p",
        "5",
        "-w",
        "0000.99.00.0",
        "-u",
        "root",
    ];
    let shown = prepare(&site, &words).expect(0);
    for words in [
        "hugepages=5",
        "devices=[\"0000:99:00.0\"]",
        "exclude=[]",
        "user=\"root\"",
    ] {
        assert!(shown.stdout.contains(words), "{words} in {shown}");
    }
    let unknown = prepare(&site, &["-n", "--dry-run", "-u", "no-such-user"]).expect(1);
    assert!(
        unknown.stderr.contains("there is no user no-such-user"),
        "{unknown}"
    );
    prepare(&site, &["-n", "-s", "--dry-run"]).expect(2);
}

#[test]
fn a_failure_of_one_kind_is_told_by_the_exit_code() {
    let site = site("", "fail");
    let both = prepare(&site, &["--dry-run", "--json"]).expect(3);
    let document = both.json();
    assert_eq!(
        document["error"], "not everything of NVMe succeeded",
        "{both}"
    );
    let faults = document["response"]["nvme"]["faults"]
        .as_array()
        .map(Vec::len);
    assert_eq!(faults, Some(1), "{both}");
    assert!(
        document["response"]["scm"]["notes"][0].is_string(),
        "{both}"
    );
    let memory = prepare(&site, &["-s", "--dry-run"]).expect(0);
    assert!(memory.stdout.contains("SCM:"), "{memory}");
}

#[test]
fn without_a_plugin_it_says_which_one() {
    let site = Site::new();
    let args = ["storage", "prepare", "-n", "--status"];
    let shown = site.run("daos_server", &args).expect(3);
    assert!(
        shown.stderr.contains("libdaos_bdev_nvme_spdk.so"),
        "{shown}"
    );
}
