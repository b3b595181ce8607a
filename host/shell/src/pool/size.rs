//! Sizes on the command line.

use bytesize::ByteSize;

/// Size of a whole pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Total {
    /// Bytes.
    Bytes(u64),
    /// Percent of the space that no pool has yet, above 0 and up to 100.
    Percent(f64),
}

/// A size above zero.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.trim().parse().map_err(|_| {
        format!("{text:?} is no size; give a number with a unit, such as 4GiB, 500MB or 2T")
    })?;
    match size.as_u64() {
        0 => Err("a size must not be zero".to_owned()),
        bytes => Ok(bytes),
    }
}

/// A size, or a share of what is there.
pub(crate) fn parse_total(text: &str) -> Result<Total, String> {
    let Some(number) = text.trim().strip_suffix('%') else {
        return parse(text).map(Total::Bytes);
    };
    match number.trim().parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Total::Percent(percent)),
        _ => Err(format!("{text:?} is no share: give 1% to 100%")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares() {
        assert_eq!(parse("10G"), Ok(10_000_000_000));
        assert_eq!(parse("2GiB"), Ok(2 << 30));
        assert_eq!(parse("500MB"), Ok(500_000_000));
        assert_eq!(parse(" 4096 "), Ok(4096));
        for bad in ["0", "", "Z0", "-1G", "1 parsec"] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(parse_total("50%"), Ok(Total::Percent(50.0)));
        assert_eq!(parse_total("0.5 %"), Ok(Total::Percent(0.5)));
        assert_eq!(parse_total("1k"), Ok(Total::Bytes(1000)));
        for bad in ["0%", "101%", "%", "x%"] {
            assert!(parse_total(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
