//! Rounds of tests that repeat: a few every day, many with `SOAK=1`; and random numbers whose seed is told.

use std::io::Write as _;

/// How many rounds: `everyday`, or with `SOAK` set `soak`; with a number in `SOAK_ROUNDS` that many.
pub(crate) fn rounds(everyday: u64, soak: u64) -> u64 {
    let set = std::env::var_os("SOAK").is_some_and(|v| !v.is_empty() && v != "0");
    let wanted = std::env::var("SOAK_ROUNDS").ok();
    match (set, wanted.and_then(|n| n.parse().ok())) {
        (true, Some(rounds)) => rounds,
        (true, None) => soak,
        (false, _) => everyday,
    }
}

/// Tells, in a soak, how far a long test is.
pub(crate) fn tell(test: &str, done: u64, total: u64) {
    if std::env::var_os("SOAK").is_some() && done.is_multiple_of(25) {
        // Nothing is left to tell if standard error is gone.
        let _ = writeln!(std::io::stderr(), "{test}: {done} of {total} rounds");
    }
}

/// Random numbers (xorshift64*): the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    /// From `SEED`, else from the clock. Says which, so that a failure can be repeated as far as timing allows.
    pub(crate) fn new(test: &str) -> Self {
        let given = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |d| d.as_nanos() as u64)
        };
        let seed: u64 = given.unwrap_or_else(clock).max(1);
        // Also where output is captured. Nothing is left to tell if standard error is gone.
        let _ = writeln!(std::io::stderr(), "{test}: SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `limit` - 1.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of several.
    pub(crate) fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
