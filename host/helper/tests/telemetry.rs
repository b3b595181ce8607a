//! What a plugin tells of itself reaches the daemon: metrics over all its processes, log lines at the level that is
//! wanted now.

mod common;

use common::{Bed, bed, hostile, wait_until};
use daos_helper::{CallOptions, Operation};
use daos_plugin_api::control::FormatRequest;
use daos_telemetry::{Mask, Masks, Sample, Value};
use fixture_files::HOSTILE;
use serde_json::json;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

fn metric(bed: &Bed, name: &str) -> Option<Value> {
    let all = bed.pool.metrics();
    let found = all.get(HOSTILE)?.iter().find(|s| s.name == name)?;
    Some(found.value.clone())
}

#[tokio::test]
async fn metrics_outlive_the_processes_that_told_them() {
    let bed = hostile(json!({ "devices": "abort" }));
    let first = bed.scan_process().await;
    bed.scan().await.expect("a scan");
    assert_eq!(metric(&bed, "scans"), Some(Value::Counter(2.0)));
    bed.call(Operation::Devices(Default::default()))
        .await
        .expect_err("its process dies");
    assert_ne!(bed.scan_process().await, first);
    assert_eq!(metric(&bed, "scans"), Some(Value::Counter(3.0)));
    assert_eq!(metric(&bed, "drums"), Some(Value::Gauge(3.0)));
    let Some(Value::Histogram(wait)) = metric(&bed, "wait") else {
        panic!("no histogram")
    };
    assert_eq!(wait.count(), 3);
    assert!((wait.sum - 0.06).abs() < 1e-9, "{}", wait.sum);
    let separate = bed.pool.separate();
    separate
        .call(&bed.plugin, Operation::Scan, CallOptions::default())
        .await
        .expect("a scan in another process");
    separate.stop().await;
    assert_eq!(metric(&bed, "scans"), Some(Value::Counter(4.0)));
    let incidents = bed.state.incidents(HOSTILE).unwrap();
    assert_eq!(incidents.len(), 1);
    assert!(incidents[0].what.contains("SIGABRT"), "{incidents:?}");
    assert_eq!(incidents[0].process, "helper");
    assert!(bed.state.incidents("other").unwrap().is_empty());
    let counts = &bed.pool.counts()[HOSTILE];
    assert_eq!((counts.calls, counts.failures, counts.deaths), (4, 1, 1));
    assert_eq!(counts.times["scan"].count(), 3);
    assert_eq!(counts.times["devices"].count(), 1);
}

#[tokio::test]
async fn nonsense_is_kept_out_of_the_metrics() {
    let bed = hostile(json!({ "scan": "metrics" }));
    bed.scan().await.expect("a scan");
    let samples = bed.pool.metrics().remove(HOSTILE).expect("metrics");
    assert!(samples.len() > 100 && samples.len() <= daos_telemetry::LIMIT);
    assert!(samples.iter().all(Sample::is_sound), "{samples:?}");
    assert_eq!(metric(&bed, "scans"), Some(Value::Counter(1.0)));
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn count(&self, words: &str) -> usize {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).matches(words).count()
    }
}

#[tokio::test]
async fn another_level_reaches_a_plugin_while_it_works() {
    let masks = Masks::new(Mask::parse("WARN").unwrap());
    let lines = Lines::default();
    let writer = lines.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .with_filter(masks.filter());
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let bed = bed(
        HOSTILE,
        json!({ "on": { "format": "slow:100000" } }),
        |options| {
            options.log_mask.send_replace(masks.current());
        },
    );
    bed.scan().await.expect("a scan");
    assert_eq!(lines.count("looks at its drums"), 0);
    let wanted = |mask: &str| {
        masks.overlay(mask).unwrap();
        bed.pool.set_log_mask(masks.current());
    };
    // Of another plugin, so not of this one.
    wanted("fixture-other=DEBUG");
    bed.scan().await.expect("a scan");
    assert_eq!(lines.count("looks at its drums"), 0);
    wanted(&format!("{HOSTILE}=DEBUG"));
    bed.scan().await.expect("a scan");
    assert_eq!(lines.count("looks at its drums"), 1);
    let line = format!("plugin=\"{HOSTILE}\"");
    assert!(lines.count(&line) >= 1);
    wanted("");
    let cancel = daos_helper::Cancel::new();
    let format = bed.pool.call(
        &bed.plugin,
        Operation::Format(FormatRequest {
            device: common::device(),
            overwrite_foreign: false,
            nvme_format: false,
            check_only: false,
        }),
        CallOptions {
            cancel: Some(cancel.clone()),
            ..CallOptions::default()
        },
    );
    let watch = async {
        let quiet = tokio::time::sleep(std::time::Duration::from_millis(200));
        quiet.await;
        assert_eq!(lines.count("works in detail"), 0);
        wanted(&format!("{HOSTILE}=DEBUG"));
        // The test's one thread is the pool's as well: it must not be blocked here.
        for _ in 0..2000 {
            if lines.count("works in detail") > 3 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(lines.count("works in detail") > 3);
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(format, watch);
    result.expect_err("it was cancelled");
    bed.pool.stop().await;
    wait_until("no helper left", || {
        bed.pool.idle_process(HOSTILE).is_none()
    });
}
