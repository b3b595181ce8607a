//! Requests that arrive more than once, late, or from a new address: each change is carried out once.

mod common;

use common::raw::{OBJECT, Raw, Said, punch, put, put_rma};
use common::{Shape, Storage, container, runtime, value};
use daos_engine::engine::Engine;
use daos_wire::WireStatus;
use std::time::Duration;
use uuid::Uuid;

const WHO: Uuid = Uuid::from_u128(0x77);

fn storage() -> Storage {
    Storage::format(Shape {
        targets: 1,
        ..Shape::default()
    })
}

/// What the ordinary client sees.
fn get(engine: &Engine, dkey: &[u8]) -> Option<Vec<u8>> {
    runtime().block_on(async {
        let (_client, c) = container(engine.uri()).await;
        match c.get(OBJECT, dkey, b"a").await {
            Ok(value) => Some(value),
            Err(daos_client::Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    })
}

/// Another client stores something.
fn other_puts(engine: &Engine, dkey: &[u8], value: &[u8]) {
    runtime().block_on(async {
        let (_client, c) = container(engine.uri()).await;
        c.put(OBJECT, dkey, b"a", value).await.unwrap();
    });
}

fn said(sequence: u64, status: WireStatus, count: u32) -> Said {
    Said {
        sequence,
        status,
        count,
    }
}

#[test]
fn a_repeated_change_is_answered_and_not_carried_out_also_after_a_restart() {
    let storage = storage();
    let mut engine = storage.start();
    let mut raw = Raw::new(WHO, engine.uri(), 0);
    let ok = |sequence, count| said(sequence, WireStatus::OK, count);
    assert_eq!(raw.ask(&put(1, 0, b"k", b"mine")), ok(1, 0));
    assert_eq!(raw.ask(&put(2, 0, b"gone", b"x")), ok(2, 0));
    assert_eq!(raw.ask(&punch(3, 0, b"gone")), ok(3, 1));
    assert_eq!(raw.ask(&punch(4, 0, b"never")), ok(4, 0));
    for dkey in [&b"k"[..], b"gone", b"never"] {
        other_puts(&engine, dkey, b"theirs");
    }
    for round in 0..3 {
        assert_eq!(raw.ask(&put(1, 0, b"k", b"mine")), ok(1, 0));
        assert_eq!(raw.ask(&punch(3, 0, b"gone")), ok(3, 1));
        assert_eq!(raw.ask(&punch(4, 0, b"never")), ok(4, 0));
        for dkey in [&b"k"[..], b"gone", b"never"] {
            assert_eq!(get(&engine, dkey).unwrap(), b"theirs", "round {round}");
        }
        drop(raw);
        engine.stop().unwrap();
        engine = storage.start();
        raw = Raw::new(WHO, engine.uri(), 0);
    }
    engine.stop().unwrap();
}

#[test]
fn what_its_client_has_settled_is_refused_also_after_a_restart() {
    let storage = storage();
    let mut engine = storage.start();
    let mut raw = Raw::new(WHO, engine.uri(), 0);
    // 3 was given up by its client and is still on its way somewhere.
    assert_eq!(raw.ask(&put(5, 4, b"k", b"new")).status, WireStatus::OK);
    for _ in 0..2 {
        let late = raw.ask(&put(3, 3, b"k", b"old"));
        assert_eq!(late.status, WireStatus::STALE);
        assert_eq!(raw.ask(&punch(2, 1, b"k")).status, WireStatus::STALE);
        assert_eq!(get(&engine, b"k").unwrap(), b"new");
        drop(raw);
        engine.stop().unwrap();
        engine = storage.start();
        raw = Raw::new(WHO, engine.uri(), 0);
    }
    // Not even a request that changes nothing lets the floor sink.
    assert_eq!(raw.ask(&put(6, 0, b"k", b"newer")).status, WireStatus::OK);
    assert_eq!(raw.ask(&put(3, 0, b"k", b"old")).status, WireStatus::STALE);
    assert_eq!(get(&engine, b"k").unwrap(), b"newer");
    engine.stop().unwrap();
}

#[test]
fn a_refused_change_stays_refused() {
    let storage = storage();
    let engine = storage.start();
    let mut raw = Raw::new(WHO, engine.uri(), 0);
    let mut damaged = put(1, 0, b"k", b"value");
    damaged.checksum ^= 1;
    assert_eq!(raw.ask(&damaged), said(1, WireStatus::DAMAGED, 0));
    // The client has that answer; a better copy of the request may still arrive.
    let again = raw.ask(&put(1, 0, b"k", b"value"));
    assert_eq!(again, said(1, WireStatus::DAMAGED, 0));
    assert_eq!(get(&engine, b"k"), None);
    assert_eq!(raw.ask(&put(2, 0, b"k", b"value")).status, WireStatus::OK);
    engine.stop().unwrap();
}

#[test]
fn a_change_under_way_answers_where_it_was_repeated_from() {
    let storage = storage();
    let engine = storage.start();
    let bytes = value(1, 200_000);
    let mut first = Raw::new(WHO, engine.uri(), 0);
    let rma = first.offer(&bytes);
    first.send(&put_rma(1, b"k", &bytes, rma));
    // The engine waits for the value, which nobody serves.
    std::thread::sleep(Duration::from_millis(100));
    let mut second = Raw::new(WHO, engine.uri(), 0);
    let rma = second.offer(&bytes);
    second.send(&put_rma(1, b"k", &bytes, rma));
    std::thread::sleep(Duration::from_millis(100));
    let mut answered = Vec::new();
    for _ in 0..30_000 {
        assert!(first.turn().is_empty(), "the first address gets no answer");
        answered.extend(second.turn());
        if !answered.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(answered, [said(1, WireStatus::OK, 0)]);
    assert_eq!(get(&engine, b"k").unwrap(), bytes);
    engine.stop().unwrap();
}

#[test]
fn a_change_whose_first_address_died_can_be_made_again() {
    let storage = storage();
    let engine = storage.start();
    let bytes = value(1, 200_000);
    let mut first = Raw::new(WHO, engine.uri(), 0);
    let rma = first.offer(&bytes);
    first.send(&put_rma(1, b"k", &bytes, rma));
    std::thread::sleep(Duration::from_millis(100));
    let mut second = Raw::new(WHO, engine.uri(), 0);
    let rma = second.offer(&bytes);
    second.send(&put_rma(1, b"k", &bytes, rma));
    std::thread::sleep(Duration::from_millis(100));
    drop(first);
    let mut status = second.wait().status;
    if status == WireStatus::UNREACHABLE {
        status = second.ask(&put_rma(2, b"k", &bytes, rma)).status;
    }
    assert_eq!(status, WireStatus::OK);
    assert_eq!(get(&engine, b"k").unwrap(), bytes);
    engine.stop().unwrap();
}

#[test]
fn a_change_given_up_while_under_way_does_not_undo_a_later_one() {
    let storage = storage();
    let engine = storage.start();
    let old = value(1, 200_000);
    let mut slow = Raw::new(WHO, engine.uri(), 0);
    let rma = slow.offer(&old);
    slow.send(&put_rma(1, b"k", &old, rma));
    std::thread::sleep(Duration::from_millis(100));
    // The client gives it up, says so, and stores something else.
    let mut raw = Raw::new(WHO, engine.uri(), 0);
    assert_eq!(raw.ask(&put(2, 2, b"k", b"new")).status, WireStatus::OK);
    assert_eq!(slow.wait().status, WireStatus::STALE);
    assert_eq!(get(&engine, b"k").unwrap(), b"new");
    engine.stop().unwrap();
}
