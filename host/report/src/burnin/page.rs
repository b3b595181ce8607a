//! A run as one HTML page: nothing is loaded from elsewhere, nothing is executed.

use super::{OP_HEADINGS, about, load, op_row, verdict, verified, when};
use crate::plot::{Chart, Curve, draw, escape};
use crate::units::duration;
use daos_burnin::{DeviceRecord, OpPoint, Point, Record, RunState};
use std::fmt::Write as _;

const STYLE: &str = "body{font:16px/1.5 sans-serif;color:#1a1a1a;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;margin:.5rem 0}caption{text-align:left;font-weight:bold;padding:.3rem 0}\
    th,td{border:1px solid #999;padding:.2rem .6rem;text-align:right}th{background:#eee}\
    td.t,th.t{text-align:left}svg{max-width:100%;height:auto}\
    .good{color:#14532d}.bad{color:#8b0000}h1,h2{line-height:1.2}";

/// The page of runs, by host.
pub fn page(runs: &[(String, Record)]) -> String {
    let names: Vec<String> = runs
        .iter()
        .map(|(host, r)| format!("{} on {host}", r.run))
        .collect();
    let title = format!("Burn-in {}", escape(&names.join(", ")));
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>\n"
    );
    for (host, record) in runs {
        run(&mut out, host, record);
    }
    out.push_str("</main></body></html>\n");
    out
}

// Writing to a String cannot fail: results of `write!` are dropped all through this file.
fn run(out: &mut String, host: &str, record: &Record) {
    let class = match record.state {
        RunState::Passed => "good",
        RunState::Failed | RunState::NotRun => "bad",
        _ => "",
    };
    let _ = write!(
        out,
        "<section><h2>{} on {}: <span class=\"{class}\">{}</span></h2>\n<p>{}</p><p>Started {}",
        escape(&record.run),
        escape(host),
        record.state.name(),
        escape(&record.reason),
        when(record.started_ms)
    );
    if record.ended_ms > 0 {
        let _ = write!(
            out,
            ", ended after {}",
            duration(record.ended_ms.saturating_sub(record.started_ms))
        );
    }
    out.push_str(".</p>\n<ul>");
    for job in &record.load.jobs {
        let _ = write!(
            out,
            "<li>Load {}: {}</li>",
            escape(&job.name),
            escape(&load(job))
        );
    }
    out.push_str("</ul>\n");
    for one in &record.devices {
        device(out, one, record.state);
    }
    out.push_str("</section>\n");
}

fn device(out: &mut String, device: &DeviceRecord, state: RunState) {
    let bad = device.fault.is_some() || device.error_count() > 0;
    let class = if bad { "bad" } else { "good" };
    let _ = write!(
        out,
        "<h3>{}</h3>\n<p>{}</p><p class=\"{class}\"><strong>{}</strong></p><p>{}</p>\n",
        escape(&device.device),
        escape(&about(device)),
        escape(&verdict(device, state)),
        escape(&verified(device))
    );
    let rows = [
        op_row("reads", &device.reads),
        op_row("writes", &device.writes),
    ];
    table(
        out,
        "Requests, latencies in microseconds",
        &OP_HEADINGS,
        &rows,
    );
    for svg in plots(device) {
        let _ = writeln!(out, "<figure>{svg}</figure>");
    }
    if !device.errors.is_empty() {
        let rows: Vec<Vec<String>> = device
            .errors
            .iter()
            .map(|e| {
                let words = [&e.kind, &e.expected, &e.found].map(String::clone);
                let [kind, expected, found] = words;
                vec![
                    kind,
                    duration(e.at_ms),
                    e.lba.to_string(),
                    e.blocks.to_string(),
                    expected,
                    found,
                ]
            })
            .collect();
        let caption = format!(
            "The first {} of {} errors",
            rows.len(),
            device.error_count()
        );
        table(
            out,
            &caption,
            &["Kind", "After", "Block", "Blocks", "Expected", "Found"],
            &rows,
        );
    }
    let changes: Vec<Vec<String>> = device
        .health_changes()
        .into_iter()
        .map(|(name, before, after)| vec![name, before, after])
        .collect();
    match changes.is_empty() {
        true => {
            out.push_str("<p>The device's health values did not change, or are not told.</p>\n")
        }
        false => table(
            out,
            "Health values that changed",
            &["Value", "Before", "After"],
            &changes,
        ),
    }
    if !device.notes.is_empty() {
        out.push_str("<ul>");
        for note in &device.notes {
            let _ = write!(out, "<li>{}</li>", escape(note));
        }
        out.push_str("</ul>\n");
    }
    values(out, device);
}

/// The values behind the plots, for those who cannot see them.
fn values(out: &mut String, device: &DeviceRecord) {
    if device.series.is_empty() {
        return;
    }
    let op = |op: &OpPoint| {
        let words = [
            format!("{:.1}", op.iops),
            format!("{:.2}", op.bytes_per_second / 1e6),
        ];
        words
            .into_iter()
            .chain([op.p50_us, op.p99_us, op.max_us].map(|us| us.to_string()))
    };
    let rows: Vec<Vec<String>> = device
        .series
        .iter()
        .map(|p| {
            let time = std::iter::once(format!("{:.1}", p.at_ms as f64 / 1000.0));
            let errors = std::iter::once(p.errors.to_string());
            time.chain(op(&p.read))
                .chain(op(&p.write))
                .chain(errors)
                .collect()
        })
        .collect();
    let headings = [
        "Seconds", "Reads/s", "MB/s", "p50 us", "p99 us", "Max us", "Writes/s", "MB/s", "p50 us",
        "p99 us", "Max us", "Errors",
    ];
    out.push_str("<details><summary>Values over time</summary>");
    table(
        out,
        "Values of each interval: reads, then writes",
        &headings,
        &rows,
    );
    out.push_str("</details>\n");
}

fn table(out: &mut String, caption: &str, headings: &[&str], rows: &[Vec<String>]) {
    // Columns of words stand on the left.
    let is_word = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        cells.any(|cell| cell.parse::<f64>().is_err())
    };
    let class = |column| if is_word(column) { " class=\"t\"" } else { "" };
    let _ = write!(
        out,
        "<table><caption>{}</caption><thead><tr>",
        escape(caption)
    );
    for (column, heading) in headings.iter().enumerate() {
        let _ = write!(
            out,
            "<th scope=\"col\"{}>{}</th>",
            class(column),
            escape(heading)
        );
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{}</td>", class(column), escape(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>\n");
}

fn plots(device: &DeviceRecord) -> Vec<String> {
    let has = |op: fn(&Point) -> &OpPoint| device.series.iter().any(|p| op(p).iops > 0.0);
    let reads = (has(|p| &p.read)).then_some(("reads", (|p| &p.read) as fn(&Point) -> &OpPoint));
    let writes =
        (has(|p| &p.write)).then_some(("writes", (|p| &p.write) as fn(&Point) -> &OpPoint));
    let ops: Vec<_> = [reads, writes].into_iter().flatten().collect();
    let curve = |name: String, op: fn(&Point) -> &OpPoint, value: fn(&OpPoint) -> f64| Curve {
        name,
        points: device
            .series
            .iter()
            .map(|p| (p.at_ms as f64 / 1000.0, value(op(p))))
            .collect(),
    };
    let chart = |y_label: &str, log_y, curves| Chart {
        x_label: "seconds".to_owned(),
        y_label: y_label.to_owned(),
        log_x: false,
        log_y,
        x_text: |seconds| format!("{seconds:.0}"),
        dots: false,
        curves,
    };
    let each = |value: fn(&OpPoint) -> f64| {
        let curves = ops
            .iter()
            .map(|(name, op)| curve((*name).to_owned(), *op, value));
        curves.collect::<Vec<_>>()
    };
    let mut pictures = vec![
        (
            "requests per second",
            vec![chart("requests/s", false, each(|p| p.iops))],
        ),
        (
            "bandwidth",
            vec![chart("MB/s", false, each(|p| p.bytes_per_second / 1e6))],
        ),
    ];
    for (name, op) in &ops {
        let curves = vec![
            curve("median".to_owned(), *op, |p| p.p50_us as f64),
            curve("99 %".to_owned(), *op, |p| p.p99_us as f64),
            curve("longest".to_owned(), *op, |p| p.max_us as f64),
        ];
        let title = if *name == "reads" {
            "latency of reads"
        } else {
            "latency of writes"
        };
        pictures.push((title, vec![chart("microseconds", true, curves)]));
    }
    pictures
        .into_iter()
        // A device on which nothing was measured has no pictures.
        .filter_map(|(what, charts)| {
            draw(&format!("{}: {what}", device.device), &charts, 900, 320).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::burnin::tests::record;

    #[test]
    fn the_page_stands_alone_and_nothing_in_it_is_executed() {
        let page = page(&[("node1:10001".to_owned(), record())]);
        assert!(page.starts_with("<!DOCTYPE html>"));
        for word in ["<script", "http://", "https://", "<link", "<sdb>", " src="] {
            // The name space of SVG is a name, nothing is loaded from there.
            let text = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(word), "{word} in the page");
        }
        assert_eq!(page.matches("<svg role=\"img\"").count(), 4);
        for word in [
            "kdev:/dev/&lt;sdb&gt;",
            "The first 12 of 12 errors",
            "<td>711</td>",
            "media_errors",
            "Values over time",
            "failed",
        ] {
            assert!(page.contains(word), "{word} is missing");
        }
        let opened = page.matches("<tr>").count();
        assert_eq!(opened, page.matches("</tr>").count());
    }

    #[test]
    fn a_device_that_was_not_measured_has_no_plots() {
        let mut empty = record();
        empty.devices[0].series.clear();
        let page = page(&[("h".to_owned(), empty)]);
        assert!(!page.contains("<svg") && !page.contains("Values over time"));
    }
}
