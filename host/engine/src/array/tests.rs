//! Plans, content and reads together, against a plain run of bytes.

use super::content::{self, Kept};
use super::plan::{Fate, Plan};
use super::read::{Assembly, Overlap};
use super::{chunk_bytes, chunk_of};
use daos_wire::crc32c;
use proptest::prelude::*;
use std::collections::BTreeMap;

const UNIT: usize = 64;

/// First byte, content and its checksum as it was computed by parts.
type Entries = BTreeMap<u64, (Vec<u8>, u32)>;

/// What each byte of the array is, from `base` on; `None` was never written or is punched.
struct Model {
    base: u64,
    bytes: Vec<Option<u8>>,
}

impl Model {
    fn set(&mut self, start: u64, end: u64, payload: Option<&[u8]>) {
        let at = (start - self.base) as usize;
        for n in 0..(end - start) as usize {
            self.bytes[at + n] = payload.map(|p| p[n]);
        }
    }

    fn read(&self, start: u64, end: u64) -> Vec<u8> {
        let at = |byte: u64| (byte - self.base) as usize;
        let part = &self.bytes[at(start)..at(end)];
        part.iter().map(|byte| byte.unwrap_or(0)).collect()
    }
}

/// Changes the entries as the engine does.
fn change(entries: &mut Entries, size: u32, start: u64, end: u64, payload: Option<&[u8]>) {
    let mut plan = Plan::new(size, start, end, payload.is_some());
    let (mut head_kept, mut tail_kept) = (Kept::default(), Kept::default());
    // Only from the chunk of the first byte on: what begins before cannot reach it.
    for (at, (bytes, checksum)) in entries.range(chunk_of(size, start)..end) {
        if let Fate::Cut { head, tail } = plan.show(*at, bytes.len() as u32) {
            let (front, back) = (0..head as usize, bytes.len() - tail as usize..bytes.len());
            if head > 0 {
                head_kept = content::keep(bytes, *checksum, front).expect("intact");
            }
            if tail > 0 {
                tail_kept = content::keep(bytes, *checksum, back).expect("intact");
            }
        }
    }
    let pieces = plan.pieces();
    let payload = payload.unwrap_or(&[]);
    let sums = content::payload_checksums(payload, &pieces);
    assert_eq!(content::payload_checksum(&sums, &pieces), crc32c(payload));
    let sums = content::checksums(&pieces, &sums, &head_kept, &tail_kept);
    let (places, total) = content::layout(&pieces, UNIT);
    let mut buffer = vec![0xee; total.max(payload.len())];
    buffer[..payload.len()].copy_from_slice(payload);
    content::compose(&mut buffer, &pieces, UNIT, &head_kept, &tail_kept);
    let range = plan.range();
    entries.retain(|at, _| !range.contains(at));
    for ((piece, place), sum) in pieces.iter().zip(places).zip(sums) {
        assert!(range.contains(&piece.start));
        let end = place + piece.len();
        assert!(
            buffer[end..end.next_multiple_of(UNIT)]
                .iter()
                .all(|b| *b == 0)
        );
        let old = entries.insert(piece.start, (buffer[place..end].to_vec(), sum));
        assert_eq!(old, None);
    }
}

fn check(entries: &Entries, size: u32) {
    let mut last = 0;
    for (start, (bytes, checksum)) in entries {
        let end = start + bytes.len() as u64;
        assert!(*start >= last, "entries overlap at {start}");
        assert_eq!(
            chunk_of(size, *start),
            chunk_of(size, end - 1),
            "{start} crosses a chunk"
        );
        assert!(start.is_multiple_of(u64::from(size)) && end.is_multiple_of(u64::from(size)));
        assert_eq!(*checksum, crc32c(bytes), "of the entry at {start}");
        last = end;
    }
}

fn read(entries: &Entries, size: u32, start: u64, end: u64) -> Vec<u8> {
    let mut result = vec![0xee; (end - start) as usize];
    let mut assembly = Assembly::default();
    // In any order: devices answer as they like.
    for (at, (bytes, checksum)) in entries.range(chunk_of(size, start)..end).rev() {
        let Some(overlap) = Overlap::of(*at, bytes.len() as u32, start, end) else {
            continue;
        };
        if overlap.source == (0..bytes.len()) && at % 2 == 0 {
            result[overlap.at..overlap.at + bytes.len()].copy_from_slice(bytes);
            assembly.note(*checksum, &overlap);
        } else {
            assert!(assembly.copy(bytes, *checksum, &overlap, &mut result));
        }
    }
    let checksum = assembly.finish(&mut result);
    assert_eq!(checksum, crc32c(&result), "the combined checksum");
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written and punched, reads give what a plain run of bytes would.
    #[test]
    fn reads_like_a_run_of_bytes(
        size in prop::sample::select(vec![1u32, 2, 3, 8, 1000, 4096, 65_537, 131_072]),
        chunk in prop::sample::select(vec![0u64, 1, 5, 1 << 30]),
        steps in prop::collection::vec((0u64..60, 1u64..=40, prop::option::weighted(0.8, any::<u8>())), 1..30),
    ) {
        // A few records to both sides of a chunk's border; records of several KiB cross several.
        let records = daos_wire::chunk_records(u64::from(size));
        let small = size;
        let size = u64::from(size);
        // Fewer of the large ones, which have a chunk for each.
        let all = if size > 2000 { 10 } else { 100 };
        let base = ((chunk * records).saturating_sub(all / 2)) * size;
        let mut model = Model { base, bytes: vec![None; (all * size) as usize] };
        let mut entries = Entries::new();
        for (offset, count, fill) in steps {
            let start = base + offset * all / 100 * size;
            let end = start + (count * all / 100).max(1) * size;
            let payload = fill.map(|fill| (start..end).map(|n| fill ^ n as u8).collect::<Vec<u8>>());
            change(&mut entries, small, start, end, payload.as_deref());
            model.set(start, end, payload.as_deref());
            check(&entries, small);
            for (from, to) in [(base, base + all * size), (start, end), (start + size / 2, end)] {
                prop_assert!(read(&entries, small, from, to) == model.read(from, to));
            }
            // What nobody wrote takes no space.
            let stored: usize = entries.values().map(|(bytes, _)| bytes.len()).sum();
            prop_assert_eq!(stored, model.bytes.iter().flatten().count());
        }
    }
}

#[test]
fn a_damaged_entry_is_never_taken() {
    let bytes: Vec<u8> = (0..100).collect();
    let checksum = crc32c(&bytes);
    let overlap = Overlap::of(10, 100, 20, 50).unwrap();
    assert_eq!((overlap.source.clone(), overlap.at), (10..40, 0));
    for at in [0, 10, 39, 40, 99] {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        let mut result = vec![0; 100];
        let mut assembly = Assembly::default();
        assert!(
            !assembly.copy(&bad, checksum, &overlap, &mut result),
            "byte {at}"
        );
        assert_eq!(content::keep(&bad, checksum, 0..10), None);
        assert_eq!(content::keep(&bad, checksum, 90..100), None);
    }
    assert_eq!(content::checksum_of(&bytes, checksum, 90..101), None);
}

#[test]
fn the_largest_change_fits_into_a_buffer() {
    let most = daos_wire::SINGLE_MAX;
    for size in [
        1u64, 3, 4096, 43_691, 65_536, 65_537, 100_000, 131_071, 131_072,
    ] {
        let chunk = chunk_bytes(size as u32);
        for start in [0, size, chunk - size, chunk / 2 / size * size] {
            let end = start + most / size * size;
            let mut plan = Plan::new(size as u32, start, end, true);
            // The chunks at both ends are full.
            plan.show(chunk_of(size as u32, start), chunk as u32);
            plan.show(chunk_of(size as u32, end - 1), chunk as u32);
            let old = 2 * (chunk as usize).next_multiple_of(4096);
            let payload = (end - start) as usize;
            let total = content::buffer_size(&plan.pieces(), payload, old, 4096);
            assert!(total <= crate::memory::LARGE, "{size} at {start}: {total}");
        }
    }
}
