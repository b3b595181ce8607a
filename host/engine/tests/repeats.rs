//! Requests that arrive more than once, late, or from a new address: each change is carried out once.

mod common;

use common::raw::{OBJECT, Raw, Said, array_put, punch, put, put_rma};
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
    let mut first = Raw::connected(WHO, engine.uri(), 0);
    let rma = first.offer(&bytes);
    first.send(&put_rma(1, b"k", &bytes, rma));
    // The engine waits for the value, which nobody serves.
    std::thread::sleep(Duration::from_millis(100));
    let mut second = Raw::connected(WHO, engine.uri(), 0);
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
    let mut first = Raw::connected(WHO, engine.uri(), 0);
    let rma = first.offer(&bytes);
    first.send(&put_rma(1, b"k", &bytes, rma));
    std::thread::sleep(Duration::from_millis(100));
    let mut second = Raw::connected(WHO, engine.uri(), 0);
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
    let mut slow = Raw::connected(WHO, engine.uri(), 0);
    let rma = slow.offer(&old);
    slow.send(&put_rma(1, b"k", &old, rma));
    std::thread::sleep(Duration::from_millis(100));
    // The client gives it up, says so, and stores something else.
    let mut raw = Raw::connected(WHO, engine.uri(), 0);
    assert_eq!(raw.ask(&put(2, 2, b"k", b"new")).status, WireStatus::OK);
    assert_eq!(slow.wait().status, WireStatus::STALE);
    assert_eq!(get(&engine, b"k").unwrap(), b"new");
    engine.stop().unwrap();
}

/// The first bytes of the array, as the ordinary client sees them.
fn read(engine: &Engine, count: u64) -> Vec<u8> {
    runtime().block_on(async {
        let (_client, c) = container(engine.uri()).await;
        let array = c.array(OBJECT, b"k", b"a", 1).unwrap();
        array.read(0, count).await.unwrap()
    })
}

fn other_writes(engine: &Engine, offset: u64, bytes: &[u8]) {
    runtime().block_on(async {
        let (_client, c) = container(engine.uri()).await;
        let array = c.array(OBJECT, b"k", b"a", 1).unwrap();
        let write = array.write(offset, bytes);
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, write)
            .await
            .expect("nobody is in its way")
            .unwrap();
    });
}

#[test]
fn repeated_writes_and_punches_of_records_are_carried_out_once_also_after_a_restart() {
    let storage = storage();
    let mut engine = storage.start();
    let mut raw = Raw::new(WHO, engine.uri(), 0);
    let write = array_put(1, 2, b"mine", None);
    let punched = |sequence, offset| daos_wire::Request {
        opcode: daos_wire::Opcode::ArrayPunch,
        value_len: 0,
        checksum: 0,
        inline: b"",
        ..array_put(sequence, offset, b"1234", None)
    };
    // A write that replaces an entry says so in its answer, and a punch that finds none does.
    assert_eq!(raw.ask(&array_put(9, 0, b"12345678", None)).count, 0);
    assert_eq!(raw.ask(&write), said(1, WireStatus::OK, 1));
    assert_eq!(raw.ask(&punched(2, 4)), said(2, WireStatus::OK, 1));
    assert_eq!(raw.ask(&punched(3, 100)), said(3, WireStatus::OK, 0));
    assert_eq!(read(&engine, 9), b"12mi");
    other_writes(&engine, 0, b"theirs..");
    other_writes(&engine, 100, b"more");
    for _ in 0..3 {
        assert_eq!(raw.ask(&write), said(1, WireStatus::OK, 1));
        assert_eq!(raw.ask(&punched(2, 4)), said(2, WireStatus::OK, 1));
        assert_eq!(raw.ask(&punched(3, 100)), said(3, WireStatus::OK, 0));
        let got = read(&engine, 200);
        assert_eq!((&got[..8], &got[100..]), (&b"theirs.."[..], &b"more"[..]));
        drop(raw);
        engine.stop().unwrap();
        engine = storage.start();
        raw = Raw::new(WHO, engine.uri(), 0);
    }
    engine.stop().unwrap();
}

#[test]
fn a_client_that_is_slow_to_give_its_records_is_in_nobodys_way() {
    let storage = storage();
    let engine = storage.start();
    other_writes(&engine, 0, &[b'o'; 60_000]);
    let mut slow = Raw::connected(WHO, engine.uri(), 0);
    let bytes = value(1, 20_000);
    let rma = slow.offer(&bytes);
    slow.send(&array_put(1, 10_000, &bytes, Some(rma)));
    // The engine waits for the records, which nobody serves; others write around and over them.
    std::thread::sleep(Duration::from_millis(100));
    other_writes(&engine, 9_000, &[b'n'; 2000]);
    other_writes(&engine, 29_999, &[b'n'; 5]);
    runtime().block_on(async {
        let (_client, c) = container(engine.uri()).await;
        let array = c.array(OBJECT, b"k", b"a", 1).unwrap();
        array.punch(50_000, 100).await.unwrap();
    });
    assert_eq!(slow.wait(), said(1, WireStatus::OK, 1));
    let got = read(&engine, 60_000);
    assert!(got[..9_000] == [b'o'; 9_000] && got[9_000..10_000] == [b'n'; 1000]);
    assert!(got[10_000..30_000] == bytes && got[30_000..30_004] == *b"nnnn");
    assert!(got[50_000..50_100] == [0; 100] && got[50_100..] == [b'o'; 9_900]);
    engine.stop().unwrap();
}
