//! What a burn-in does to a device.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest run, in milliseconds: a week.
const LONGEST_MS: u64 = 7 * 24 * 3600 * 1000;
/// Shortest run, in milliseconds.
const SHORTEST_MS: u64 = 100;
/// Default run: fifteen minutes.
const DEFAULT_MS: u64 = 15 * 60 * 1000;
/// Largest single request.
const MAX_BYTES: u32 = 16 << 20;
/// Most jobs with their copies.
const MAX_JOBS: u32 = 64;
/// Most requests under way per copy of a job.
const MAX_DEPTH: u32 = 1024;
/// Most memory for requests under way of all jobs on one device.
const MAX_MEMORY: u64 = 512 << 20;

/// A load: jobs that run side by side on each device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The jobs, at least one.
    pub jobs: Vec<Job>,
}

/// A stream of requests with one character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Name, for messages and reports.
    pub name: String,
    /// Order and direction.
    pub pattern: Pattern,
    /// Sizes of reads, with their shares.
    pub read_sizes: Vec<SizeShare>,
    /// Sizes of writes, with their shares.
    pub write_sizes: Vec<SizeShare>,
    /// Requests under way at most, per copy.
    pub depth: u32,
    /// Copies of the job that run side by side.
    pub copies: u32,
    /// Where its part of the device begins, counted from the start of the area that burn-in uses.
    pub offset: Extent,
    /// How long its part is; `None` = to the end of the area.
    pub size: Option<Extent>,
    /// It ends after this time. `None` = when it has moved as many bytes as its part has.
    pub runtime_ms: Option<u64>,
    /// It goes on until `runtime_ms` although it has moved as many bytes as its part has.
    pub time_based: bool,
    /// Slower than the device could.
    pub rate: Limits,
    /// Check what is read.
    pub verify: bool,
}

/// Order and direction of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// At random places, else one behind the other.
    pub random: bool,
    /// Of a hundred requests, how many are reads.
    pub read_percent: u8,
}

/// A size of requests and its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeShare {
    /// Bytes of a request.
    pub bytes: u32,
    /// Of a hundred requests, how many have this size.
    pub percent: u8,
}

/// A length on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of the area that burn-in uses.
    Percent(u8),
}

impl Extent {
    /// In bytes, on an area of so many.
    pub fn of(self, area: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.min(area),
            Self::Percent(percent) => (u128::from(area) * u128::from(percent) / 100) as u64, // at most `area`
        }
    }
}

/// Upper limits per copy of a job and direction; `None` = as fast as the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes read per second.
    pub read_bytes: Option<u64>,
    /// Bytes written per second.
    pub write_bytes: Option<u64>,
    /// Reads per second.
    pub read_iops: Option<u64>,
    /// Writes per second.
    pub write_iops: Option<u64>,
}

/// A load that cannot be run. `Display` is one sentence that names job and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(pub String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

impl Default for Job {
    /// Fifteen minutes of slow, mixed, verified random I/O.
    fn default() -> Self {
        let share = |bytes, percent| SizeShare { bytes, percent };
        let sizes = vec![share(4096, 50), share(65536, 40), share(1 << 20, 10)];
        Self {
            name: "burn-in".to_owned(),
            pattern: Pattern {
                random: true,
                read_percent: 50,
            },
            read_sizes: sizes.clone(),
            write_sizes: sizes,
            depth: 4,
            copies: 1,
            offset: Extent::Bytes(0),
            size: None,
            runtime_ms: Some(DEFAULT_MS),
            time_based: true,
            rate: Limits {
                read_iops: Some(200),
                write_iops: Some(200),
                ..Limits::default()
            },
            verify: true,
        }
    }
}

impl Default for Load {
    /// One job, [`Job::default`].
    fn default() -> Self {
        Self {
            jobs: vec![Job::default()],
        }
    }
}

impl Job {
    /// Whether it writes.
    pub fn writes(&self) -> bool {
        self.pattern.read_percent < 100
    }

    /// Its largest request.
    pub fn largest(&self) -> u32 {
        let sizes = self.sizes();
        sizes.map(|s| s.bytes).max().unwrap_or(0)
    }

    /// Sizes of the directions that it has.
    pub fn sizes(&self) -> impl Iterator<Item = &SizeShare> {
        let reads = self
            .read_sizes
            .iter()
            .filter(|_| self.pattern.read_percent > 0);
        let writes = self.write_sizes.iter().filter(|_| self.writes());
        reads.chain(writes)
    }

    fn check(&self) -> Result<(), LoadError> {
        let wrong = |what: String| Err(LoadError(format!("job {:?}: {what}", self.name)));
        if self.pattern.read_percent > 100 {
            return wrong(format!("{} % of reads", self.pattern.read_percent));
        }
        for (direction, sizes) in [("read", &self.read_sizes), ("write", &self.write_sizes)] {
            let sum: u32 = sizes.iter().map(|s| u32::from(s.percent)).sum();
            if sizes.is_empty() || sum != 100 {
                return wrong(format!(
                    "the shares of its {direction} sizes add up to {sum}, not to 100"
                ));
            }
            if sizes.len() > 64 {
                return wrong(format!(
                    "it has {} {direction} sizes, 64 are possible",
                    sizes.len()
                ));
            }
            for size in sizes {
                if size.bytes == 0 || !size.bytes.is_multiple_of(512) || size.bytes > MAX_BYTES {
                    return wrong(format!(
                        "a {direction} of {} bytes; sizes are multiples of 512 up to 16m",
                        size.bytes
                    ));
                }
            }
        }
        if !(1..=MAX_DEPTH).contains(&self.depth) {
            return wrong(format!(
                "iodepth is {}, 1 to {MAX_DEPTH} is possible",
                self.depth
            ));
        }
        if self.copies == 0 {
            return wrong("numjobs is 0".to_owned());
        }
        for extent in [Some(self.offset), self.size].into_iter().flatten() {
            if matches!(extent, Extent::Percent(percent) if percent > 100) {
                return wrong("more than 100 % of the device".to_owned());
            }
        }
        if self
            .size
            .is_some_and(|size| matches!(size, Extent::Bytes(0) | Extent::Percent(0)))
        {
            return wrong("size is 0".to_owned());
        }
        match self.runtime_ms {
            Some(ms) if !(SHORTEST_MS..=LONGEST_MS).contains(&ms) => {
                return wrong(format!("runtime is {ms} ms, 100 ms to 7 days is possible"));
            }
            None if self.time_based => {
                return wrong("time_based needs a runtime".to_owned());
            }
            _ => {}
        }
        let Limits {
            read_bytes,
            write_bytes,
            read_iops,
            write_iops,
        } = self.rate;
        if [read_bytes, write_bytes, read_iops, write_iops].contains(&Some(0)) {
            return wrong("a rate of 0 would never end".to_owned());
        }
        Ok(())
    }
}

impl Load {
    /// Whether any job writes.
    pub fn writes(&self) -> bool {
        self.jobs.iter().any(Job::writes)
    }

    /// The same without writes: what writes, reads instead.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        for job in &mut self.jobs {
            job.pattern.read_percent = 100;
        }
        self
    }

    /// Time until all jobs have ended, if all of them say: milliseconds.
    pub fn duration_ms(&self) -> Option<u64> {
        let times = self.jobs.iter().map(|job| job.runtime_ms);
        times.collect::<Option<Vec<u64>>>()?.into_iter().max()
    }

    /// Checks that the load can be run at all, whatever the device.
    ///
    /// # Errors
    /// The first thing that is wrong, with the name of the job.
    pub fn check(&self) -> Result<(), LoadError> {
        let copies: u64 = self.jobs.iter().map(|job| u64::from(job.copies)).sum();
        if copies == 0 || copies > u64::from(MAX_JOBS) {
            return Err(LoadError(format!(
                "the load has {copies} jobs with their copies, 1 to {MAX_JOBS} are possible"
            )));
        }
        self.jobs.iter().try_for_each(Job::check)?;
        let memory: u64 = self
            .jobs
            .iter()
            .map(|j| u64::from(j.copies) * u64::from(j.depth) * u64::from(j.largest()))
            .sum();
        if memory > MAX_MEMORY {
            return Err(LoadError(format!(
                "requests under way would need {} MiB of memory per device, {} are possible; lower iodepth, numjobs or bs",
                memory >> 20,
                MAX_MEMORY >> 20
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_a_quarter_of_an_hour_of_slow_mixed_verified_io() {
        let load = Load::default();
        load.check().unwrap();
        assert_eq!(load.duration_ms(), Some(900_000));
        assert!(load.writes() && load.jobs[0].verify);
        assert!(!load.clone().read_only().writes());
        let text = serde_json::to_string(&load).unwrap();
        assert_eq!(serde_json::from_str::<Load>(&text).unwrap(), load);
    }

    #[test]
    fn impossible_loads_are_refused_with_the_name_of_the_job() {
        type Change = fn(&mut Job);
        let changes: [(Change, &str); 11] = [
            (|j| j.pattern.read_percent = 101, "reads"),
            (|j| j.read_sizes.clear(), "add up"),
            (|j| j.write_sizes[0].percent = 1, "add up"),
            (|j| j.write_sizes[0].bytes = 1000, "multiples of 512"),
            (|j| j.depth = 0, "iodepth"),
            (|j| j.copies = 0, "jobs"),
            (|j| j.copies = 65, "jobs"),
            (|j| j.size = Some(Extent::Percent(0)), "size is 0"),
            (|j| j.runtime_ms = Some(1), "runtime"),
            (|j| j.runtime_ms = None, "time_based"),
            (|j| j.rate.read_iops = Some(0), "rate"),
        ];
        for (change, word) in changes {
            let mut load = Load::default();
            change(&mut load.jobs[0]);
            let error = load.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let mut load = Load::default();
        load.jobs[0].depth = 1024;
        assert!(load.check().unwrap_err().to_string().contains("memory"));
    }
}
