//! Measurements as pictures: SVG, readable in black and white, with names as text.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const COLOURS: [RGBColor; 4] = [
    RGBColor(0x1f, 0x4e, 0x9c),
    RGBColor(0xc2, 0x57, 0x0c),
    RGBColor(0x2b, 0x7a, 0x3d),
    RGBColor(0x7a, 0x2b, 0x6e),
];

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in any order.
    pub points: Vec<(f64, f64)>,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Name of the horizontal axis.
    pub x_label: String,
    /// Name of the vertical axis.
    pub y_label: String,
    /// Both directions grow by factors; else the horizontal one grows evenly.
    pub log_x: bool,
    /// The vertical axis grows by factors.
    pub log_y: bool,
    /// Writes a value of the horizontal axis.
    pub x_text: fn(f64) -> String,
    /// A dot at each point.
    pub dots: bool,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// Draws charts below each other, `width` wide and `height` high each; `title` stands above and is what the picture is
/// called to those who cannot see it.
///
/// # Errors
/// There is nothing to draw.
pub fn draw(title: &str, charts: &[Chart], width: u32, height: u32) -> Result<String, String> {
    picture(title, charts, width, height).map_err(|e| e.to_string())
}

fn picture(title: &str, charts: &[Chart], width: u32, height: u32) -> Drawn<String> {
    let mut text = String::new();
    {
        let size = (width, height * charts.len() as u32);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.titled(title, ("sans-serif", 18))?;
        for (area, chart) in root.split_evenly((charts.len(), 1)).iter().zip(charts) {
            chart_on(area, chart)?;
        }
        root.present()?;
    }
    let named = format!("<svg role=\"img\" aria-label=\"{}\" ", escape(title));
    Ok(text.replacen("<svg ", &named, 1))
}

/// Text for HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn chart_on(area: &Area<'_>, chart: &Chart) -> Drawn<()> {
    let points = || chart.curves.iter().flat_map(|curve| &curve.points);
    let (left, right) = ends(points().map(|p| p.0)).ok_or("nothing was measured")?;
    let (low, high) = ends(points().map(|p| p.1)).ok_or("nothing was measured")?;
    let (left, right) = match left < right {
        true => (left, right),
        false if chart.log_x => (left / 2.0, right * 2.0),
        false => (left, left + 1.0),
    };
    let decades = |low: f64, high: f64| {
        let low = 10f64.powf(low.max(1e-3).log10().floor());
        let high = 10f64.powf(high.max(1e-3).log10().ceil());
        (low, if high > low { high } else { low * 10.0 })
    };
    let (low, high) = match chart.log_y {
        true => decades(low, high),
        // From zero, so that a small change does not look like a large one.
        false => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
    };
    match (chart.log_x, chart.log_y) {
        (true, true) => axes(
            area,
            chart,
            (left..right).log_scale(),
            (low..high).log_scale(),
        ),
        (true, false) => axes(area, chart, (left..right).log_scale(), low..high),
        (false, true) => axes(area, chart, left..right, (low..high).log_scale()),
        (false, false) => axes(area, chart, left..right, low..high),
    }
}

fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

fn axes<X, Y>(area: &Area<'_>, chart: &Chart, x: X, y: Y) -> Drawn<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut drawn = ChartBuilder::on(area)
        .margin(12)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(84)
        .build_cartesian_2d(x, y)?;
    drawn
        .configure_mesh()
        .x_desc(&chart.x_label)
        .y_desc(&chart.y_label)
        .x_label_formatter(&|value| (chart.x_text)(*value))
        .draw()?;
    for (number, curve) in chart.curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let mut points = curve.points.clone();
        if chart.log_y {
            // Zero has no place on such an axis.
            points.retain(|point| point.1 > 0.0);
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let line = colour.stroke_width(2);
        drawn
            .draw_series(LineSeries::new(points.iter().copied(), line))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], line));
        if chart.dots {
            let dots = points
                .iter()
                .map(|point| Circle::new(*point, 4, colour.filled()));
            drawn.draw_series(dots)?;
        }
    }
    if chart.curves.len() > 1 {
        drawn
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_have_names_and_axes_have_words() {
        let curve = |name: &str, top: f64| Curve {
            name: name.to_owned(),
            points: vec![(2.0, top), (0.0, 0.0), (1.0, top / 2.0)],
        };
        for (log_x, log_y) in [(false, false), (false, true)] {
            let chart = Chart {
                x_label: "seconds".to_owned(),
                y_label: "<IOPS>".to_owned(),
                log_x,
                log_y,
                x_text: |value| format!("{value:.0} s"),
                dots: false,
                curves: vec![curve("reads", 100.0), curve("writes", 50.0)],
            };
            let text = draw("a \"title\" & more", &[chart.clone(), chart], 800, 300).unwrap();
            assert!(
                text.starts_with("<svg role=\"img\" aria-label=\"a &quot;title&quot; &amp; more\""),
                "{text}"
            );
            for word in ["reads", "writes", "seconds", "&lt;IOPS&gt;", "1 s"] {
                assert!(text.contains(word), "{word}: {text}");
            }
            assert_eq!(text.matches("<polyline").count() % 2, 0);
        }
        let empty = Chart {
            x_label: String::new(),
            y_label: String::new(),
            log_x: false,
            log_y: false,
            x_text: |value| value.to_string(),
            dots: true,
            curves: Vec::new(),
        };
        assert!(draw("t", &[empty], 100, 100).is_err());
    }
}
