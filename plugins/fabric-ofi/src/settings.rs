//! Settings of the plugin (`plugins: fabric-ofi: settings:` in the config).

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// How endpoints of a provider without a wait descriptor are polled while nothing happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// First pause after something happened.
    #[serde(rename = "poll_us", deserialize_with = "microseconds")]
    pub poll: Duration,
    /// Longest pause, after a long rest.
    #[serde(rename = "idle_poll_us", deserialize_with = "microseconds")]
    pub idle_poll: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll: Duration::from_micros(20),
            idle_poll: Duration::from_micros(2500),
        }
    }
}

impl Settings {
    /// Reads the settings of the config; INVALID names what is wrong.
    pub fn from_json(settings: Map<String, Value>) -> Result<Self> {
        let settings: Self = serde_json::from_value(Value::Object(settings)).map_err(|error| {
            let what = "the settings of plugin fabric-ofi are not valid";
            Error::new(Status::INVALID, what)
                .cause(error.to_string())
                .remedy("known are poll_us and idle_poll_us, whole numbers of microseconds")
        })?;
        settings.checked()
    }

    fn checked(self) -> Result<Self> {
        let invalid = |name: &str, value: Duration, remedy: &str| {
            let value = value.as_micros();
            let what = format!("setting {name} of plugin fabric-ofi is {value}");
            Err(Error::new(Status::INVALID, what).remedy(remedy))
        };
        if self.poll.is_zero() {
            return invalid("poll_us", self.poll, "set it to at least 1");
        }
        if self.idle_poll < self.poll || self.idle_poll > Duration::from_secs(1) {
            let remedy = "set it to at least poll_us and at most 1000000";
            return invalid("idle_poll_us", self.idle_poll, remedy);
        }
        Ok(self)
    }
}

fn microseconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u32::deserialize(from).map(|value| Duration::from_micros(value.into()))
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
        let settings = read(r#"{"idle_poll_us": 5000}"#).unwrap();
        assert_eq!(settings.idle_poll, Duration::from_millis(5));
        assert_eq!(settings.poll, Settings::default().poll);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, names) in [
            (r#"{"poll_ms": 1}"#, "poll_ms"),
            (r#"{"poll_us": 0}"#, "poll_us"),
            (r#"{"poll_us": 50, "idle_poll_us": 49}"#, "idle_poll_us"),
            (r#"{"idle_poll_us": 1000001}"#, "idle_poll_us"),
            (r#"{"poll_us": "soon"}"#, "string"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.status, Status::INVALID);
            assert!(error.to_string().contains(names), "{error}");
            assert!(!error.remedy.is_empty(), "{error}");
        }
    }
}
