//! Whatever a plugin does in any control call: the operation fails with an error that says what
//! happened, and the next one works in a new process.

mod common;

use common::{
    assert_names, bed, control_operations, deadline, device, hostile, is_alive, plugin_error, raw,
    wait_until,
};
use daos_helper::{Cause, Death, Operation};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::ClassRequest;
use fixture_files::{HOSTILE, HOSTILE_FACES};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Runs every control operation with this behaviour; the other operations of the same plugin work
/// before and after.
async fn in_every_operation(behaviour: &str, check: impl Fn(&daos_helper::HelperError)) {
    in_operations_of(HOSTILE, control_operations(), behaviour, check).await;
}

async fn in_operations_of(
    fixture: &str,
    operations: Vec<Operation>,
    behaviour: &str,
    check: impl Fn(&daos_helper::HelperError),
) {
    for operation in operations {
        let name = operation.name();
        let bed = bed(fixture, json!({"on": { name: behaviour }}), |_| {});
        // Something else than the operation under test.
        let other = || match name {
            "scan" => Operation::Validate(ClassRequest::default()),
            _ => Operation::Scan,
        };
        bed.call(other()).await.expect("a good operation before");
        let before = bed.pool.idle_process(fixture).expect("a process");
        let error = bed
            .pool
            .call(
                &bed.plugin,
                operation,
                deadline(if behaviour == "hang" { 200 } else { 20_000 }),
            )
            .await
            .expect_err("the bad operation");
        println!("{error}");
        assert_names(&error, fixture, name);
        check(&error);
        let quarantined = !bed.state.quarantine().unwrap().records.is_empty();
        let died = matches!(&error.cause, Cause::Died { .. });
        assert_eq!(quarantined, died && name == "scan", "{error}");
        if quarantined {
            let refused = bed.call(other()).await.expect_err("a quarantined plugin");
            assert!(matches!(refused.cause, Cause::Refused(_)), "{refused}");
            bed.state.quarantine_reset(fixture).unwrap();
        }
        bed.call(other()).await.expect("a good operation after");
        let after = bed.pool.idle_process(fixture).expect("a process");
        assert_ne!(before, after, "a new process after {behaviour} in {name}");
        assert!(!is_alive(before));
    }
}

/// A plugin of SCM and a fabric, in every operation that it has.
#[tokio::test]
async fn plugins_of_scm_and_fabrics_cost_one_operation_as_well() {
    let operations = || {
        let mut all = control_operations();
        let has = ["validate", "scan", "devices", "format", "mount", "unmount"];
        all.retain(|operation| has.contains(&operation.name()));
        assert_eq!(all.len(), has.len());
        all
    };
    for behaviour in [
        "panic",
        "abort",
        "segfault",
        "overflow",
        "exit:7",
        "hang",
        "close-fds",
    ] {
        in_operations_of(HOSTILE_FACES, operations(), behaviour, |error| {
            let text = error.to_string();
            let expected = match (behaviour, &error.cause) {
                ("panic", Cause::Plugin(why)) => why.status() == Status::PANIC,
                ("abort", _) => text.contains("SIGABRT") && text.contains("about to abort"),
                ("segfault", _) => text.contains("SIGSEGV") && text.contains("address 16"),
                ("overflow", _) => error.log.iter().any(|l| l.contains("overflowed its stack")),
                ("exit:7", _) => text.contains("exited with code 7"),
                ("hang", Cause::Deadline { after_ms, .. }) => *after_ms == 200,
                ("close-fds", _) => text.contains("closed its process's connection"),
                _ => false,
            };
            assert!(expected, "{behaviour}: {text}");
        })
        .await;
    }
}

fn died_by(error: &daos_helper::HelperError, signal: Signal) {
    let how = Death::Signal(signal as i32);
    assert_eq!(
        error.cause,
        Cause::Died {
            how,
            quarantined: error.operation == "scan" && signal != Signal::SIGKILL
        }
    );
    assert!(error.to_string().contains(signal.as_str()), "{error}");
}

#[tokio::test]
async fn panic() {
    in_every_operation("panic", |error| {
        assert_eq!(plugin_error(error).status(), Status::PANIC);
        assert!(error.to_string().contains("as the settings say"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn abort() {
    in_every_operation("abort", |error| {
        died_by(error, Signal::SIGABRT);
        assert!(
            error.log.iter().any(|l| l.contains("about to abort")),
            "{:?}",
            error.log
        );
    })
    .await;
}

#[tokio::test]
async fn segfault() {
    in_every_operation("segfault", |error| {
        died_by(error, Signal::SIGSEGV);
        assert!(
            error.to_string().contains("about to write to address 16"),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn stack_overflow() {
    in_every_operation("overflow", |error| {
        died_by(error, Signal::SIGABRT);
        assert!(
            error.log.iter().any(|l| l.contains("overflowed its stack")),
            "{:?}",
            error.log
        );
    })
    .await;
}

#[tokio::test]
async fn exit() {
    in_every_operation("exit:7", |error| {
        let how = Death::Exit(7);
        assert_eq!(
            error.cause,
            Cause::Died {
                how,
                quarantined: error.operation == "scan"
            }
        );
        assert!(error.to_string().contains("exited with code 7"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn never_returns() {
    in_every_operation("hang", |error| {
        assert!(matches!(
            error.cause,
            Cause::Deadline {
                after_ms: 200,
                quarantined: false
            }
        ));
        assert_eq!(error.status(), Status::TIMED_OUT);
        assert!(error.to_string().contains("200ms"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn burns_the_processor_for_ever() {
    let bed = hostile(json!({"scan": "spin"}));
    let start = Instant::now();
    let error = bed.pool.scan(&bed.plugin, deadline(300)).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Deadline { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn kills_itself() {
    let bed = hostile(json!({"scan": "kill-self"}));
    died_by(&bed.scan().await.unwrap_err(), Signal::SIGKILL);
}

#[tokio::test]
async fn an_ordinary_failure_keeps_code_text_and_process() {
    let bed = hostile(json!({"health": "fail"}));
    let before = bed.scan_process().await;
    let error = bed.call(Operation::Health(device())).await.unwrap_err();
    assert_eq!(error.status(), Status::MEDIA);
    assert!(
        error
            .to_string()
            .contains("cannot read the drum: it is wet; dry it"),
        "{error}"
    );
    assert_eq!(bed.scan_process().await, before);
}

#[tokio::test]
async fn dying_while_idle_is_nobodys_failure() {
    let bed = hostile(json!({}));
    let before = bed.scan_process().await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(before as i32), Signal::SIGKILL).unwrap();
    wait_until("its end", || !is_alive(before));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_ne!(bed.scan_process().await, before);
}

#[tokio::test]
async fn answers_of_nonsense_are_errors() {
    for answer in [
        "",
        "{",
        "null",
        "[]",
        "{\"devices\":7}",
        "\u{1}",
        "{\"devices\":[{\"kind\":\"tape\"}]}",
    ] {
        let bed = raw(json!({ "answer": answer }));
        let error = bed.scan().await.unwrap_err();
        assert_eq!(error.status(), Status::INTERNAL, "{answer}: {error}");
        assert!(error.to_string().contains("malformed"), "{answer}: {error}");
    }
    let bed = raw(json!({}));
    let before = bed.pool.idle_process("fixture-raw");
    bed.scan().await.unwrap();
    assert_eq!(before, None);
    let error = bed
        .call(Operation::Devices(ClassRequest::default()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("malformed"), "{error}");
    let error = bed.call(Operation::Health(device())).await.unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
    let error = bed.call(Operation::Release(Map::new())).await.unwrap_err();
    assert!(error.to_string().contains("unknown status"), "{error}");
    let error = bed.call(Operation::Mount(device())).await.unwrap_err();
    assert_eq!(error.status(), Status::NOT_SUPPORTED, "{error}");
}

#[tokio::test]
async fn messages_beyond_the_limit_are_errors_and_cost_no_process() {
    let bed = hostile(json!({"scan": "huge"}));
    let prepare = |len: usize| {
        let request = Map::from_iter([("echo".to_owned(), Value::String("x".repeat(len)))]);
        bed.call(Operation::Prepare(request))
    };
    let answer = prepare(10 << 20).await.unwrap();
    assert_eq!(answer["echo"].as_str().unwrap().len(), 10 << 20);
    let before = bed.pool.idle_process(HOSTILE);
    let request = prepare(17 << 20).await.unwrap_err();
    let answer = bed.scan().await.unwrap_err();
    for error in [request, answer] {
        assert!(error.to_string().contains("limit"), "{error}");
    }
    prepare(1).await.expect("the helper lives");
    assert_eq!(bed.pool.idle_process(HOSTILE), before);
    // Settings travel too.
    let bed = raw(json!({ "answer": "x".repeat(17 << 20) }));
    let error = bed.scan().await.unwrap_err();
    assert_eq!(error.operation, "load");
    assert!(error.to_string().contains("limit"), "{error}");
}

#[tokio::test]
async fn endless_progress_does_not_stop_the_clock() {
    let bed = hostile(json!({"scan": "chatter"}));
    let start = Instant::now();
    let error = bed.pool.scan(&bed.plugin, deadline(300)).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Deadline { .. }), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

/// A program in the helper's place, whose standard input is the connection.
fn impostor(script: &str) -> common::Bed {
    bed(HOSTILE, json!({}), |options| {
        let directory = options
            .state
            .as_ref()
            .expect("a state directory")
            .path()
            .to_owned();
        let program = fixture_files::put(
            &directory,
            "impostor",
            format!("#!/bin/sh\n{script}").as_bytes(),
        );
        fixture_files::chmod(&program, 0o755);
        options.program = program;
    })
}

#[tokio::test]
async fn nonsense_on_the_connection_ends_it() {
    for script in [
        "printf garbage >&0; sleep 100",
        r#"printf '\002\000\000\000{}' >&0; sleep 100"#,
    ] {
        let bed = impostor(script);
        let start = Instant::now();
        let error = bed.scan().await.unwrap_err();
        assert!(matches!(error.cause, Cause::Nonsense { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_broken_helper_program_is_not_blamed_on_the_plugin() {
    let bed = impostor("echo no such library; exit 127");
    let error = bed.scan().await.unwrap_err();
    let how = Death::Exit(127);
    assert_eq!(
        error.cause,
        Cause::Died {
            how,
            quarantined: false
        }
    );
    assert!(error.to_string().contains("no such library"), "{error}");
    assert!(bed.state.quarantine().unwrap().records.is_empty());
}

#[tokio::test]
async fn output_and_input_of_the_plugin_are_its_own() {
    let bed = hostile(json!({"scan": "print", "devices": "read-stdin", "health": "exit:1"}));
    bed.scan().await.unwrap();
    bed.call(Operation::Devices(ClassRequest::default()))
        .await
        .unwrap();
    let bed = hostile(json!({"scan": "print", "create": "print"}));
    bed.scan().await.unwrap();
}

#[tokio::test]
async fn a_flood_of_log_lines_is_only_that() {
    let bed = hostile(json!({"scan": "flood", "devices": "abort"}));
    bed.scan().await.unwrap();
    let error = bed
        .call(Operation::Devices(ClassRequest::default()))
        .await
        .unwrap_err();
    assert!(
        !error.log.is_empty() && error.log.len() <= 10,
        "{:?}",
        error.log
    );
}

#[tokio::test]
async fn what_the_plugin_started_goes_with_it() {
    let bed = hostile(json!({"scan": "leave-child", "devices": "abort"}));
    let helper = bed.scan_process().await;
    let children = children_of(helper);
    assert_eq!(children.len(), 1, "{children:?}");
    bed.call(Operation::Devices(ClassRequest::default()))
        .await
        .unwrap_err();
    wait_until("the end of the child", || !is_alive(children[0]));
}

fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect()
}

#[tokio::test]
async fn one_plugin_never_disturbs_another() {
    let bad = hostile(json!({"scan": "hang"}));
    let good = raw(json!({}));
    // Both in one pool.
    let slow = tokio::spawn({
        let (pool, plugin) = (bad.pool.clone(), bad.plugin.clone());
        async move { pool.scan(&plugin, deadline(3000)).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    bad.pool.scan(&good.plugin, deadline(3000)).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(2000),
        "not behind the other"
    );
    assert!(!slow.is_finished());
    assert!(matches!(
        slow.await.unwrap().unwrap_err().cause,
        Cause::Deadline { .. }
    ));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_to_be_missing() {
    let bed = bed(HOSTILE, json!({}), |o| {
        o.program = "/nowhere/daos_server_helper".into()
    });
    let error = bed.scan().await.unwrap_err();
    assert!(matches!(error.cause, Cause::Start(_)));
    assert!(
        error.to_string().contains("/nowhere/daos_server_helper"),
        "{error}"
    );
}

/// Within so many calls, so that the tests are short.
fn leaking(fixture: &str, behaviour: &str) -> common::Bed {
    bed(fixture, json!({ "on": { "scan": behaviour } }), |options| {
        options.growth.calls = 100;
    })
}

#[tokio::test]
async fn helpers_whose_open_files_or_memory_grow_are_replaced_between_calls() {
    // A block device; SCM and a fabric.
    let fixtures = [HOSTILE, HOSTILE_FACES];
    let leaks = ["leak-fds:1", "leak-memory:1000000"];
    for (fixture, behaviour) in fixtures.iter().flat_map(|f| leaks.map(|l| (*f, l))) {
        let bed = leaking(fixture, behaviour);
        let first = bed.scan_process().await;
        for call in 1..110 {
            let process = bed.scan_process().await;
            assert_eq!(process, first, "call {call} of {behaviour}");
        }
        assert_eq!(bed.pool.counts()[fixture].recycled, 1, "{behaviour}");
        let second = bed.scan_process().await;
        assert_ne!(second, first, "{behaviour}");
        assert!(!is_alive(first));
        let counts = &bed.pool.counts()[fixture];
        assert_eq!(
            (counts.starts, counts.calls, counts.failures, counts.deaths),
            (2, 111, 0, 0)
        );
    }
}

#[tokio::test]
async fn helpers_that_do_not_grow_are_kept() {
    for fixture in [HOSTILE, HOSTILE_FACES] {
        let bed = leaking(fixture, "print");
        let first = bed.scan_process().await;
        for _ in 0..330 {
            assert_eq!(bed.scan_process().await, first);
        }
        assert_eq!(bed.pool.counts()[fixture].recycled, 0);
    }
}

#[tokio::test]
async fn closing_descriptors_of_others() {
    for behaviour in ["close-fds", "close-range", "replace-fds"] {
        in_every_operation(behaviour, |error| {
            let said = "closed its process's connection to the daemon";
            assert!(error.to_string().contains(said), "{behaviour}: {error}");
        })
        .await;
    }
}
