//! Document of `health`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Health in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Nothing is wrong that the device knows of.
    #[default]
    Ok,
    /// It works, but something wants attention.
    Warning,
    /// It fails, or will soon.
    Critical,
    /// It is not there any more.
    Gone,
}

/// Health of a block device. What is `None` is not known: only NVMe devices tell all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// In one word.
    pub status: HealthStatus,
    /// Bits of the NVMe critical warning: 0 spare, 1 temperature, 2 reliability, 3 read-only, 4 volatile
    /// memory backup, 5 persistent memory region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_warning: Option<u8>,
    /// Kelvin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_kelvin: Option<u32>,
    /// Spare capacity left, percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare_percent: Option<u32>,
    /// Spare capacity below which the device warns, percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare_threshold_percent: Option<u32>,
    /// Life used by the vendor's estimate, percent; may exceed 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_percent: Option<u32>,
    /// Bytes that hosts read, in units of 512,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_units_read: Option<u64>,
    /// Bytes that hosts wrote, in units of 512,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_units_written: Option<u64>,
    /// Minutes in which the controller worked on commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_minutes: Option<u64>,
    /// Times it was switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_cycles: Option<u64>,
    /// Hours it was on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_on_hours: Option<u64>,
    /// Times it lost power without being told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsafe_shutdowns: Option<u64>,
    /// Data that could not be recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_errors: Option<u64>,
    /// Entries of the error log over its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_log_entries: Option<u64>,
    /// Minutes above the warning temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning_temperature_minutes: Option<u32>,
    /// Minutes above the critical temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_temperature_minutes: Option<u32>,
    /// What is wrong, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Remarks that are not about this device: a program that is missing, and would have told more. Hosts show each once, however
    /// many devices have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whatever else the class knows.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

/// Bytes of the NVMe SMART / health information log page.
const SMART_PAGE: usize = 512;

impl HealthRecord {
    /// From the NVMe log page 02h, "SMART / Health Information" (NVM Express base specification 1.4,
    /// section 5.14.1.2). Counters of 128 bits end at the largest of 64. `None` if the page is cut off.
    #[must_use]
    pub fn from_nvme_smart(page: &[u8]) -> Option<Self> {
        let page: &[u8; SMART_PAGE] = page.get(..SMART_PAGE)?.try_into().ok()?;
        let short = |at: usize| u32::from(u16::from_le_bytes([page[at], page[at + 1]]));
        let word =
            |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        let counter = |at: usize| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&page[at..at + 16]);
            Some(u64::try_from(u128::from_le_bytes(bytes)).unwrap_or(u64::MAX))
        };
        let critical = page[0];
        let mut warnings: Vec<String> = WARNINGS
            .iter()
            .filter(|(bit, _)| critical & (1 << bit) != 0)
            .map(|(_, text)| (*text).to_owned())
            .collect();
        let used = u32::from(page[5]);
        if used >= 100 {
            warnings.push(format!("{used}% of its rated life is used"));
        }
        // Temperature alone passes; everything else that the device calls critical is.
        let status = if critical & !(1 << 1) != 0 {
            HealthStatus::Critical
        } else if warnings.is_empty() {
            HealthStatus::Ok
        } else {
            HealthStatus::Warning
        };
        Some(Self {
            status,
            critical_warning: Some(critical),
            // Zero stands for a device that does not measure it.
            temperature_kelvin: Some(short(1)).filter(|kelvin| *kelvin > 0),
            spare_percent: Some(u32::from(page[3])),
            spare_threshold_percent: Some(u32::from(page[4])),
            used_percent: Some(used),
            data_units_read: counter(32),
            data_units_written: counter(48),
            busy_minutes: counter(96),
            power_cycles: counter(112),
            power_on_hours: counter(128),
            unsafe_shutdowns: counter(144),
            media_errors: counter(160),
            error_log_entries: counter(176),
            warning_temperature_minutes: Some(word(192)),
            critical_temperature_minutes: Some(word(196)),
            warnings,
            notes: Vec::new(),
            details: Map::new(),
        })
    }
}

/// What the bits of the critical warning say.
const WARNINGS: [(u8, &str); 6] = [
    (0, "spare capacity is below its threshold"),
    (1, "temperature is outside of its limits"),
    (2, "reliability is degraded by errors"),
    (3, "the medium is read-only"),
    (4, "the backup of its volatile memory failed"),
    (5, "its persistent memory region is read-only or unreliable"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> [u8; SMART_PAGE] {
        let mut page = [0; SMART_PAGE];
        page[1..3].copy_from_slice(&323u16.to_le_bytes());
        (page[3], page[4], page[5]) = (100, 10, 7);
        page[128..136].copy_from_slice(&8760u64.to_le_bytes());
        page[160..176].copy_from_slice(&u128::MAX.to_le_bytes());
        page[192..196].copy_from_slice(&5u32.to_le_bytes());
        page
    }

    #[test]
    fn a_healthy_page_is_read() {
        let health = HealthRecord::from_nvme_smart(&page()).unwrap();
        assert_eq!(health.status, HealthStatus::Ok);
        assert_eq!(health.temperature_kelvin, Some(323));
        assert_eq!(
            (health.spare_percent, health.used_percent),
            (Some(100), Some(7))
        );
        assert_eq!(health.power_on_hours, Some(8760));
        assert_eq!(health.media_errors, Some(u64::MAX), "128 bits end at 64");
        assert_eq!(health.warning_temperature_minutes, Some(5));
        assert!(health.warnings.is_empty());
        assert!(HealthRecord::from_nvme_smart(&page()[..511]).is_none());
    }

    #[test]
    fn warnings_are_put_into_words() {
        let status = |bits: u8, used: u8| {
            let mut page = page();
            (page[0], page[5]) = (bits, used);
            let health = HealthRecord::from_nvme_smart(&page).unwrap();
            (health.status, health.warnings.len())
        };
        assert_eq!(status(0, 0), (HealthStatus::Ok, 0));
        assert_eq!(status(0b10, 0), (HealthStatus::Warning, 1));
        assert_eq!(status(0b101, 0), (HealthStatus::Critical, 2));
        assert_eq!(status(0, 130), (HealthStatus::Warning, 1));
    }

    #[test]
    fn documents_of_classes_that_know_little_are_read() {
        let text = r#"{"status":"ok","size":4096,"read_only":true}"#;
        let health: HealthRecord = serde_json::from_str(text).unwrap();
        assert_eq!(health.status, HealthStatus::Ok);
        assert_eq!(health.details["size"], 4096);
        let again = serde_json::to_value(&health).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap());
    }
}
