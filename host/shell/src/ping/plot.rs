//! A ping's report as a picture: time of a transfer above, bandwidth below, over size.

use anyhow::{Context, anyhow};
use daos_report::plot::{Chart, Curve, draw};
use daos_report::{PingReport, PingRow, bytes};
use std::path::Path;

/// Writes the picture.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(report: &PingReport, path: &Path) -> anyhow::Result<()> {
    let text = picture(report).map_err(|e| anyhow!("cannot draw the measurement: {e}"))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn picture(report: &PingReport) -> Result<String, String> {
    let chart = |label: &str, value: fn(&PingRow) -> f64| Chart {
        x_label: "bytes".to_owned(),
        y_label: label.to_owned(),
        log_x: true,
        log_y: true,
        x_text: |size| bytes(size as u64),
        dots: true,
        curves: vec![Curve {
            name: label.to_owned(),
            points: report
                .rows
                .iter()
                .map(|r| (r.bytes as f64, value(r)))
                .collect(),
        }],
    };
    let charts = [
        chart("microseconds per transfer", |r| r.usec_per_xfer),
        chart("MB/s", |r| r.mb_per_second),
    ];
    let title = format!("network ping: {} over {}", report.peer, report.provider);
    draw(&title, &charts, 900, 430)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_size_has_its_dots_and_names_are_text() {
        let row = |bytes| PingRow::of(bytes, vec![Duration::from_micros(50); 3]);
        let report = PingReport {
            peer: "<node>".to_owned(),
            provider: "tcp".to_owned(),
            interface: String::new(),
            rows: vec![row(64), row(4096), row(1 << 20)],
        };
        let text = picture(&report).unwrap();
        assert!(text.starts_with("<svg"), "{text}");
        assert_eq!(text.matches("<circle").count(), 6);
        assert!(text.contains("&lt;node&gt; over tcp"), "{text}");
        assert!(text.contains("MB/s") && text.contains("microseconds"));
        let one = PingReport {
            rows: vec![row(64)],
            ..report.clone()
        };
        assert_eq!(picture(&one).unwrap().matches("<circle").count(), 2);
        let none = PingReport {
            rows: Vec::new(),
            ..report
        };
        assert!(picture(&none).is_err());
    }
}
