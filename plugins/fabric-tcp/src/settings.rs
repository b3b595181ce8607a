//! Settings of the plugin (`plugins: fabric-tcp: settings:` in the config).

use crate::data::MAX_MESSAGE_COST;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// Limits of every endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Most bytes of memory for messages that came before their RECV, per endpoint.
    pub unexpected_bytes: usize,
    /// Most of these bytes for the messages of one peer.
    pub unexpected_bytes_per_peer: usize,
    /// How long a peer may take to accept data that was sent to it (its kernel's buffers being
    /// full, or the network broken) before it counts as unreachable.
    #[serde(rename = "peer_timeout_ms", deserialize_with = "milliseconds")]
    pub peer_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            unexpected_bytes: 64 << 20,
            unexpected_bytes_per_peer: 8 << 20,
            peer_timeout: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// Reads the settings of the config; INVALID names what is wrong.
    pub fn from_json(settings: Map<String, Value>) -> Result<Self> {
        let settings: Self = serde_json::from_value(Value::Object(settings)).map_err(|error| {
            Error::new(
                Status::INVALID,
                "the settings of plugin fabric-tcp are not valid",
            )
            .cause(error.to_string())
            .remedy(
                "known are unexpected_bytes, unexpected_bytes_per_peer and peer_timeout_ms, \
                     all whole numbers",
            )
        })?;
        settings.checked()
    }

    /// The settings if they are in range: any one message must fit into the limits, or it could
    /// never be received.
    pub fn checked(self) -> Result<Self> {
        let invalid = |name: &str, value: u128, least: u128| {
            let what = format!("setting {name} of plugin fabric-tcp is {value}");
            Err(Error::new(Status::INVALID, what).remedy(format!("set it to at least {least}")))
        };
        let least = MAX_MESSAGE_COST as u128;
        let limits = [
            ("unexpected_bytes", self.unexpected_bytes),
            ("unexpected_bytes_per_peer", self.unexpected_bytes_per_peer),
        ];
        for (name, value) in limits {
            if value < MAX_MESSAGE_COST {
                return invalid(name, value as u128, least);
            }
        }
        if self.peer_timeout < Duration::from_millis(100) {
            return invalid("peer_timeout_ms", self.peer_timeout.as_millis(), 100);
        }
        Ok(self)
    }
}

fn milliseconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u32::deserialize(from).map(|value| Duration::from_millis(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings> {
        Settings::from_json(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_is_absent_has_a_default() {
        assert_eq!(read("{}").unwrap(), Settings::default());
        let settings = read(r#"{"peer_timeout_ms": 1500}"#).unwrap();
        assert_eq!(settings.peer_timeout, Duration::from_millis(1500));
        assert_eq!(
            settings.unexpected_bytes,
            Settings::default().unexpected_bytes
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, names) in [
            (r#"{"unexpected_byte": 1}"#, "unexpected_byte"),
            (r#"{"unexpected_bytes": 4096}"#, "unexpected_bytes"),
            (
                r#"{"unexpected_bytes_per_peer": 0}"#,
                "unexpected_bytes_per_peer",
            ),
            (r#"{"peer_timeout_ms": 5}"#, "peer_timeout_ms"),
            (r#"{"peer_timeout_ms": "long"}"#, "string"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.status, Status::INVALID);
            assert!(error.to_string().contains(names), "{error}");
            assert!(!error.remedy.is_empty(), "{error}");
        }
    }
}
