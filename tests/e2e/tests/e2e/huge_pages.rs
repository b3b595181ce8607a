//! Huge pages of the kernel, which a server takes at its start.

use daos_e2e::{Site, User, not_run};
use fixture_files::{FIRMWARE, install};
use std::{fs, io};

const PAGES: &str = "/proc/sys/vm/nr_hugepages";

fn pages() -> io::Result<u64> {
    let text = fs::read_to_string(PAGES)?;
    text.trim().parse().map_err(io::Error::other)
}

/// As many as there were before.
struct Before(u64);

impl Before {
    fn restore(&self) -> io::Result<()> {
        fs::write(PAGES, self.0.to_string())
    }

    /// Whether there can be so many here, and as many as before again: the number is the machine's, and memory may be in pieces
    /// or in use.
    fn can_become(&self, wanted: u64) -> Result<(), String> {
        let failed = |error| format!("the number of huge pages cannot be changed: {error}");
        fs::write(PAGES, wanted.to_string()).map_err(failed)?;
        let taken = pages().map_err(failed)?;
        self.restore().map_err(failed)?;
        let restored = pages().map_err(failed)?;
        match (taken, restored) == (wanted, self.0) {
            true => Ok(()),
            false => Err(format!(
                "of {} huge pages the kernel makes {taken} when asked for {wanted}, and then {restored} again",
                self.0
            )),
        }
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        // Fails where nothing was changed either.
        let _ = self.restore();
    }
}

/// A node whose engine uses NVMe, as far as its server knows: the device is a file.
fn site(user: User, wanted: u64) -> Site {
    let mut site = Site::of(user);
    site.use_plugin_files();
    install(FIRMWARE, &site.path("plugins"), "nvme.so");
    let scm = site.memory_dir().join("scm");
    let device = site.path("tmp/device");
    site.add_config(&format!(
        "nr_hugepages: {wanted}\nservers:\n- targets: 1\n  scm_class: ram\n  scm_size_mib: 128\n  scm_mount: '{}'\n  \
         bdev_class: nvme\n  bdev_list: ['{}']\n  bdev_size_mib: 256\n",
        scm.display(),
        device.display()
    ));
    site
}

/// Starts its server and returns what it has logged.
fn started(site: &Site) -> String {
    let mut server = site.start();
    let state = server.wait_phase("maintenance");
    // Nothing else is in the way of this engine.
    assert_eq!(state["engines"][0]["state"], "await-format", "{state:#}");
    let log = server.log();
    server.stop();
    log
}

#[test]
fn root_s_server_takes_what_is_missing() {
    let name = "root_s_server_takes_what_is_missing";
    let before = match pages() {
        Ok(pages) => Before(pages),
        Err(error) => return not_run(name, &format!("{PAGES}: {error}")),
    };
    let wanted = before.0 + 3;
    if let Err(reason) = before.can_become(wanted) {
        return not_run(name, &reason);
    }
    let now = || pages().expect("it was read before");
    // Nobody else may take them.
    let log = started(&site(User::Unprivileged, wanted));
    assert_eq!(now(), before.0, "{log}");
    assert!(
        log.contains("huge pages for NVMe: ") && log.contains("storage prepare --nvme-only"),
        "{log}"
    );
    let log = started(&site(User::Caller, wanted));
    assert_eq!(now(), wanted, "{log}");
    // What there is is never made less.
    let log = started(&site(User::Caller, 1));
    assert_eq!(now(), wanted, "{log}");
}
