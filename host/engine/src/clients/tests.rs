use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const BOUNDS: Bounds = Bounds {
    clients: 64,
    outcomes: 1024,
};

fn by(client: u128, sequence: u64, settled: u64) -> Origin {
    Origin {
        client: Uuid::from_u128(client),
        sequence,
        settled,
    }
}

fn ok(count: u32) -> Verdict {
    Verdict::Finished(Outcome {
        status: WireStatus::OK,
        count,
    })
}

#[test]
fn a_change_is_new_once_then_finished_then_stale() {
    let mut table = Clients::new(BOUNDS);
    assert_eq!(table.judge(by(1, 5, 5)), Verdict::New);
    table.finished(by(1, 5, 5), 1, 3);
    assert_eq!(table.judge(by(1, 5, 5)), ok(3));
    assert_eq!(table.judge(by(2, 5, 5)), Verdict::New, "another client");
    // Out of order: concurrent calls end as they like.
    table.finished(by(1, 9, 5), 2, 0);
    table.finished(by(1, 7, 5), 3, 1);
    assert_eq!(table.judge(by(1, 7, 5)), ok(1));
    assert_eq!(table.judge(by(1, 8, 5)), Verdict::New);
    assert_eq!(table.judge(by(1, 4, 0)), Verdict::Stale, "below the floor");
    table.heard(Uuid::from_u128(1), 8);
    assert_eq!(table.judge(by(1, 7, 0)), Verdict::Stale);
    assert_eq!(table.judge(by(1, 9, 8)), ok(0));
    // Lower news arrive late: the floor never sinks.
    table.heard(Uuid::from_u128(1), 2);
    assert_eq!(table.judge(by(1, 7, 0)), Verdict::Stale);
    let no_space = WireStatus::NO_SPACE;
    table.refused(by(1, 10, 8), no_space);
    let refused = Outcome {
        status: no_space,
        count: 0,
    };
    assert_eq!(table.judge(by(1, 10, 8)), Verdict::Finished(refused));
}

#[test]
fn rows_hold_what_was_carried_out_and_every_changed_bit_is_noticed() {
    let mut table = Clients::new(BOUNDS);
    table.finished(by(1, 5, 2), 7, 3);
    table.refused(by(1, 6, 2), WireStatus::DAMAGED);
    table.refused(by(2, 6, 2), WireStatus::DAMAGED);
    let rows = table.take_rows();
    assert_eq!(rows.len(), 1, "a refused change changes no row");
    let (client, row) = (rows[0].0, rows[0].1.clone().unwrap());
    let again = Clients::load(BOUNDS, [(client, row.clone())]).unwrap();
    assert_eq!(again.judge(by(1, 5, 2)), ok(3));
    assert_eq!(again.judge(by(1, 6, 2)), Verdict::New);
    assert_eq!(again.judge(by(1, 1, 1)), Verdict::Stale);
    assert!(Clients::load(BOUNDS, [(Uuid::from_u128(9), row.clone())]).is_err());
    for bit in 0..row.len() * 8 {
        let mut bad = row.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Clients::load(BOUNDS, [(client, bad)]).is_err(), "bit {bit}");
    }
    for cut in 0..row.len() {
        assert!(Clients::load(BOUNDS, [(client, row[..cut].to_vec())]).is_err());
    }
}

#[test]
fn rows_go_once_and_again_after_a_failed_commit() {
    let mut table = Clients::new(BOUNDS);
    table.finished(by(1, 1, 1), 1, 0);
    table.finished(by(1, 2, 1), 2, 0);
    table.finished(by(2, 1, 1), 3, 0);
    assert_eq!(table.take_rows().len(), 2);
    table.finished(by(2, 2, 1), 4, 0);
    table.rows_written(false);
    assert_eq!(table.take_rows().len(), 2);
    table.rows_written(true);
    assert!(table.take_rows().is_empty());
}

#[test]
fn the_longest_silent_are_forgotten_and_their_rows_removed() {
    let mut table = Clients::new(BOUNDS);
    for n in 0..64 {
        table.heard(Uuid::from_u128(n), 0);
        table.finished(by(n, 1, 1), n as u64, 0);
    }
    table.take_rows();
    table.rows_written(true);
    table.heard(Uuid::from_u128(0), 0);
    table.finished(by(64, 1, 1), 99, 0);
    assert!(table.len() <= 64);
    assert_eq!(table.judge(by(0, 1, 1)), ok(0), "heard a moment ago");
    assert_eq!(table.judge(by(1, 1, 1)), Verdict::New, "silent longest");
    assert_eq!(table.judge(by(63, 1, 1)), ok(0));
    let rows = table.take_rows();
    let gone = rows.iter().filter(|(_, row)| row.is_none()).count();
    assert_eq!(gone, 65 - table.len());
    assert!(
        rows.iter()
            .any(|(c, row)| *c == Uuid::from_u128(64) && row.is_some())
    );
}

#[test]
fn silence_of_more_than_a_day_is_forgotten() {
    let mut table = Clients::new(BOUNDS);
    let start = Instant::now();
    table.age(start);
    table.heard(Uuid::from_u128(1), 0);
    table.finished(by(1, 1, 1), 1, 0);
    table.finished(by(2, 1, 1), 2, 0);
    let hour = Duration::from_secs(3600);
    for n in 1..=25 {
        table.age(start + n * hour);
        assert_eq!(table.judge(by(1, 1, 1)), ok(0), "after {n} hours");
        table.heard(Uuid::from_u128(2), 0);
    }
    table.age(start + 27 * hour);
    assert_eq!(table.judge(by(1, 1, 1)), Verdict::New);
    assert_eq!(table.judge(by(2, 1, 1)), ok(0));
}

#[test]
fn a_client_that_never_settles_is_told_to_wait_and_loses_nothing() {
    let mut table = Clients::new(BOUNDS);
    let most = BOUNDS.outcomes as u64;
    for n in 1..=most {
        table.finished(by(1, n, 1), n, 0);
    }
    assert_eq!(table.judge(by(1, most + 1, 1)), Verdict::Crowded);
    assert_eq!(table.judge(by(1, most, 1)), ok(0));
    assert_eq!(table.judge(by(2, 1, 1)), Verdict::New);
    table.heard(Uuid::from_u128(1), 2);
    assert_eq!(table.judge(by(1, most + 1, 2)), Verdict::New);
}

proptest! {
    /// Whatever order requests, commits, failures and restarts come in: no change is carried out
    /// twice, and none that its client has settled is carried out at all.
    #[test]
    fn no_change_is_carried_out_twice(
        steps in prop::collection::vec((0u8..10, 0u128..3, 0u64..12), 1..200)
    ) {
        let mut table = Clients::new(BOUNDS);
        // What the log and the index would hold.
        let mut log: Vec<(Origin, u32)> = Vec::new();
        let mut rows: BTreeMap<Uuid, Vec<u8>> = BTreeMap::new();
        let mut applied = 0;
        let mut done: BTreeMap<(u128, u64), u32> = BTreeMap::new();
        let mut floors = [1u64; 3];
        for (kind, client, n) in steps {
            let slot = client as usize;
            match kind {
                0..=4 => {
                    // A request anywhere around the floor: fresh, repeated, or late.
                    let sequence = (floors[slot] + n).saturating_sub(4).max(1);
                    let origin = by(client, sequence, floors[slot].min(sequence));
                    table.heard(origin.client, origin.settled);
                    match table.judge(origin) {
                        Verdict::New => {
                            prop_assert!(!done.contains_key(&(client, sequence)), "{client}.{sequence} twice");
                            let count = log.len() as u32;
                            log.push((origin, count));
                            table.finished(origin, log.len() as u64, count);
                            done.insert((client, sequence), count);
                        }
                        Verdict::Finished(outcome) => {
                            prop_assert_eq!(Some(&outcome.count), done.get(&(client, sequence)));
                        }
                        Verdict::Stale => prop_assert!(sequence < floors[slot]),
                        Verdict::Crowded => prop_assert!(false, "far below the bound"),
                    }
                    if sequence < floors[slot] && done.contains_key(&(client, sequence)) {
                        // Settled and carried out: only `Stale` or its outcome are right, seen above.
                        prop_assert_ne!(table.judge(origin), Verdict::New);
                    }
                }
                5 | 6 => floors[slot] += n / 3,
                7 => {
                    for (client, row) in table.take_rows() {
                        rows.insert(client, row.expect("nobody is forgotten"));
                    }
                    table.rows_written(true);
                    applied = log.len();
                }
                8 => {
                    table.take_rows();
                    table.rows_written(false);
                }
                _ => {
                    table = Clients::load(BOUNDS, rows.clone()).unwrap();
                    for (at, (origin, count)) in log.iter().enumerate().skip(applied) {
                        table.finished(*origin, at as u64 + 1, *count);
                    }
                }
            }
        }
    }
}
