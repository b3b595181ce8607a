//! Data through the whole stack, with the `daos` program.

use daos_e2e::{Finished, LIMIT, Site, finish};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// Runs a short verified benchmark.
#[track_caller]
pub(crate) fn bench(site: &Site) {
    site.ensure_pool();
    site.daos(&["bench", "--verify", "--seconds", "1"])
        .expect(0);
}

/// Values of one byte and of the largest size.
pub(crate) struct Objects {
    /// What `--pool` and `--cont` say.
    container: [&'static str; 4],
    values: Vec<(&'static str, PathBuf)>,
}

impl Objects {
    /// Stores them.
    #[track_caller]
    pub(crate) fn put(site: &Site) -> Self {
        let dir = site.make_dir("objects");
        site.ensure_pool();
        let container = ["--pool", "tank", "--cont", "objects"];
        site.daos(&["container", "create", "objects"]).expect(0);
        let mut values = Vec::new();
        for (name, size) in [("one", 1), ("inline", 4096), ("largest", 1 << 20)] {
            let path = dir.join(name);
            let bytes: Vec<u8> = (0..size)
                .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect();
            std::fs::write(&path, bytes).expect("our directory");
            let file = path.display().to_string();
            let put = [
                "object",
                "put",
                container[0],
                container[1],
                container[2],
                container[3],
            ];
            site.daos(&[&put[..], &["0.1", "monday", name, "--file", &file]].concat())
                .expect(0);
            values.push((name, path));
        }
        Self { container, values }
    }

    /// Fetches them and compares each byte.
    #[track_caller]
    pub(crate) fn check(&self, site: &Site) {
        let [a, b, c, d] = self.container;
        for (name, path) in &self.values {
            let got = site.path("tmp").join(name);
            let file = got.display().to_string();
            site.daos(&[
                "object", "get", a, b, c, d, "0.1", "monday", name, "--file", &file,
            ])
            .expect(0);
            let bytes = |path| std::fs::read(path).expect("our file");
            assert!(bytes(path) == bytes(&got), "{name} has changed");
            std::fs::remove_file(&got).expect("our file");
        }
        let list = site
            .daos(&["object", "list", a, b, c, d, "0.1", "monday"])
            .expect(0);
        for (name, _) in &self.values {
            assert!(list.stdout.contains(name), "{name} is missing in {list}");
        }
        let missing = site.daos(&["object", "get", a, b, c, d, "0.1", "monday", "none"]);
        assert!(missing.expect(1).stderr.contains("none"));
    }
}

/// A client that writes without an end; killed with this value, also when it stands still.
pub(crate) struct Writer(Child);

impl Deref for Writer {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Fails only if it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Values whose acknowledgements are recorded, so that each can be asked for later.
pub(crate) struct Workload<'a> {
    site: &'a Site,
    record: PathBuf,
    rank: u32,
}

impl<'a> Workload<'a> {
    /// A workload on the first engine, with an empty record.
    pub(crate) fn new(site: &'a Site, name: &str) -> Self {
        Self::on_rank(site, name, 0)
    }

    /// A workload on an engine, with an empty record.
    pub(crate) fn on_rank(site: &'a Site, name: &str, rank: u32) -> Self {
        Self {
            site,
            record: site.make_dir(name).join("record"),
            rank,
        }
    }

    /// How many lines the record has.
    pub(crate) fn acknowledged(&self) -> usize {
        std::fs::read(&self.record).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count())
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.site.command("daos");
        command.args(self.site.client_args());
        command.args(["--rank", &self.rank.to_string()]);
        command.args(args).arg(&self.record);
        command
    }

    /// Writes some values.
    #[track_caller]
    pub(crate) fn write(&self) {
        self.site.ensure_pool();
        finish(
            self.command(&["workload", "write", "--count", "200"]),
            LIMIT,
        )
        .expect(0);
    }

    /// Starts to write without an end.
    #[track_caller]
    pub(crate) fn write_on(&self) -> Writer {
        self.site.ensure_pool();
        let mut command = self.command(&["workload", "write", "--count", "1000000"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("daos can be started");
        Writer(child)
    }

    /// Reads everything back that was ever acknowledged.
    #[track_caller]
    pub(crate) fn verify(&self) -> Finished {
        finish(self.command(&["workload", "verify"]), LIMIT).expect(0)
    }

    /// Reads back what is not there.
    #[track_caller]
    pub(crate) fn verify_fails(&self, code: i32) {
        finish(self.command(&["workload", "verify"]), LIMIT).expect(code);
    }
}
