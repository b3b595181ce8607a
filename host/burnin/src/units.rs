//! Sizes, times and shares as command lines and job files write them.

use std::time::Duration;

/// Bytes: digits and one of `k m g t p` (powers of 1024, as fio's default), with or without a `b` behind.
///
/// # Errors
/// Says what is wrong with the text.
pub fn size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" => 1,
        "m" | "mb" => 2,
        "g" | "gb" => 3,
        "t" | "tb" => 4,
        "p" | "pb" => 5,
        // fio takes ki for 1000 and k for 1024, the rest of the world the reverse.
        "ki" | "kib" | "mi" | "mib" | "gi" | "gib" | "ti" | "tib" | "pi" | "pib" => {
            return Err(format!(
                "{text:?}: units with an i mean different things to different programs; write k, m, g (powers of 1024)"
            ));
        }
        _ => return Err(not_a_size(text)),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1024u64.checked_pow(power)?))
        .ok_or_else(|| not_a_size(text))
}

fn not_a_size(text: &str) -> String {
    format!("{text:?} is no size (digits and k, m, g, t or p)")
}

/// A time: digits and one of `ms s m h d`; seconds without a unit. At most a year.
///
/// # Errors
/// Says what is wrong with the text.
pub fn time(text: &str) -> Result<Duration, String> {
    const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "ms" => Some(1),
        "" | "s" | "sec" | "second" | "seconds" => Some(1000),
        "m" | "min" | "minute" | "minutes" => Some(60 * 1000),
        "h" | "hour" | "hours" => Some(3600 * 1000),
        "d" | "day" | "days" => Some(24 * 3600 * 1000),
        _ => None,
    };
    digits
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(n, factor): (u64, u64)| n.checked_mul(factor))
        .filter(|ms| *ms <= YEAR_MS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no time (digits and ms, s, m, h or d)"))
}

/// A whole number.
///
/// # Errors
/// Says what is wrong with the text.
pub fn number(text: &str) -> Result<u64, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is no whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("512", 512),
            ("4k", 4096),
            ("4KB", 4096),
            ("1m", 1 << 20),
            ("2G", 2 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "4x", "-1", "1.5k", "99999999999p", "4 k k"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(size("4ki").unwrap_err().contains("different"));
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("15", 15),
            ("15s", 15),
            ("2m", 120),
            ("1h", 3600),
            ("1d", 86_400),
        ] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "m", "4x", "-1", "99999d", "99999999999999999999"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
