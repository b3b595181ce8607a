//! The engine's address list as text: how a client learns where each target listens.
//!
//! `<provider>://<hex>,<hex>,...` - the opaque endpoint addresses of the targets in target order,
//! each as lower-case hexadecimal digits. The text before `://` is the provider of the config
//! (`tcp`, `ofi+tcp`), which the control plane compares with its own.

use crate::ADDRESS_MAX;
use std::fmt::Write as _;
use thiserror::Error;

/// Most targets of an engine.
const TARGETS_MAX: usize = 4096;

/// Addresses of one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUri {
    /// Provider as in the config; not empty, without `://`.
    pub provider: String,
    /// Address of each target, in target order; at least one.
    pub targets: Vec<Vec<u8>>,
}

/// Why a text is no engine URI.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// No provider and `://` in front.
    #[error("engine URI \"{0}\" does not start with <provider>://")]
    Provider(String),
    /// Not hexadecimal, empty, or too long.
    #[error(
        "target {0} of the engine URI has no valid address (1 to {ADDRESS_MAX} bytes in hexadecimal)"
    )]
    Target(usize),
    /// More targets than an engine can have.
    #[error("engine URI lists more than {TARGETS_MAX} targets")]
    TooMany,
}

impl std::str::FromStr for EngineUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let short = || text.chars().take(64).collect::<String>();
        let (provider, list) = text
            .split_once("://")
            .filter(|(provider, _)| !provider.is_empty())
            .ok_or_else(|| UriError::Provider(short()))?;
        let mut targets = Vec::new();
        for (index, item) in list.split(',').enumerate() {
            if index == TARGETS_MAX {
                return Err(UriError::TooMany);
            }
            let bytes = from_hex(item).filter(|b| (1..=ADDRESS_MAX).contains(&b.len()));
            targets.push(bytes.ok_or(UriError::Target(index))?);
        }
        Ok(Self {
            provider: provider.to_owned(),
            targets,
        })
    }
}

impl std::fmt::Display for EngineUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://", self.provider)?;
        for (index, target) in self.targets.iter().enumerate() {
            if index > 0 {
                f.write_char(',')?;
            }
            for byte in target {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * ADDRESS_MAX {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).map(|v| v as u8);
    digits
        .chunks_exact(2)
        .map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let uri = EngineUri {
            provider: "ofi+tcp;ofi_rxm".into(),
            targets: vec![vec![0x7f, 0, 0, 1, 0xab], vec![1]],
        };
        let text = uri.to_string();
        assert_eq!(text, "ofi+tcp;ofi_rxm://7f000001ab,01");
        assert_eq!(text.parse(), Ok(uri));
    }

    #[test]
    fn refuses_nonsense() {
        let parse = |text: &str| text.parse::<EngineUri>().unwrap_err();
        assert!(matches!(parse(""), UriError::Provider(_)));
        assert!(matches!(parse("://00"), UriError::Provider(_)));
        assert_eq!(parse("tcp://"), UriError::Target(0));
        assert_eq!(parse("tcp://00,"), UriError::Target(1));
        assert_eq!(parse("tcp://0"), UriError::Target(0));
        assert_eq!(parse("tcp://zz"), UriError::Target(0));
        assert_eq!(parse("tcp://+1"), UriError::Target(0));
        let long = format!("tcp://{}", "00".repeat(ADDRESS_MAX + 1));
        assert_eq!(parse(&long), UriError::Target(0));
        let many = format!("tcp://{}", vec!["00"; TARGETS_MAX + 1].join(","));
        assert_eq!(parse(&many), UriError::TooMany);
    }
}
