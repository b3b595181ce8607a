//! A ping's report as a picture: time of a transfer above, bandwidth below, over size.

use anyhow::{Context, anyhow};
use daos_report::{PingReport, bytes};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fs::File;
use std::path::Path;

const SIZE: (u32, u32) = (900, 860);
const LINE: RGBColor = RGBColor(0x1f, 0x4e, 0x9c);

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Makes sure, before anything is measured, that the file can be written.
///
/// # Errors
/// It cannot.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let existed = path.exists();
    let failed = || {
        format!(
            "cannot write {}; choose another file with --plot",
            path.display()
        )
    };
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .with_context(failed)?;
    if !existed {
        // An empty one would be taken for a picture if the measurement fails.
        std::fs::remove_file(path).with_context(failed)?;
    }
    Ok(())
}

/// Writes the picture.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(report: &PingReport, path: &Path) -> anyhow::Result<()> {
    let text = draw(report).map_err(|e| anyhow!("cannot draw the measurement: {e}"))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn draw(report: &PingReport) -> Drawn<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!("network ping: {} over {}", report.peer, report.provider);
        let root = root.titled(&title, ("sans-serif", 20))?;
        let (upper, lower) = root.split_vertically(SIZE.1 / 2);
        let times = report
            .rows
            .iter()
            .map(|r| (r.bytes as f64, r.usec_per_xfer));
        curve(&upper, "microseconds per transfer", times.collect())?;
        let rates = report
            .rows
            .iter()
            .map(|r| (r.bytes as f64, r.mb_per_second));
        curve(&lower, "MB/s", rates.collect())?;
        root.present()?;
    }
    Ok(text)
}

/// The power of ten below and the one above.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let low = 10f64.powf(low.max(1e-3).log10().floor());
    let high = 10f64.powf(high.log10().ceil());
    (low, if high > low { high } else { low * 10.0 })
}

fn curve(area: &Area<'_>, label: &str, mut points: Vec<(f64, f64)>) -> Drawn<()> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (left, right) = match (points.first(), points.last()) {
        (Some(first), Some(last)) if first.0 < last.0 => (first.0, last.0),
        (Some(first), _) => (first.0 / 2.0, first.0 * 2.0),
        _ => return Err("nothing was measured".into()),
    };
    let (low, high) = decades(points.iter().map(|p| p.1));
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(84)
        .build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("bytes")
        .y_desc(label)
        .x_label_formatter(&|size| bytes(*size as u64))
        .draw()?;
    let line = LINE.stroke_width(2);
    chart.draw_series(LineSeries::new(points.iter().copied(), line))?;
    let dots = points
        .iter()
        .map(|point| Circle::new(*point, 4, LINE.filled()));
    chart.draw_series(dots)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_report::PingRow;
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
        let text = draw(&report).unwrap();
        assert!(text.starts_with("<svg"), "{text}");
        assert_eq!(text.matches("<circle").count(), 6);
        assert!(text.contains("&lt;node&gt; over tcp"), "{text}");
        assert!(text.contains("MB/s") && text.contains("microseconds"));
        let one = PingReport {
            rows: vec![row(64)],
            ..report.clone()
        };
        assert_eq!(draw(&one).unwrap().matches("<circle").count(), 2);
        let none = PingReport {
            rows: Vec::new(),
            ..report
        };
        assert!(draw(&none).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused_first() {
        let dir = std::env::temp_dir().join("no-such-directory-0");
        let error = check(&dir.join("x.svg")).unwrap_err().to_string();
        assert!(error.contains("--plot"), "{error}");
    }
}
