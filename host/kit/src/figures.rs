//! What was measured, for people and for programs.

use serde::Serialize;

/// Figures of one plugin in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Operations per second.
    pub iops: f64,
    /// Bytes per second.
    pub bandwidth: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Longest.
    pub max_us: f64,
    /// Processor time per operation in microseconds, of the whole process.
    pub cpu_us: f64,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub case: String,
    /// Figures of each plugin, in the order given; null where it cannot do this.
    pub plugins: Vec<Option<Figures>>,
    /// Why a plugin has no figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Operations per second of the second plugin over those of the first: median, least and most of
    /// the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

/// Ratio of two plugins over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// Median.
    pub median: f64,
    /// Least.
    pub least: f64,
    /// Most.
    pub most: f64,
}

/// All cases.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The plugins: `name version (class)`.
    pub plugins: Vec<String>,
    /// Rounds.
    pub rounds: u32,
    /// The cases.
    pub cases: Vec<Row>,
}

impl Report {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (n, name) in self.plugins.iter().enumerate() {
            out += &format!("{} {name}\n", letter(n));
        }
        out += &format!(
            "\n{:<24} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            "case", "op/s", "MB/s", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", "cpu us/op"
        );
        for row in &self.cases {
            for (n, figures) in row.plugins.iter().enumerate() {
                let name = match self.plugins.len() {
                    1 => row.case.clone(),
                    _ => format!("{} {}", row.case, letter(n)),
                };
                out += &match figures {
                    None => format!("{name:<24} not measured\n"),
                    Some(f) => format!(
                        "{name:<24} {:>10.0} {:>10.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.2}\n",
                        f.iops,
                        f.bandwidth / 1e6,
                        f.p50_us,
                        f.p90_us,
                        f.p99_us,
                        f.p999_us,
                        f.max_us,
                        f.cpu_us
                    ),
                };
            }
            if let Some(ratio) = row.ratio {
                out += &format!(
                    "{:<24} {:>10.2} ({:.2} to {:.2} over {} rounds)\n",
                    "  B / A", ratio.median, ratio.least, ratio.most, self.rounds
                );
            }
            for note in &row.notes {
                out += &format!("  {note}\n");
            }
        }
        out
    }
}

fn letter(n: usize) -> char {
    if n == 0 { 'A' } else { 'B' }
}
