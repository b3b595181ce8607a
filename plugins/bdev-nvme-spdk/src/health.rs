//! Health from the log page 02h, "SMART / Health Information" (NVM Express base specification 1.4, section
//! 5.14.1.2).

use serde_json::{Map, Value, json};

/// What the bits of the critical warning say.
const WARNINGS: [&str; 6] = [
    "spare capacity is below its threshold",
    "temperature is outside of its limits",
    "reliability is degraded by errors",
    "the medium is read-only",
    "the backup of its volatile memory failed",
    "its persistent memory region is read-only or unreliable",
];

/// Bit of the temperature, which passes; everything else that a device warns of does not.
const TEMPERATURE: u8 = 1 << 1;

/// The page as a document. Counters of 128 bits end at the largest of 64.
pub(crate) fn of(page: &[u8; 512]) -> Map<String, Value> {
    let short = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    let word = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    let counter = |at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&page[at..at + 16]);
        u64::try_from(u128::from_le_bytes(bytes)).unwrap_or(u64::MAX)
    };
    let critical = page[0];
    let warnings: Vec<&str> = (0..)
        .zip(WARNINGS)
        .filter(|(bit, _)| critical & (1 << bit) != 0)
        .map(|(_, text)| text)
        .collect();
    let status = match critical {
        0 => "ok",
        TEMPERATURE => "warning",
        _ => "critical",
    };
    let mut document = Map::from_iter([
        ("status".to_owned(), json!(status)),
        ("critical_warning".to_owned(), json!(critical)),
        ("spare_percent".to_owned(), json!(page[3])),
        ("spare_threshold_percent".to_owned(), json!(page[4])),
        ("used_percent".to_owned(), json!(page[5])),
        ("data_units_read".to_owned(), json!(counter(32))),
        ("data_units_written".to_owned(), json!(counter(48))),
        ("busy_minutes".to_owned(), json!(counter(96))),
        ("power_cycles".to_owned(), json!(counter(112))),
        ("power_on_hours".to_owned(), json!(counter(128))),
        ("unsafe_shutdowns".to_owned(), json!(counter(144))),
        ("media_errors".to_owned(), json!(counter(160))),
        ("error_log_entries".to_owned(), json!(counter(176))),
        ("warning_temperature_minutes".to_owned(), json!(word(192))),
        ("critical_temperature_minutes".to_owned(), json!(word(196))),
    ]);
    // Zero stands for a device that does not measure it.
    if short(1) != 0 {
        document.insert("temperature_kelvin".to_owned(), json!(short(1)));
    }
    if !warnings.is_empty() {
        document.insert("warnings".to_owned(), json!(warnings));
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_read_where_the_specification_puts_things() {
        let mut page = [0; 512];
        page[0] = 0b101;
        page[1..3].copy_from_slice(&323u16.to_le_bytes());
        page[3..6].copy_from_slice(&[90, 10, 7]);
        page[112] = 5;
        page[144] = 2;
        page[160..176].fill(0xff);
        page[192] = 9;
        let health = of(&page);
        assert_eq!(health["status"], "critical");
        assert_eq!(health["temperature_kelvin"], 323);
        assert_eq!(
            (&health["spare_percent"], &health["used_percent"]),
            (&json!(90), &json!(7))
        );
        assert_eq!(
            (&health["power_cycles"], &health["unsafe_shutdowns"]),
            (&json!(5), &json!(2))
        );
        assert_eq!(health["media_errors"], json!(u64::MAX));
        assert_eq!(health["warning_temperature_minutes"], 9);
        assert_eq!(health["warnings"], json!([WARNINGS[0], WARNINGS[2]]));
        assert_eq!(of(&[0; 512])["status"], "ok");
        page[0] = TEMPERATURE;
        assert_eq!(of(&page)["status"], "warning");
    }
}
