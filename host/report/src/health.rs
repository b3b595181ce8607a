//! Health of a device.

use daos_proto::host::DeviceHealth;
use serde::Serialize;
use std::collections::BTreeMap;

/// Kelvin at zero degrees Celsius.
const FREEZING: i64 = 273;

/// Health of a device; what is absent is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in host.proto
pub struct HealthRow {
    pub status: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Numbers by name.
    #[serde(flatten)]
    pub values: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl From<DeviceHealth> for HealthRow {
    fn from(health: DeviceHealth) -> Self {
        let narrow = [
            ("temperature_kelvin", health.temperature_kelvin),
            ("spare_percent", health.spare_percent),
            ("spare_threshold_percent", health.spare_threshold_percent),
            ("used_percent", health.used_percent),
            ("critical_warning", health.critical_warning),
            (
                "warning_temperature_minutes",
                health.warning_temperature_minutes,
            ),
            (
                "critical_temperature_minutes",
                health.critical_temperature_minutes,
            ),
        ];
        let wide = [
            ("media_errors", health.media_errors),
            ("power_on_hours", health.power_on_hours),
            ("power_cycles", health.power_cycles),
            ("unsafe_shutdowns", health.unsafe_shutdowns),
            ("error_log_entries", health.error_log_entries),
            ("data_units_read", health.data_units_read),
            ("data_units_written", health.data_units_written),
            ("busy_minutes", health.busy_minutes),
        ];
        let narrow = narrow.map(|(name, value)| (name, value.map(u64::from)));
        let values = narrow.into_iter().chain(wide);
        Self {
            status: health.status,
            warnings: health.warnings,
            values: values.filter_map(|(name, v)| Some((name, v?))).collect(),
            details: health
                .details
                .into_iter()
                .map(|d| (d.key, d.value))
                .collect(),
        }
    }
}

impl HealthRow {
    /// In one line: `ok, 50 C, spare 100% (warns below 10%), used 7%, media errors 0, 8760 hours on`.
    pub fn line(&self) -> String {
        let value = |name: &str| self.values.get(name).copied();
        let mut words = Vec::new();
        if !self.status.is_empty() {
            words.push(self.status.clone());
        }
        if let Some(kelvin) = value("temperature_kelvin") {
            let celsius = i64::try_from(kelvin).unwrap_or(i64::MAX) - FREEZING;
            words.push(format!("{celsius} C"));
        }
        if let Some(spare) = value("spare_percent") {
            let below = value("spare_threshold_percent");
            let below = below.map(|t| format!(" (warns below {t}%)"));
            words.push(format!("spare {spare}%{}", below.unwrap_or_default()));
        }
        if let Some(used) = value("used_percent") {
            words.push(format!("used {used}%"));
        }
        for (name, text) in [
            ("media_errors", "media errors"),
            ("error_log_entries", "errors logged"),
            ("power_on_hours", "hours on"),
            ("power_cycles", "power cycles"),
            ("unsafe_shutdowns", "unsafe shutdowns"),
        ] {
            if let Some(number) = value(name) {
                words.push(format!("{text} {number}"));
            }
        }
        if let Some(bits) = value("critical_warning").filter(|bits| *bits != 0) {
            words.push(format!("critical warning {bits:#04x}"));
        }
        words.extend(self.warnings.iter().cloned());
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_fits_into_a_line() {
        let health = DeviceHealth {
            status: "warning".to_owned(),
            temperature_kelvin: Some(323),
            spare_percent: Some(100),
            spare_threshold_percent: Some(10),
            media_errors: Some(0),
            critical_warning: Some(2),
            warnings: vec!["temperature is outside of its limits".to_owned()],
            ..DeviceHealth::default()
        };
        let row = HealthRow::from(health);
        assert_eq!(
            row.line(),
            "warning, 50 C, spare 100% (warns below 10%), media errors 0, critical warning 0x02, temperature is \
             outside of its limits"
        );
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["temperature_kelvin"], 323);
        assert!(json.get("used_percent").is_none(), "{json}");
        assert_eq!(HealthRow::from(DeviceHealth::default()).line(), "");
    }
}
