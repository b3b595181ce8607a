//! Burn-in through a helper: what may be destroyed is decided with the device open, and a plugin that misbehaves costs its
//! run.

mod common;

use common::{Bed, device, hostile};
use daos_burnin::consent::Access;
use daos_burnin::{DeviceRecord, Job, Load, Mode, Phase, SizeShare, Update};
use daos_helper::{
    BurnInDevice, BurnInRequest, CallOptions, Cancel, Cause, DeviceInspection, HelperError,
    LabelRequest, LabelState,
};
use serde_json::json;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A load that ends when it has moved what the device has.
fn short() -> Load {
    let sizes = vec![SizeShare {
        bytes: 4096,
        percent: 100,
    }];
    let job = Job {
        read_sizes: sizes.clone(),
        write_sizes: sizes,
        runtime_ms: None,
        time_based: false,
        rate: Default::default(),
        ..Job::default()
    };
    Load { jobs: vec![job] }
}

struct Outcome {
    result: Result<(), HelperError>,
    record: DeviceRecord,
}

async fn burn_in(bed: &Bed, load: Load, access: Access, cancel: Option<Cancel>) -> Outcome {
    let record = DeviceRecord::new("hostile:0".to_owned(), "hostile".to_owned());
    let known = Arc::new(Mutex::new(record));
    let taken = Arc::clone(&known);
    let stop = cancel.clone();
    let options = CallOptions {
        cancel,
        report: Some(Arc::new(move |document| {
            let update: Update = serde_json::from_value(document).unwrap();
            assert_eq!(update.index, 0);
            if update.device.phase == Phase::Load
                && let Some(stop) = &stop
            {
                stop.cancel();
            }
            taken.lock().unwrap().take(update.device);
        })),
        ..CallOptions::default()
    };
    let request = BurnInRequest {
        run: Uuid::from_u128(5),
        load,
        devices: vec![BurnInDevice {
            device: device(),
            access,
        }],
    };
    let result = bed.pool.burn_in(&bed.plugin, request, options).await;
    let record = known.lock().unwrap().clone();
    Outcome { result, record }
}

async fn inspect(bed: &Bed) -> DeviceInspection {
    let call = bed
        .pool
        .inspect_device(&bed.plugin, device(), CallOptions::default());
    call.await.unwrap()
}

#[tokio::test]
async fn a_label_goes_only_with_the_words_that_were_agreed_to() {
    let bed = hostile(json!({}));
    let label = LabelRequest {
        engine: Uuid::from_u128(7),
        generation: 1,
        index: 0,
        count: 1,
        device: Uuid::from_u128(8),
        created: 1_700_000_000,
    };
    bed.pool
        .write_label(&bed.plugin, device(), label, CallOptions::default())
        .await
        .unwrap();
    let before = inspect(&bed).await;
    let words = before.holds().unwrap();
    let write = |destroy: Option<&str>| Access::Write {
        destroy: destroy.map(str::to_owned),
    };
    for (access, why) in [
        (write(None), "--destroy-data"),
        (write(Some("ext4 file system")), "look again"),
    ] {
        let outcome = burn_in(&bed, short(), access, None).await;
        outcome.result.unwrap();
        let fault = outcome.record.fault.unwrap();
        assert!(fault.contains(why) && fault.contains(&words), "{fault}");
        assert_eq!(outcome.record.writes.count, 0);
        assert_eq!(inspect(&bed).await, before);
    }
    // A load that cannot be run destroys nothing either, whatever was agreed to.
    let mut impossible = short();
    impossible.jobs[0].copies = 60;
    let outcome = burn_in(&bed, impossible, write(Some(&words)), None).await;
    assert!(outcome.record.fault.unwrap().contains("queues"));
    assert_eq!(inspect(&bed).await, before);
    // Nothing said: it is only read.
    let outcome = burn_in(&bed, short(), Access::Auto, None).await;
    assert_eq!(
        (outcome.record.mode, outcome.record.writes.count),
        (Mode::ReadOnly, 0)
    );
    assert!(outcome.record.reads.count > 0 && outcome.record.fault.is_none());
    assert_eq!(inspect(&bed).await, before);

    let outcome = burn_in(&bed, short(), write(Some(&words)), None).await;
    assert_eq!(
        (outcome.record.fault, outcome.record.destroyed),
        (None, true)
    );
    assert!(outcome.record.writes.count > 0);
    let after = inspect(&bed).await;
    assert!(after.blank && after.label == LabelState::None, "{after:?}");
}

#[tokio::test]
async fn a_queue_that_ends_what_it_was_not_given_is_not_believed() {
    let bed = hostile(json!({"poll": "wrong-tag"}));
    let outcome = burn_in(&bed, short(), Access::Auto, None).await;
    outcome.result.unwrap();
    let fault = outcome.record.fault.unwrap();
    assert!(fault.contains("tell its vendor"), "{fault}");
    assert_eq!(outcome.record.phase, Phase::Done);
}

#[tokio::test]
async fn a_crash_in_the_data_path_is_one_error() {
    let bed = hostile(json!({"submit": "segfault"}));
    let error = burn_in(&bed, short(), Access::Auto, None)
        .await
        .result
        .unwrap_err();
    assert!(matches!(error.cause, Cause::Died { .. }), "{error}");
    assert_eq!(error.operation, "burn_in");
}

#[tokio::test]
async fn a_cancelled_run_ends_well_and_keeps_nobody_waiting() {
    let bed = hostile(json!({}));
    let (cancel, other) = (Cancel::new(), bed.pool.separate());
    let run = burn_in(&bed, Load::default(), Access::Auto, Some(cancel));
    // A scan by other helpers is not behind a quarter of an hour of burn-in.
    let scan = other.scan(&bed.plugin, CallOptions::default());
    let (outcome, scan) = tokio::join!(run, scan);
    scan.unwrap();
    outcome.result.unwrap();
    assert!(outcome.record.cut_short && outcome.record.fault.is_none());
    assert_eq!(outcome.record.phase, Phase::Done);
}
