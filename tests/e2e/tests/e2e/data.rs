//! Data through the whole stack, with the `daos` program.

use daos_e2e::{Finished, LIMIT, Site, finish};
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// Runs a short verified benchmark.
#[track_caller]
pub(crate) fn bench(site: &Site) {
    site.daos(&["bench", "--verify", "--seconds", "1"])
        .expect(0);
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

    /// Whether something was acknowledged already.
    pub(crate) fn has_acknowledgements(&self) -> bool {
        std::fs::metadata(&self.record).is_ok_and(|m| m.len() > 0)
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.site.command("daos");
        command.args(["--access-point", &self.site.address()]);
        command.args(["--rank", &self.rank.to_string()]);
        command.args(args).arg(&self.record);
        command
    }

    /// Writes some values.
    #[track_caller]
    pub(crate) fn write(&self) {
        finish(
            self.command(&["workload", "write", "--count", "200"]),
            LIMIT,
        )
        .expect(0);
    }

    /// Starts to write without an end.
    pub(crate) fn write_on(&self) -> Child {
        let mut command = self.command(&["workload", "write", "--count", "1000000"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("daos can be started")
    }

    /// Reads everything back that was ever acknowledged.
    #[track_caller]
    pub(crate) fn verify(&self) -> Finished {
        finish(self.command(&["workload", "verify"]), LIMIT).expect(0)
    }
}
