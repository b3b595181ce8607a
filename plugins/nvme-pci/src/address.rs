//! PCI addresses, as people write them.

use std::fmt;
use std::str::FromStr;

/// Address of a PCI function: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Why a text is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress(pub String);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(
            f,
            "{text:?} is not a PCI address (write it like 0000:81:00.0)"
        )
    }
}

impl std::error::Error for BadAddress {}

impl fmt::Display for PciAddress {
    /// The kernel's spelling, `0000:81:00.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl FromStr for PciAddress {
    type Err = BadAddress;

    /// Takes `0000:81:00.0`, `81:00.0` (domain 0), dots instead of colons, capitals. Domains may
    /// have more than four digits (devices behind a VMD).
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let parts: Vec<&str> = text.split([':', '.']).collect();
        let number = |part: &str, digits: std::ops::RangeInclusive<usize>, most: u32| {
            let plain = part.bytes().all(|b| b.is_ascii_hexdigit());
            (plain && digits.contains(&part.len()))
                .then(|| u32::from_str_radix(part, 16).ok())
                .flatten()
                .filter(|n| *n <= most)
                .ok_or_else(bad)
        };
        let (domain, rest) = match parts.as_slice() {
            [domain, rest @ ..] if rest.len() == 3 => (number(domain, 4..=8, u32::MAX)?, rest),
            rest => (0, rest),
        };
        let [bus, device, function] = rest else {
            return Err(bad());
        };
        // The limits make the conversions exact.
        Ok(Self {
            domain,
            bus: number(bus, 2..=2, 0xff)? as u8,
            device: number(device, 2..=2, 0x1f)? as u8,
            function: number(function, 1..=1, 7)? as u8,
        })
    }
}

/// Addresses of a list with blanks or commas between them, sorted, each once.
///
/// # Errors
/// The first entry that is no address.
pub fn parse_list(text: &str) -> Result<Vec<PciAddress>, BadAddress> {
    let entries = text.split([' ', ',', '\t', '\n']);
    let mut list = entries
        .filter(|entry| !entry.is_empty())
        .map(str::parse)
        .collect::<Result<Vec<PciAddress>, _>>()?;
    list.sort();
    list.dedup();
    Ok(list)
}

/// The address of `known` that was probably meant by one that is not there.
pub fn near_miss(wanted: PciAddress, known: &[PciAddress]) -> Option<PciAddress> {
    let wanted = wanted.to_string();
    let distance = |one: &PciAddress| strsim::damerau_levenshtein(&wanted, &one.to_string());
    let nearest = known.iter().min_by_key(|one| (distance(one), **one))?;
    (distance(nearest) <= 2).then_some(*nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> PciAddress {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_of_one_address() {
        for text in [
            "0000:81:00.0",
            "0000.81.00.0",
            "81:00.0",
            "81.00.0",
            "00000000:81:00.0",
        ] {
            assert_eq!(address(text).to_string(), "0000:81:00.0", "{text}");
        }
        assert_eq!(address("10000:0A:1F.7").to_string(), "10000:0a:1f.7");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "0000:81:00",
            "0000:81:20.0",
            "0000:81:00.8",
            "+000:81:00.0",
            "0000:8:00.0",
            "000000000:81:00.0",
            " 0000:81:00.0",
            "0000:81:00.0/1",
            "../../../../x.y",
            "nvme0n1",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn lists_are_taken_with_blanks_and_commas() {
        let list = parse_list(" 0000:81:00.0,81:00.0\t0000.41.00.0\n").unwrap();
        assert_eq!(list, [address("41:00.0"), address("81:00.0")]);
        assert_eq!(parse_list("").unwrap(), []);
        let error = parse_list("0000:81:00.0 0000:8l:00.0").unwrap_err();
        assert_eq!(error, BadAddress("0000:8l:00.0".to_owned()));
    }

    #[test]
    fn a_near_miss_is_named_and_a_far_one_is_not() {
        let known = [address("0000:41:00.0"), address("0000:81:00.0")];
        let near = |text| near_miss(address(text), &known);
        assert_eq!(near("0000:81:00.1"), Some(known[1]));
        assert_eq!(near("0000:14:00.0"), Some(known[0]));
        assert_eq!(near("0000:c7:1f.3"), None);
        assert_eq!(near_miss(known[0], &[]), None);
    }

    proptest! {
        #[test]
        fn display_and_parse_agree(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = PciAddress { domain, bus, device, function };
            let text = address.to_string();
            prop_assert_eq!(text.parse::<PciAddress>().unwrap(), address);
            prop_assert_eq!(text.to_uppercase().parse::<PciAddress>().unwrap(), address);
            prop_assert_eq!(text.replace(':', ".").parse::<PciAddress>().unwrap(), address);
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC{0,20}") {
            if let Ok(address) = text.parse::<PciAddress>() {
                prop_assert_eq!(address.to_string().parse::<PciAddress>().unwrap(), address);
            }
        }

        #[test]
        fn any_list_is_taken_or_refused(text in "[0-9a-f:., ]{0,60}") {
            if let Ok(list) = parse_list(&text) {
                prop_assert!(list.is_sorted());
                let joined: Vec<_> = list.iter().map(ToString::to_string).collect();
                prop_assert_eq!(parse_list(&joined.join(" ")).unwrap(), list);
            }
        }
    }
}
