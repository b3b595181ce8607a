//! Random numbers that a seed and a position decide, so that a run can be repeated.

/// The number at position `n` of the sequence of `seed` (splitmix64).
pub(crate) fn hash(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A random number as a fraction, 0 included, 1 not.
pub(crate) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// A number of the standard normal distribution (Box-Muller).
pub(crate) fn normal(random: u64) -> f64 {
    let radius = (-2.0 * (1.0 - unit(random)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(hash(random, 1))).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_repeat_and_are_spread() {
        assert_eq!(hash(1, 2), hash(1, 2));
        assert_ne!(hash(1, 2), hash(2, 2));
        let mean = (0..10_000).map(|n| unit(hash(7, n))).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        let squares = (0..10_000).map(|n| normal(hash(7, n)).powi(2)).sum::<f64>() / 10_000.0;
        assert!((squares - 1.0).abs() < 0.06, "{squares}");
    }
}
