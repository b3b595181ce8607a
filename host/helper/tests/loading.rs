//! Plugins that misbehave while they are loaded end in quarantine, until their file changes or an
//! administrator says so.

mod common;

use common::{bed, hostile, inspect, is_alive};
use daos_helper::{Cause, Death, HelperError};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::BuiltIn;
use fixture_files::{HOSTILE, chmod, install, put};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;

fn assert_quarantined(error: &HelperError) {
    let text = error.to_string();
    assert_eq!(error.operation, "load", "{text}");
    let quarantined = match error.cause {
        Cause::Died { quarantined, .. } | Cause::Deadline { quarantined, .. } => quarantined,
        _ => false,
    };
    assert!(quarantined, "{error:?}");
    assert!(text.contains("plugin reset fixture-hostile"), "{text}");
}

#[tokio::test]
async fn crashing_while_being_mapped() {
    for (behaviour, signal) in [("segfault", Signal::SIGSEGV), ("abort", Signal::SIGABRT)] {
        let bed = hostile(json!({}));
        let marker = put(&bed.dir, "plugin.so.onload", behaviour.as_bytes());
        let error = bed.scan().await.unwrap_err();
        println!("{error}");
        assert_quarantined(&error);
        let how = Death::Signal(signal as i32);
        assert!(
            matches!(error.cause, Cause::Died { how: h, .. } if h == how),
            "{error}"
        );
        // It is not even tried again, although it would work now.
        std::fs::remove_file(marker).unwrap();
        let error = bed.scan().await.unwrap_err();
        assert!(matches!(error.cause, Cause::Refused(_)), "{error}");
        assert!(error.to_string().contains("quarantined"), "{error}");
        assert!(error.to_string().contains(signal.as_str()), "{error}");
        // An administrator lets it out.
        assert_eq!(bed.state.quarantine_reset(HOSTILE).unwrap(), 1);
        bed.scan().await.unwrap();
    }
}

#[tokio::test]
async fn ending_otherwise_while_being_mapped() {
    for behaviour in ["exit:0", "exit:3", "overflow"] {
        let bed = hostile(json!({}));
        put(&bed.dir, "plugin.so.onload", behaviour.as_bytes());
        let error = bed.scan().await.unwrap_err();
        assert_quarantined(&error);
        assert!(error.to_string().contains(HOSTILE), "{behaviour}: {error}");
    }
}

/// What such a process does next is chance: it ends, is ended since it has lost its parent, or says nothing in time.
#[tokio::test]
async fn closing_descriptors_of_others_while_being_mapped() {
    let bed = bed(HOSTILE, json!({}), |o| {
        o.load_deadline = Duration::from_secs(2)
    });
    let marker = put(&bed.dir, "plugin.so.onload", b"close-fds");
    let error = bed.scan().await.unwrap_err();
    assert_eq!(error.operation, "load", "{error}");
    assert!(error.to_string().contains(HOSTILE), "{error}");
    std::fs::remove_file(marker).unwrap();
    bed.state.quarantine_reset(HOSTILE).unwrap();
    bed.scan().await.unwrap();
}

#[tokio::test]
async fn leaking_while_being_mapped_is_no_reason_not_to_be_used() {
    let bed = hostile(json!({}));
    put(&bed.dir, "plugin.so.onload", b"leak-fds:100");
    bed.scan().await.unwrap();
}

/// A backtrace has more lines than are kept.
#[tokio::test]
async fn what_a_panic_says_is_kept_with_its_backtrace() {
    let bed = bed(HOSTILE, json!({}), |o| {
        o.environment.push(("RUST_BACKTRACE".into(), "full".into()));
    });
    put(&bed.dir, "plugin.so.onload", b"panic");
    let error = bed.scan().await.unwrap_err();
    assert_quarantined(&error);
    let log = error.log.join("\n");
    assert!(log.contains("as the settings say"), "{log}");
    assert!(log.contains("lines are left out"), "{log}");
}

/// By an administrator, or by the kernel for want of memory: the plugin has done nothing.
#[tokio::test]
async fn being_killed_while_being_mapped_is_no_quarantine() {
    let bed = hostile(json!({}));
    let marker = put(&bed.dir, "plugin.so.onload", b"kill-self");
    let error = bed.scan().await.unwrap_err();
    let how = Death::Signal(Signal::SIGKILL as i32);
    assert!(
        matches!(error.cause, Cause::Died { how: h, quarantined: false } if h == how),
        "{error}"
    );
    std::fs::remove_file(marker).unwrap();
    bed.scan().await.unwrap();
}

#[tokio::test]
async fn hanging_while_being_mapped_and_a_new_file() {
    let bed = bed(HOSTILE, json!({}), |o| {
        o.load_deadline = Duration::from_millis(400)
    });
    let marker = put(&bed.dir, "plugin.so.onload", b"hang");
    let error = bed.scan().await.unwrap_err();
    assert_quarantined(&error);
    assert!(
        matches!(error.cause, Cause::Deadline { after_ms: 400, .. }),
        "{error}"
    );
    std::fs::remove_file(marker).unwrap();
    bed.scan().await.unwrap_err();
    // A new build of the plugin is another plugin; nobody has to restart or reset anything.
    install(HOSTILE, &bed.dir, "plugin.so");
    bed.scan().await.unwrap();
}

#[tokio::test]
async fn crashing_in_create_is_loading_too() {
    for behaviour in ["segfault", "exit:0", "overflow"] {
        let bed = hostile(json!({ "create": behaviour }));
        assert_quarantined(&bed.scan().await.unwrap_err());
        assert_eq!(bed.state.quarantine().unwrap().records.len(), 1);
    }
}

#[tokio::test]
async fn failing_or_panicking_in_create_is_an_error_and_no_quarantine() {
    for (behaviour, status) in [("fail", Status::MEDIA), ("panic", Status::PANIC)] {
        let bed = hostile(json!({ "create": behaviour }));
        for _ in 0..2 {
            let error = bed.scan().await.unwrap_err();
            assert_eq!(
                (error.operation.as_str(), error.status()),
                ("load", status),
                "{error}"
            );
        }
        assert!(bed.state.quarantine().unwrap().records.is_empty());
    }
}

#[tokio::test]
async fn trust_is_checked_again_at_every_start() {
    let bed = hostile(json!({"devices": "abort"}));
    bed.scan().await.unwrap();
    bed.pool.stop().await;
    let path = bed.plugin.path().unwrap();
    chmod(path, 0o666);
    let error = bed.scan().await.unwrap_err();
    assert!(matches!(error.cause, Cause::Refused(_)), "{error}");
    assert!(error.to_string().contains("chmod o-w"), "{error}");
    chmod(path, 0o644);
    bed.scan().await.unwrap();
}

#[tokio::test]
async fn another_plugin_under_the_same_path_is_not_mistaken_for_it() {
    let bed = hostile(json!({}));
    install(fixture_files::RAW, &bed.dir, "plugin.so");
    let error = bed.scan().await.unwrap_err();
    assert!(
        error.to_string().contains("now holds plugin fixture-raw"),
        "{error}"
    );
    assert_eq!(inspect(&bed.dir.join("plugin.so")).name(), "fixture-raw");
}

#[tokio::test]
async fn built_ins_are_served_by_the_same_program() {
    let bed = hostile(json!({}));
    let built_in: &BuiltIn = daos_builtins::all()
        .into_iter()
        .find(|b| daos_builtins::name(b) == "bdev-malloc")
        .unwrap();
    let info = daos_loader::PluginInfo::built_in(built_in).unwrap();
    let request = daos_plugin_api::control::ClassRequest {
        class: "malloc".to_owned(),
        config: json!({"bdev_number": 2, "bdev_size": 1})
            .as_object()
            .unwrap()
            .clone(),
    };
    let devices = bed
        .pool
        .devices(&info, request, Default::default())
        .await
        .unwrap();
    assert_eq!(devices.len(), 2);
    let pid = bed.pool.idle_process("bdev-malloc").unwrap();
    bed.pool.stop().await;
    assert!(!is_alive(pid));
}
