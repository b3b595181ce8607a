//! How many entries the rings of a queue have.

/// Of a ring's entries the driver takes this part, within these bounds, for completions of one look, and lets so many commands
/// fewer under way; the rest waits in a list of its own. The same in all versions.
const PART: u32 = 4;
const BOUNDS: (u32, u32) = (1, 128);

/// Completions that one look should take, if the queue has as many requests: each look rings the doorbells.
const AT_ONCE: u32 = 32;

/// Entries with which the driver has `depth` commands under way, but no more than the controller's rings have.
pub(super) fn entries(depth: u32, most: u32) -> u32 {
    let under_way = |entries: u32| entries - (entries / PART).clamp(BOUNDS.0, BOUNDS.1);
    let least = (depth + 1).max(depth.min(AT_ONCE) * PART);
    let enough = (least..).find(|&entries| under_way(entries) >= depth);
    enough.unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use super::entries;

    #[test]
    fn a_ring_has_what_the_driver_sets_aside_besides_its_depth() {
        let with_depth = [
            (1, 4),
            (8, 32),
            (32, 128),
            (96, 128),
            (128, 170),
            (384, 511),
            (1023, 1151),
        ];
        for (depth, wanted) in with_depth {
            assert_eq!(entries(depth, 2048), wanted, "of depth {depth}");
        }
    }

    #[test]
    fn a_ring_is_no_larger_than_the_controller_has_it() {
        assert_eq!(entries(63, 64), 64);
        assert_eq!(entries(1023, 1024), 1024);
        assert_eq!(entries(1, 2), 2);
    }
}
