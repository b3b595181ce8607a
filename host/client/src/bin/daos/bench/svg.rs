//! Latencies of a benchmark as a picture: by percentile above, by frequency below.

use super::report::{PhaseRow, Report, time};
use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fs::File;
use std::path::Path;

const SIZE: (u32, u32) = (960, 900);
/// Told apart also without colours: the first line is drawn thick.
const COLORS: [RGBColor; 4] = [
    RGBColor(0x1f, 0x4e, 0x9c),
    RGBColor(0xd0, 0x5a, 0x1e),
    RGBColor(0x2e, 0x7d, 0x32),
    RGBColor(0x6a, 0x3d, 0x9a),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Makes sure, before anything is measured, that the file can be written.
///
/// # Errors
/// It cannot.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let existed = path.exists();
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| {
            format!(
                "cannot write {}; choose another file with --svg",
                path.display()
            )
        })?;
    if !existed {
        // An empty one would be taken for a picture if the run fails.
        std::fs::remove_file(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Writes the picture.
///
/// # Errors
/// The file cannot be written, or there is nothing to draw.
pub(super) fn write(report: &Report, path: &Path) -> anyhow::Result<()> {
    let text = draw(report).map_err(|e| anyhow!("cannot draw the latencies: {e}"))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

fn draw(report: &Report) -> Drawn<String> {
    let phases: Vec<&PhaseRow> = report
        .phases
        .iter()
        .filter(|p| !p.percentiles.is_empty())
        .collect();
    if phases.is_empty() {
        return Err("no operation was measured".into());
    }
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!(
            "daos bench: values of {} bytes, {} at once, {} target(s)",
            report.sizes, report.depth, report.targets
        );
        let root = root.titled(&title, ("sans-serif", 20))?;
        let (upper, lower) = root.split_vertically(SIZE.1 / 2);
        by_percentile(&upper, &phases)?;
        by_frequency(&lower, &phases)?;
        root.present()?;
    }
    Ok(text)
}

fn color(index: usize) -> RGBColor {
    COLORS[index % COLORS.len()]
}

fn legend(phase: &PhaseRow) -> String {
    format!(
        "{}: {:.0}/s, p50 {}, p99 {}",
        phase.name,
        phase.ops_per_second,
        time(phase.latency_us.p50),
        time(phase.latency_us.p99)
    )
}

/// Smallest and largest of some latencies as powers of ten around them, in microseconds.
fn decades(latencies: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = latencies.fold((f64::MAX, 1.0f64), |(low, high), us| {
        (low.min(us), high.max(us))
    });
    let low = 10f64.powf(low.max(0.1).log10().floor());
    let high = 10f64.powf(high.log10().ceil());
    (low, if high > low { high } else { low * 10.0 })
}

/// Latency over percentile; each nine has the same width.
fn by_percentile(area: &Area<'_>, phases: &[&PhaseRow]) -> Drawn<()> {
    let nines = |percent: f64| -(1.0 - percent / 100.0).log10();
    let all = || phases.iter().flat_map(|p| &p.percentiles);
    let last = all()
        .map(|p| nines(p.percent))
        .fold(1.0f64, f64::max)
        .ceil();
    let (low, high) = decades(all().map(|p| p.us));
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(0f64..last, (low..high).log_scale())?;
    let percent = |nines: &f64| match nines.round() as i32 {
        0 => "0 %".to_owned(),
        n => format!("{} %", 100.0 - 10f64.powi(2 - n)),
    };
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("latency")
        .x_labels(last as usize + 1)
        .x_label_formatter(&percent)
        .y_label_formatter(&|us| time(*us))
        .light_line_style(RGBColor(0xee, 0xee, 0xee))
        .draw()?;
    for (index, phase) in phases.iter().enumerate() {
        let style = color(index).stroke_width(if index == 0 { 3 } else { 2 });
        let points = phase.percentiles.iter().map(|p| (nines(p.percent), p.us));
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(legend(phase))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(0xcc, 0xcc, 0xcc))
        .draw()?;
    Ok(())
}

/// Share of the operations over latency, in steps of a factor of two.
fn by_frequency(area: &Area<'_>, phases: &[&PhaseRow]) -> Drawn<()> {
    let share = |count: u64, phase: &PhaseRow| 100.0 * count as f64 / phase.ops.max(1) as f64;
    let buckets = || phases.iter().flat_map(|p| &p.histogram);
    // Buckets are wider at the ends than what is in them.
    let (low, high) = buckets().fold((u64::MAX, 2), |(low, high), b| {
        (low.min(b.up_to_us), high.max(b.up_to_us))
    });
    let (low, high) = (low as f64 / 2.0, high as f64);
    let most = phases
        .iter()
        .flat_map(|p| p.histogram.iter().map(|b| share(b.count, p)))
        .fold(1.0f64, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d((low..high).log_scale(), 0f64..most * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("latency")
        .y_desc("share of the operations")
        .x_label_formatter(&|us| time(*us))
        .y_label_formatter(&|share| format!("{share:.0} %"))
        .light_line_style(RGBColor(0xee, 0xee, 0xee))
        .draw()?;
    for (index, phase) in phases.iter().enumerate() {
        let mut points = Vec::new();
        for bucket in &phase.histogram {
            let (to, height) = (bucket.up_to_us as f64, share(bucket.count, phase));
            points.extend([(to / 2.0, height), (to, height)]);
        }
        if let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) {
            points.insert(0, (first.0, 0.0));
            points.push((last.0, 0.0));
        }
        let fill = Polygon::new(points.clone(), color(index).mix(0.25));
        chart.draw_series([fill])?;
        let style = color(index).stroke_width(if index == 0 { 3 } else { 2 });
        chart.draw_series(LineSeries::new(points, style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_client::Uuid;
    use hdrhistogram::Histogram;
    use std::time::Duration;

    fn report(counts: &[u64]) -> Report {
        let phase = |(index, count): (usize, &u64)| {
            let mut latency = Histogram::new(3).unwrap();
            for n in 0..*count {
                latency
                    .record(20_000 * (index as u64 + 1) + n * n * 40)
                    .unwrap();
            }
            let name = ["put", "get"][index];
            PhaseRow::new(name, Duration::from_secs(1), 1 << 20, &latency)
        };
        Report {
            pool: Uuid::nil(),
            container: Uuid::nil(),
            object: "0.1".into(),
            seed: 5,
            targets: 2,
            depth: 16,
            sizes: "1..1048576".into(),
            values: 7,
            verified: true,
            kept: false,
            phases: counts.iter().enumerate().map(phase).collect(),
            mismatches: Vec::new(),
        }
    }

    #[test]
    fn a_picture_has_both_phases_and_their_percentiles() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latency.svg");
        check(&path).unwrap();
        assert!(!path.exists(), "nothing is left by the check");
        write(&report(&[2000, 1500]), &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for words in [
            "put: 2000/s",
            "get: 1500/s",
            "99.9 %",
            "90 %",
            "percentile",
            "share of",
        ] {
            assert!(text.contains(words), "{words:?} is missing");
        }
        // Whoever wants to look at it.
        if let Some(copy) = std::env::var_os("KEEP_SVG") {
            std::fs::copy(&path, copy).unwrap();
        }
        for counts in [&[1][..], &[1, 1], &[3, 0]] {
            write(&report(counts), &path).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_written_or_drawn_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(&dir.path().join("no/such")).unwrap_err().to_string();
        assert!(error.contains("--svg"), "{error}");
        assert!(check(dir.path()).is_err(), "a directory");
        let path = dir.path().join("x.svg");
        let error = write(&report(&[0]), &path).unwrap_err().to_string();
        assert!(error.contains("no operation"), "{error}");
    }
}
