//! Helpers that somebody else kills: an administrator, the end of a session or of the machine, or the kernel for want of memory.
//! The plugin has done nothing. Unless it happens again and again, with nothing else to explain it.

mod common;

use common::{Bed, bed, is_alive, wait_until};
use daos_helper::{CallOptions, Cause, Death, HelperError, Operation};
use daos_loader::{Origin, Suspect};
use fixture_files::{HOSTILE, install};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A plugin that does what [`Killed::on`] says, and a pool in which every kill counts.
struct Killed {
    bed: Bed,
    when: PathBuf,
    _when: tempfile::TempDir,
}

impl Killed {
    fn new(apart: Duration) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let when = scratch.path().join("when");
        let vmstat = scratch.path().join("vmstat");
        std::fs::write(&vmstat, "oom_kill 7\n").unwrap();
        let bed = bed(HOSTILE, json!({ "when": &when }), |o| {
            o.kills.apart = apart;
            o.kills.vmstat = vmstat;
        });
        Self {
            bed,
            when,
            _when: scratch,
        }
    }

    /// What the plugin does from now on; `{}` = nothing bad.
    fn on(&self, on: Value) {
        std::fs::write(&self.when, on.to_string()).unwrap();
    }

    fn memory_was_wanted(&self, kills: u32) {
        let vmstat = self.when.with_file_name("vmstat");
        std::fs::write(vmstat, format!("oom_kill {kills}\n")).unwrap();
    }

    fn suspects(&self) -> Vec<Suspect> {
        self.bed.state.quarantine().unwrap().suspects
    }

    fn records(&self) -> usize {
        self.bed.state.quarantine().unwrap().records.len()
    }

    /// A scan whose helper gets a signal as soon as it is under way.
    async fn scan_during(
        &self,
        act: impl Fn(Pid) + Send + Sync + 'static,
    ) -> Result<Value, HelperError> {
        self.on(json!({}));
        let pid = Pid::from_raw(self.bed.scan_process().await as i32);
        self.on(json!({"scan": "slow:300"}));
        let done = std::sync::Once::new();
        let options = CallOptions {
            progress: Some(Arc::new(move |_| done.call_once(|| act(pid)))),
            ..CallOptions::default()
        };
        self.bed
            .pool
            .call(&self.bed.plugin, Operation::Scan, options)
            .await
    }
}

fn died_by(error: &HelperError, signal: Signal, is_last: bool) {
    let how = Death::Signal(signal as i32);
    let is_it = matches!(error.cause, Cause::Died { how: h, quarantined } if h == how && quarantined == is_last);
    assert!(is_it, "{error}");
}

#[tokio::test]
async fn while_being_mapped_is_quarantine_when_it_goes_on() {
    let killed = Killed::new(Duration::ZERO);
    let bed = &killed.bed;
    let marker = bed.dir.join("plugin.so.onload");
    for _ in 0..2 {
        std::fs::write(&marker, "kill-self").unwrap();
        for _ in 0..2 {
            died_by(&bed.scan().await.unwrap_err(), Signal::SIGKILL, false);
        }
        // It goes well in between: whoever it was, it was not the plugin.
        std::fs::remove_file(&marker).unwrap();
        bed.scan().await.unwrap();
        assert!(killed.suspects().is_empty());
        bed.pool.stop().await;
    }
    std::fs::write(&marker, "kill-self").unwrap();
    for round in 0..3 {
        died_by(&bed.scan().await.unwrap_err(), Signal::SIGKILL, round == 2);
    }
    let refused = bed.scan().await.unwrap_err().to_string();
    let says = "SIGKILL while it was loaded, and so were 3 of its helpers in a row";
    assert!(refused.contains(says), "{refused}");
    assert!(killed.suspects().is_empty());
    // Another state of the file begins anew.
    install(HOSTILE, &bed.dir, "plugin.so");
    died_by(&bed.scan().await.unwrap_err(), Signal::SIGKILL, false);
    assert_eq!(killed.suspects()[0].kills, 1);
}

#[tokio::test]
async fn in_scans_counts_apart_from_loading() {
    let killed = Killed::new(Duration::ZERO);
    for (step, is_last) in [
        ("scan", false),
        ("scan", false),
        ("create", false),
        ("create", false),
        ("scan", true),
    ] {
        killed.on(json!({ step: "kill-self" }));
        let error = killed.bed.scan().await.unwrap_err();
        died_by(&error, Signal::SIGKILL, is_last);
    }
    let refused = killed.bed.scan().await.unwrap_err().to_string();
    let says = "while it was scanned, and so were 3 of its helpers in a row";
    assert!(refused.contains(says), "{refused}");
}

/// All of what a session, a service or a machine sends to its processes at its end.
#[tokio::test]
async fn by_other_signals_than_sigkill_is_no_crash_either() {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let killed = Killed::new(Duration::ZERO);
        let behaviour = format!("kill-self:{}", signal as i32);
        killed.on(json!({ "scan": behaviour }));
        for round in 0..3 {
            died_by(&killed.bed.scan().await.unwrap_err(), signal, round == 2);
        }
    }
    // A crash is one at the first time.
    let killed = Killed::new(Duration::ZERO);
    killed.on(json!({"scan": format!("kill-self:{}", Signal::SIGBUS as i32)}));
    died_by(&killed.bed.scan().await.unwrap_err(), Signal::SIGBUS, true);
}

#[tokio::test]
async fn signals_to_everybody_end_no_scan() {
    let killed = Killed::new(Duration::ZERO);
    let before = killed.bed.scan_process().await;
    let report = killed
        .scan_during(|pid| {
            for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
                kill(pid, signal).unwrap();
            }
        })
        .await
        .expect("a scan that goes on");
    assert_eq!(common::process_of(&report), before);
    assert!(killed.suspects().is_empty());
}

#[tokio::test]
async fn what_a_plugin_starts_dies_of_signals_as_ever() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let killed = Killed::new(Duration::ZERO);
        killed.on(json!({"scan": "leave-child"}));
        let helper = killed.bed.scan_process().await;
        let children = format!("/proc/{helper}/task/{helper}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let child: u32 = children.trim().parse().expect("one child");
        kill(Pid::from_raw(child as i32), signal).unwrap();
        wait_until("the end of the child", || !is_alive(child));
        assert!(is_alive(helper));
    }
}

/// A machine without the plugin's hardware answers every scan with an error.
#[tokio::test]
async fn an_error_in_between_is_an_answer() {
    let killed = Killed::new(Duration::ZERO);
    for (step, bad) in [("scan", "kill-self"), ("create", "kill-self")] {
        for _ in 0..2 {
            killed.on(json!({ step: bad }));
            for _ in 0..2 {
                died_by(
                    &killed.bed.scan().await.unwrap_err(),
                    Signal::SIGKILL,
                    false,
                );
            }
            killed.on(json!({ step: "fail" }));
            let error = killed.bed.scan().await.unwrap_err();
            assert!(matches!(error.cause, Cause::Plugin(_)), "{error}");
            assert!(
                killed.suspects().is_empty(),
                "{step}: {:?}",
                killed.suspects()
            );
        }
        killed.bed.pool.stop().await;
    }
}

#[tokio::test]
async fn for_want_of_memory_does_not_count() {
    let killed = Arc::new(Killed::new(Duration::ZERO));
    for round in 0..4 {
        let during = Arc::clone(&killed);
        let error = killed
            .scan_during(move |pid| {
                during.memory_was_wanted(8 + round);
                kill(pid, Signal::SIGKILL).unwrap();
            })
            .await
            .unwrap_err();
        died_by(&error, Signal::SIGKILL, false);
        assert!(killed.suspects().is_empty());
    }
    // What was before the scan, if only in the life of its helper, explains nothing.
    killed.on(json!({}));
    killed.bed.scan().await.unwrap();
    killed.memory_was_wanted(100);
    let error = killed
        .scan_during(|pid| kill(pid, Signal::SIGKILL).unwrap())
        .await
        .unwrap_err();
    died_by(&error, Signal::SIGKILL, false);
    assert_eq!(killed.suspects()[0].kills, 1);
}

/// Helpers of separate pools have one state directory.
#[tokio::test]
async fn all_at_once_counts_once() {
    let killed = Killed::new(Duration::from_secs(3600));
    killed.on(json!({"scan": "kill-self"}));
    let (one, two, three, four) = (
        killed.bed.pool.clone(),
        killed.bed.pool.separate(),
        killed.bed.pool.separate(),
        killed.bed.pool.separate(),
    );
    let plugin = &killed.bed.plugin;
    let scan = |pool: daos_helper::HelperPool| async move {
        pool.call(plugin, Operation::Scan, CallOptions::default())
            .await
    };
    let errors = tokio::join!(scan(one), scan(two), scan(three), scan(four));
    for error in [errors.0, errors.1, errors.2, errors.3] {
        died_by(&error.unwrap_err(), Signal::SIGKILL, false);
    }
    assert_eq!(killed.suspects()[0].kills, 1);
    assert_eq!(killed.records(), 0);
}

#[tokio::test]
async fn a_reset_begins_anew() {
    let killed = Killed::new(Duration::ZERO);
    killed.on(json!({"scan": "kill-self"}));
    for _ in 0..2 {
        for _ in 0..2 {
            died_by(
                &killed.bed.scan().await.unwrap_err(),
                Signal::SIGKILL,
                false,
            );
        }
        // Nothing was quarantined, and what might have led to it is forgotten.
        assert_eq!(killed.bed.state.quarantine_reset(HOSTILE).unwrap(), 0);
        assert!(killed.suspects().is_empty());
    }
}

/// The catalogue may have been read before the file was replaced: it is the file that was loaded that is quarantined.
#[tokio::test]
async fn a_new_file_of_an_old_catalogue_is_quarantined_itself() {
    let killed = Killed::new(Duration::ZERO);
    let bed = &killed.bed;
    bed.scan().await.unwrap();
    bed.pool.stop().await;
    let path = install(HOSTILE, &bed.dir, "plugin.so");
    killed.on(json!({"scan": "abort"}));
    died_by(&bed.scan().await.unwrap_err(), Signal::SIGABRT, true);
    let Origin::File { identity, .. } = common::inspect(&path).origin else {
        panic!("a file")
    };
    let records = bed.state.quarantine().unwrap().records;
    assert_eq!(records[0].identity, identity);
    let refused = bed.scan().await.unwrap_err();
    assert!(matches!(refused.cause, Cause::Refused(_)), "{refused}");
}
