//! JUnit XML, the dialect that Jenkins and GitLab read.

use crate::protocol::Verdict;
use crate::report::Report;

/// Text as XML has it in attributes and elements; characters that XML 1.0 has no way to write are
/// replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

pub(crate) fn document(report: &Report) -> String {
    let suite = escape(&format!("{} {}", report.plugin, report.version));
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites>\n\
         <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">\n",
        report.cases.len(),
        report.failed,
        report.skipped + report.not_run,
        report.seconds
    );
    for row in &report.cases {
        let (group, _) = row.case.split_once('.').unwrap_or((row.case, ""));
        out += &format!(
            "<testcase classname=\"{}.{}.{group}\" name=\"{}\" time=\"{:.3}\"",
            escape(&report.plugin),
            report.kind,
            escape(&format!("{}: {}", row.case, row.rule)),
            row.time_ms / 1e3
        );
        let reason = escape(&row.reason);
        out += &match row.verdict {
            Verdict::Passed => "/>\n".to_owned(),
            Verdict::Skipped | Verdict::NotRun => {
                format!("><skipped message=\"{reason}\"/></testcase>\n")
            }
            Verdict::Failed => format!(
                "><failure message=\"{reason}\">{}</failure></testcase>\n",
                escape(&row.log.join("\n"))
            ),
        };
    }
    out + "</testsuite>\n</testsuites>\n"
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn what_a_plugin_says_cannot_break_the_document() {
        assert_eq!(
            escape("a<b> & \"c\"\u{1b}[1m\n"),
            "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}[1m\n"
        );
    }
}
