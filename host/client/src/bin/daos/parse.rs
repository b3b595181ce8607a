//! Words of the command line.

use daos_client::ObjectId;

/// Port of the control plane when none is given.
const DEFAULT_PORT: u16 = 10001;

/// `host`, `host:port`, `1.2.3.4`, `[::1]`, `fe80::1` as host:port.
pub(crate) fn host_port(entry: &str) -> Result<String, String> {
    let (host, port) = match entry.rsplit_once(':') {
        // Colons inside brackets, or several without them, belong to an IPv6 address.
        Some((host, port))
            if !port.contains(']') && (!host.contains(':') || host.starts_with('[')) =>
        {
            let port = port.parse::<u16>().ok().filter(|port| *port != 0);
            let port =
                port.ok_or_else(|| "the port must be a number from 1 to 65535".to_owned())?;
            (host.to_owned(), port)
        }
        Some(_) if !entry.starts_with('[') => (format!("[{entry}]"), DEFAULT_PORT),
        _ => (entry.to_owned(), DEFAULT_PORT),
    };
    if host.is_empty() || host == "[]" {
        return Err("no host is named".to_owned());
    }
    Ok(format!("{host}:{port}"))
}

/// `HI.LO` or `LO`.
pub(crate) fn object_id(text: &str) -> Result<ObjectId, String> {
    let (hi, lo) = text.split_once('.').unwrap_or(("0", text));
    match (hi.parse(), lo.parse()) {
        (Ok(hi), Ok(lo)) => Ok(ObjectId { hi, lo }),
        _ => Err("an object is two numbers, HI.LO, or one".to_owned()),
    }
}

/// A key as given, or from hexadecimal digits.
pub(crate) fn key(text: &str, hex: bool) -> anyhow::Result<Vec<u8>> {
    if !hex {
        return Ok(text.as_bytes().to_vec());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    });
    pairs
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| anyhow::anyhow!("key {text:?} is no row of pairs of hexadecimal digits"))
}

/// A key for people: escaped where it is not printable, or hexadecimal.
pub(crate) fn show(key: &[u8], hex: bool) -> String {
    if hex {
        return key.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => key.escape_ascii().to_string(),
    }
}

/// Sizes of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Smallest, in bytes.
    pub(crate) min: usize,
    /// Largest, in bytes.
    pub(crate) max: usize,
}

/// Largest value an engine stores.
const LARGEST: usize = 1 << 20;

impl std::str::FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let (min, max) = (bytes(min)?, bytes(max)?);
        if min > max || max > LARGEST {
            return Err("sizes go up to 1MiB, the smaller one first".to_owned());
        }
        Ok(Self { min, max })
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}..{}", self.min, self.max)
        }
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        unit => return Err(format!("{unit:?} is no unit; use B, KiB or MiB")),
    };
    let number: Option<usize> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("{text:?} is no number of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_points() {
        for (entry, expected) in [
            ("node1", "node1:10001"),
            ("node1:5", "node1:5"),
            ("[::1]", "[::1]:10001"),
            ("[::1]:77", "[::1]:77"),
            ("fe80::1", "[fe80::1]:10001"),
        ] {
            assert_eq!(host_port(entry).unwrap(), expected);
        }
        for entry in ["", ":1", "node:0", "node:65536", "node:x", "[]"] {
            assert!(host_port(entry).is_err(), "{entry:?} was accepted");
        }
    }

    #[test]
    fn objects_and_keys() {
        assert_eq!(object_id("7").unwrap(), ObjectId { hi: 0, lo: 7 });
        assert_eq!(object_id("3.7").unwrap(), ObjectId { hi: 3, lo: 7 });
        for wrong in ["", ".", "1.", "1.2.3", "-1", "x"] {
            assert!(object_id(wrong).is_err(), "{wrong:?} was accepted");
        }
        assert_eq!(key("00fF", true).unwrap(), [0, 255]);
        assert_eq!(key("00fF", false).unwrap(), b"00fF");
        assert!(key("0", true).is_err() && key("0g", true).is_err());
        assert_eq!(show(b"\x00\xff", true), "00ff");
        assert_eq!(show(b"\x00a", false), "\\x00a");
        assert_eq!(show("tür".as_bytes(), false), "tür");
    }

    #[test]
    fn sizes() {
        let parse = |text: &str| text.parse::<Sizes>();
        assert_eq!(
            parse("1..1MiB"),
            Ok(Sizes {
                min: 1,
                max: 1 << 20
            })
        );
        assert_eq!(
            parse("4KiB"),
            Ok(Sizes {
                min: 4096,
                max: 4096
            })
        );
        assert_eq!(parse("0..10"), Ok(Sizes { min: 0, max: 10 }));
        for wrong in [
            "",
            "2MiB",
            "5..4",
            "1GiB",
            "x",
            "1..",
            "99999999999999999999M",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
