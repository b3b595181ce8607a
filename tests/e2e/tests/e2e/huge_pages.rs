//! Huge pages of the kernel, which a server takes at its start.

use daos_e2e::{Programs, Site, User, not_run};
use std::fs;

/// The plugin of that class.
const NVME: &str = "libdaos_bdev_nvme_spdk.so";

const PAGES: &str = "/proc/sys/vm/nr_hugepages";

fn pages() -> u64 {
    let text = fs::read_to_string(PAGES).expect("the kernel has huge pages");
    text.trim().parse().expect("a number")
}

/// As many as there were before.
struct Before(u64);

impl Drop for Before {
    fn drop(&mut self) {
        // It was possible before.
        let _ = fs::write(PAGES, self.0.to_string());
    }
}

/// A node whose engine uses NVMe, as far as its server knows: there is no such controller.
fn site(user: User, wanted: u64) -> Site {
    let mut site = Site::of(user);
    site.use_plugin_files();
    let plugin = Programs::built().path(NVME);
    let bytes = fs::read(&plugin).expect("the plugin was built");
    fixture_files::put(&site.path("plugins"), NVME, &bytes);
    let scm = site.memory_dir().join("scm");
    site.add_config(&format!(
        "nr_hugepages: {wanted}\nservers:\n- targets: 1\n  scm_class: ram\n  scm_size_mib: 128\n  scm_mount: '{}'\n  \
         bdev_class: nvme\n  bdev_list: ['0000:ff:1f.7']\n",
        scm.display()
    ));
    site
}

/// Starts its server and returns what it has logged.
fn started(site: &Site) -> String {
    let mut server = site.start();
    server.wait_phase("maintenance");
    let log = server.log();
    server.stop();
    log
}

#[test]
fn root_s_server_takes_what_is_missing() {
    let name = "root_s_server_takes_what_is_missing";
    let before = Before(pages());
    if fs::write(PAGES, before.0.to_string()).is_err() {
        return not_run(name, "huge pages take root");
    }
    let wanted = before.0 + 3;
    // Nobody else may take them.
    let log = started(&site(User::Unprivileged, wanted));
    assert_eq!(pages(), before.0);
    assert!(
        log.contains("huge pages for NVMe: ") && log.contains("storage prepare --nvme-only"),
        "{log}"
    );
    let log = started(&site(User::Caller, wanted));
    assert_eq!(pages(), wanted, "{log}");
    // What there is is never made less.
    let log = started(&site(User::Caller, 1));
    assert_eq!(pages(), wanted, "{log}");
}
