//! The log against crashes: an SCM that on a crash keeps what was persisted and a random subset of
//! the words that were not.

use super::fake::Fake;
use super::*;
use proptest::prelude::*;

const ME: Identity = Identity {
    engine: Uuid::from_u128(7),
    target: 3,
};

fn payload(sequence: u64, len: usize, salt: u64) -> Vec<u8> {
    let mut x = sequence.wrapping_mul(0x9e37_79b9) ^ salt.wrapping_mul(0x517c_c1b7);
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 56) as u8
        })
        .collect()
}

/// Sequence and bytes of each record.
type Records = Vec<(u64, Vec<u8>)>;

fn collect(memory: Fake) -> Result<(Ring<Fake>, Records), LogError> {
    let mut seen = Vec::new();
    let ring = Ring::open(memory, ME, |sequence, bytes| {
        seen.push((sequence, bytes.to_vec()));
        Ok(())
    })?;
    Ok((ring, seen))
}

const SIZE: usize = layout::MIN_REGION;

#[test]
fn blank_foreign_and_damaged_regions_are_told_apart() {
    let open = |memory| Ring::open(memory, ME, |_, _| Ok(())).err();
    assert_eq!(open(Fake::new(SIZE)), Some(LogError::Blank));
    assert_eq!(open(Fake::new(100)), Some(LogError::TooSmall(100)));
    let other = Identity { target: 4, ..ME };
    let memory = Ring::create(Fake::new(SIZE), other).unwrap().into_memory();
    assert!(matches!(
        open(memory.clone()),
        Some(LogError::Foreign { .. })
    ));
    let mut bad = memory.clone();
    bad.now[20] ^= 1;
    assert!(matches!(open(bad), Some(LogError::Corrupt(_))));
    let mut bad = Ring::create(Fake::new(SIZE), ME).unwrap().into_memory();
    bad.now[64..160].fill(0xff);
    assert!(matches!(open(bad), Some(LogError::Corrupt(_))));
}

#[test]
fn a_new_log_is_there_after_a_crash_also_where_an_old_one_was() {
    let mut old = Ring::create(Fake::new(SIZE), ME).unwrap();
    for n in 1..=9 {
        old.append(&payload(n, 100, 0)).unwrap();
        old.persist().unwrap();
        old.trim(n - 1).unwrap();
    }
    let memory = old.into_memory();
    for seed in 0..20 {
        let ring = Ring::create(memory.clone(), ME).unwrap();
        let keep = super::fake::coin(seed);
        let keep: Box<dyn FnMut() -> bool> = match seed {
            0 => Box::new(|| false),
            _ => Box::new(keep),
        };
        let (ring, seen) = collect(ring.into_memory().crash(keep)).unwrap();
        assert_eq!((seen.len(), ring.next_sequence()), (0, 1));
    }
}

#[test]
fn fills_wraps_and_keeps_order() {
    let mut ring = Ring::create(Fake::new(SIZE), ME).unwrap();
    let mut oldest = 1;
    for round in 0..2000u64 {
        let bytes = payload(round, (round * 37 % 5000) as usize, 0);
        while !ring.has_room(bytes.len()) {
            assert_eq!(ring.append(&bytes), Err(LogError::Full));
            ring.trim(oldest).unwrap();
            oldest += 1;
        }
        assert_eq!(ring.append(&bytes).unwrap(), round + 1);
        ring.persist().unwrap();
    }
    let (again, seen) = collect(ring.into_memory()).unwrap();
    assert_eq!(seen.first().unwrap().0, oldest);
    assert_eq!(seen.last().unwrap().0, 2000);
    for (sequence, bytes) in seen {
        let round = sequence - 1;
        assert_eq!(bytes, payload(round, (round * 37 % 5000) as usize, 0));
    }
    assert_eq!(again.next_sequence(), 2001);
}

#[test]
fn a_record_that_can_never_fit_is_refused() {
    let mut ring = Ring::create(Fake::new(SIZE), ME).unwrap();
    let too_large = vec![0; SIZE / 4 + 1];
    assert!(matches!(
        ring.append(&too_large),
        Err(LogError::TooLarge { .. })
    ));
}

#[test]
fn a_record_torn_at_any_byte_is_not_replayed_and_the_one_before_is() {
    let mut ring = Ring::create(Fake::new(SIZE), ME).unwrap();
    ring.append(&payload(1, 100, 0)).unwrap();
    ring.persist().unwrap();
    let before = ring.memory_image();
    ring.append(&payload(2, 200, 0)).unwrap();
    let after = ring.memory_image();
    let changed: Vec<usize> = (0..SIZE).filter(|at| before[*at] != after[*at]).collect();
    for cut in 0..changed.len() {
        let mut torn = before.clone();
        for at in &changed[..cut] {
            torn[*at] = after[*at];
        }
        let memory = Fake {
            durable: torn.clone(),
            now: torn,
        };
        let (ring, seen) = collect(memory).unwrap();
        assert_eq!(seen, [(1, payload(1, 100, 0))], "cut at byte {cut}");
        assert_eq!(ring.next_sequence(), 2);
    }
}

#[test]
fn a_durable_record_that_the_medium_lost_is_an_error() {
    let mut ring = Ring::create(Fake::new(SIZE), ME).unwrap();
    for n in 1..=5 {
        ring.append(&payload(n, 100, 0)).unwrap();
        ring.persist().unwrap();
    }
    let image = ring.memory_image();
    for record in 0..3 {
        // Header or payload of one of the first three; records of 100 bytes take 192.
        for at in [8, 60, 130] {
            let mut bad = image.clone();
            bad[layout::RING_START + record * 192 + at] ^= 0x40;
            let memory = Fake {
                durable: bad.clone(),
                now: bad,
            };
            let error = collect(memory).err().expect("damage is noticed");
            assert!(matches!(error, LogError::Corrupt(_)), "{error}");
        }
    }
}

#[test]
fn a_record_that_an_earlier_life_never_made_durable_does_not_come_back() {
    let mut ring = Ring::create(Fake::new(SIZE), ME).unwrap();
    ring.append(&payload(1, 100, 0)).unwrap();
    ring.persist().unwrap();
    // Two records in flight; the crash keeps the second only.
    ring.append(&payload(2, 100, 1)).unwrap();
    let first = ring.memory_image();
    ring.append(&payload(3, 100, 1)).unwrap();
    let second = ring.memory_image();
    let mut memory = ring.into_memory();
    for at in 0..SIZE {
        if first[at] != second[at] {
            memory.durable[at] = second[at];
        }
    }
    let (mut ring, seen) = collect(memory.crash(|| false)).unwrap();
    assert_eq!(seen.len(), 1);
    // A record of the same length now ends exactly where the stale one begins.
    assert_eq!(ring.append(&payload(2, 100, 2)).unwrap(), 2);
    ring.persist().unwrap();
    let (_, seen) = collect(ring.into_memory().crash(|| false)).unwrap();
    assert_eq!(seen, [(1, payload(1, 100, 0)), (2, payload(2, 100, 2))]);
}

impl Ring<Fake> {
    fn memory_image(&self) -> Vec<u8> {
        let mut out = vec![0; SIZE];
        self.memory().read(0, &mut out).unwrap();
        out
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Persist,
    Trim(u64),
    Crash(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            6 => (0usize..9000).prop_map(Step::Append),
            4 => Just(Step::Persist),
            2 => (0u64..12).prop_map(Step::Trim),
            1 => any::<u64>().prop_map(Step::Crash),
        ],
        1..120,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens, and however often it crashes: every durable record that was not trimmed is
    /// there with its bytes, and nothing is there that was not appended under its sequence last.
    #[test]
    fn nothing_durable_is_lost_and_nothing_comes_back(steps in steps(), end: u64) {
        let mut ring = Ring::create(Fake::new(SIZE), ME).unwrap();
        let mut appended: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut trimmed = 0;
        for (salt, step) in steps.into_iter().chain([Step::Crash(end)]).enumerate() {
            match step {
                Step::Append(len) => {
                    let bytes = payload(ring.next_sequence(), len, salt as u64);
                    match ring.append(&bytes) {
                        Ok(sequence) => appended.push((sequence, bytes)),
                        Err(error) => prop_assert_eq!(error, LogError::Full),
                    }
                }
                Step::Persist => prop_assert_eq!(ring.persist().unwrap(), ring.next_sequence() - 1),
                Step::Trim(back) => {
                    let upto = ring.durable_sequence().saturating_sub(back);
                    ring.trim(upto).unwrap();
                    trimmed = trimmed.max(upto);
                }
                Step::Crash(seed) => {
                    let durable = ring.durable_sequence();
                    let memory = ring.into_memory().crash(super::fake::coin(seed));
                    let (again, seen) = collect(memory).unwrap();
                    ring = again;
                    for (n, (sequence, bytes)) in seen.iter().enumerate() {
                        prop_assert_eq!(*sequence, trimmed + 1 + n as u64);
                        prop_assert!(appended.contains(&(*sequence, bytes.clone())));
                    }
                    let last = seen.last().map_or(trimmed, |(sequence, _)| *sequence);
                    prop_assert!(last >= durable, "{} of {} durable records", last, durable);
                    appended.retain(|(sequence, _)| *sequence <= last);
                }
            }
        }
    }
}
