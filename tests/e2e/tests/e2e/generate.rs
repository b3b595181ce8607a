//! `daos_server config generate` on the machine that the tests run on.

use daos_e2e::{Site, User};
use std::fs;

fn generate(site: &Site, args: &[&str]) -> daos_e2e::Finished {
    let state = site.path("state").display().to_string();
    let all = [&["--state-dir", &state, "config", "generate"], args].concat();
    site.run("daos_server", &all)
}

#[test]
fn the_generated_file_passes_the_check_and_starts_an_engine() {
    for user in [User::Caller, User::Unprivileged] {
        let site = Site::of(user);
        let printed = generate(&site, &[]).expect(0).stdout;
        let file = site.path("home").join("made.yml");
        let shown = file.display().to_string();
        generate(&site, &["-o", &shown]).expect(0);
        let written = fs::read_to_string(&file).expect("a file");
        // What is free changes from moment to moment; the rest does not.
        let stable = |text: &str| {
            let lines = text.lines().filter(|l| !l.contains("size:"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(stable(&printed), stable(&written));
        site.run("daos_server", &["config", "check", &shown])
            .expect(0);
        // A file is not replaced by accident.
        let again = generate(&site, &["-o", &shown]).expect(1);
        assert!(again.stderr.contains("--force"), "{again}");
        generate(&site, &["-o", &shown, "--force"]).expect(0);

        // The same fabric and cores on storage of the site's.
        let json = generate(&site, &["--json"]).expect(0).json();
        let engine = &json["response"]["engines"][0];
        assert_eq!(
            json["response"]["yaml"].as_str().map(stable),
            Some(stable(&printed))
        );
        let text = |key: &str| engine[key].as_str().unwrap_or_default().to_owned();
        for key in ["fabric_reason", "cores_reason", "scm_reason", "bdev_reason"] {
            assert!(!text(key).is_empty(), "{key} in {json:#}");
        }
        let provider = json["response"]["provider"].as_str().unwrap_or_default();
        let mut site = site;
        site.choose_fabric();
        let bdev = daos_e2e::Bdev::File(site.path("bdev0"));
        site.add_engine(bdev, 1);
        site.change_engine(0, |e| {
            e.extra = format!(
                "  provider: '{provider}'\n  fabric_iface: '{}'\n  fabric_iface_port: {}\n  first_core: {}\n",
                text("fabric_iface"),
                engine["fabric_iface_port"],
                engine["first_core"],
            );
        });
        let mut server = site.start();
        server.make_ready();
        server.stop();
    }
}

#[test]
fn options_that_this_machine_cannot_serve_are_refused() {
    let site = Site::new();
    for (args, words) in [
        (&["-e", "64"][..], "lower -e"),
        (&["-p", "ofi+psm2"], "no plugin provides fabric class `ofi`"),
        (&["-f", "1,2,3,4,5,6,7,8,9"], "give one per engine"),
        (&["-r", "a,b"], "odd number"),
    ] {
        let refused = generate(&site, args).expect(1);
        assert!(refused.stderr.contains(words), "{refused}");
        assert_eq!(refused.stdout, "", "{refused}");
    }
    let file = site.path("none.yml");
    let shown = file.display().to_string();
    generate(&site, &["-p", "ofi+psm2", "-o", &shown]).expect(1);
    assert!(!file.exists());
}
