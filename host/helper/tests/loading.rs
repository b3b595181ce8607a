//! Plugins that misbehave while they are loaded end in quarantine, until their file changes or an
//! administrator says so.

mod common;

use common::{assert_names, bed, hostile, inspect, is_alive, wait_until};
use daos_helper::{Cause, Death, HelperError};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::BuiltIn;
use fixture_files::{HOSTILE, chmod, install, put};
use nix::sys::signal::Signal;
use serde_json::json;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

fn assert_quarantined(error: &HelperError) {
    let text = error.to_string();
    assert_eq!(error.operation, "load", "{text}");
    let quarantined = match error.cause {
        Cause::Died { quarantined, .. }
        | Cause::Deadline { quarantined, .. }
        | Cause::Nonsense { quarantined, .. } => quarantined,
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

/// Whatever becomes of the connection between daemon and helper meanwhile, the daemon knows which plugin it was that it asked
/// the helper to load. It does not have to wait for a deadline to know.
#[tokio::test]
async fn taking_the_helpers_connection_while_being_mapped() {
    for (behaviour, said) in [
        ("close-fds", "closed its process's connection"),
        ("close-range", "closed its process's connection"),
        ("replace-fds", "closed its process's connection"),
        ("write-fds", "sent nonsense to the daemon"),
        ("daemonize", "exited with code 0"),
    ] {
        // What the threads of the helper are doing at that moment is chance.
        for round in 0..5 {
            let bed = hostile(json!({}));
            let child = put(&bed.dir, "child", b"");
            let argument = match behaviour {
                "daemonize" => format!(":{}", child.display()),
                _ => String::new(),
            };
            let on_load = format!("{behaviour}{argument}");
            let marker = put(&bed.dir, "plugin.so.onload", on_load.as_bytes());
            let start = std::time::Instant::now();
            let error = bed.scan().await.unwrap_err();
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{behaviour}: {error}"
            );
            println!("{round}: {error}");
            assert_names(&error, HOSTILE, "load");
            assert_quarantined(&error);
            assert!(error.to_string().contains(said), "{behaviour}: {error}");
            match behaviour {
                "daemonize" => {
                    let pid = std::fs::read_to_string(&child).unwrap().parse().unwrap();
                    assert!(is_alive(pid), "it holds the connection");
                    std::fs::remove_file(&child).unwrap();
                    wait_until("the end of the child", || !is_alive(pid));
                }
                // What it said before is there for whoever wants to know why.
                "write-fds" => {
                    let log = error.log.join("\n");
                    assert!(log.contains("about to write to sockets"), "{error:?}");
                }
                _ => {}
            }
            // The same in the record, which is what is shown later.
            let records = bed.state.quarantine().unwrap().records;
            assert!(records[0].reason.contains(said), "{records:?}");
            assert!(records[0].reason.contains("loaded"), "{records:?}");
            std::fs::remove_file(marker).unwrap();
            let refused = bed.scan().await.unwrap_err();
            assert!(matches!(refused.cause, Cause::Refused(_)), "{refused}");
            assert_eq!(bed.state.quarantine_reset(HOSTILE).unwrap(), 1);
            bed.scan().await.unwrap();
        }
    }
}

/// What a plugin opens after that has the connection's number; it must not get what is for the daemon.
#[tokio::test]
async fn what_is_for_the_daemon_does_not_go_to_others() {
    let bed = hostile(json!({}));
    let place = bed.dir.join("listener");
    let listener = UnixListener::bind(&place).unwrap();
    listener.set_nonblocking(true).unwrap();
    let behaviour = format!("swap-fds:{}", place.display());
    put(&bed.dir, "plugin.so.onload", behaviour.as_bytes());
    assert_quarantined(&bed.scan().await.unwrap_err());
    let mut heard = Vec::new();
    // It was connected before the helper ended, if at all.
    let (mut taken, _) = listener.accept().expect("the plugin connects");
    taken.set_nonblocking(false).unwrap();
    let patience = Duration::from_secs(20);
    taken.set_read_timeout(Some(patience)).unwrap();
    taken.read_to_end(&mut heard).unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), "");
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
    for behaviour in ["segfault", "exit:0", "overflow", "close-fds", "replace-fds"] {
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
