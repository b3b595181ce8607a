//! fio's job files as description of a load.
//!
//! Understood are `rw`, `rwmixread`, `bs`, `bssplit`, `iodepth`, `numjobs`, `size`, `offset`, `runtime`, `time_based`,
//! `rate`, `rate_iops` and `verify`, with fio's meanings and defaults; any other option is an error, since a load that
//! is not quite the one described proves nothing about it. Sections run side by side; `[global]` holds for the
//! sections after it. Source of the format: fio's manual, "Job file format".

use crate::load::{Extent, Job, Limits, Load, Pattern, SizeShare};
use crate::units;
use std::fmt;

/// Most bytes of a job file.
pub const MAX_FILE: usize = 1 << 20;
/// Most sections.
const MAX_SECTIONS: usize = 256;

/// Every option that is understood.
pub const OPTIONS: [&str; 13] = [
    "rw",
    "rwmixread",
    "bs",
    "bssplit",
    "iodepth",
    "numjobs",
    "size",
    "offset",
    "runtime",
    "time_based",
    "rate",
    "rate_iops",
    "verify",
];

/// Other names that fio has for them.
const ALIASES: [(&str, &str); 2] = [("readwrite", "rw"), ("blocksize", "bs")];

/// A job file that cannot be used: file, line and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFileError {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for JobFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

impl std::error::Error for JobFileError {}

/// What the sections have said so far.
#[derive(Clone)]
struct Section {
    job: Job,
    /// Line of its heading.
    line: usize,
    mix: u8,
    /// `rw` is a mixture, to which `rwmixread` applies.
    mixed: bool,
}

impl Section {
    /// fio's defaults.
    fn new() -> Self {
        let sizes = vec![SizeShare {
            bytes: 4096,
            percent: 100,
        }];
        Self {
            job: Job {
                name: String::new(),
                pattern: Pattern {
                    random: false,
                    read_percent: 100,
                },
                read_sizes: sizes.clone(),
                write_sizes: sizes,
                depth: 1,
                copies: 1,
                offset: Extent::Bytes(0),
                size: None,
                runtime_ms: None,
                time_based: false,
                rate: Limits::default(),
                verify: false,
            },
            line: 1,
            mix: 50,
            mixed: false,
        }
    }

    fn finish(mut self) -> Job {
        if self.mixed {
            self.job.pattern.read_percent = self.mix;
        }
        self.job
    }
}

/// Reads a job file. `file` names it in messages.
///
/// # Errors
/// The first line that cannot be used. A load that is read passes [`Load::check`].
pub fn parse(file: &str, text: &str) -> Result<Load, JobFileError> {
    let fail = |line: usize, what: String| JobFileError {
        file: file.to_owned(),
        line,
        what,
    };
    if text.len() > MAX_FILE {
        return Err(fail(
            1,
            format!(
                "the file has {} bytes, a job file has at most 1m",
                text.len()
            ),
        ));
    }
    let mut global = Section::new();
    let mut current: Option<Section> = None;
    let mut in_global = false;
    let mut done: Vec<Section> = Vec::new();
    for (number, raw) in text.lines().enumerate() {
        let number = number + 1;
        let line = raw.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest
                .strip_suffix(']')
                .map(str::trim)
                .filter(|name| !name.is_empty());
            let name =
                name.ok_or_else(|| fail(number, format!("{line:?} is no heading; write [name]")))?;
            done.extend(current.take());
            if done.len() >= MAX_SECTIONS {
                return Err(fail(number, format!("more than {MAX_SECTIONS} sections")));
            }
            in_global = name.eq_ignore_ascii_case("global");
            if !in_global {
                let mut section = global.clone();
                section.job.name = name.to_owned();
                section.line = number;
                current = Some(section);
            }
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (line, None),
        };
        let section = match &mut current {
            Some(section) => section,
            None if in_global => &mut global,
            None => {
                let what = format!(
                    "option {key:?} stands before the first section; begin with [global] or [name]"
                );
                return Err(fail(number, what));
            }
        };
        set(section, key, value).map_err(|what| fail(number, what))?;
    }
    done.extend(current);
    if done.is_empty() {
        let lines = text.lines().count().max(1);
        return Err(fail(
            lines,
            "the file has no job; add a section such as [burn-in]".to_owned(),
        ));
    }
    let lines: Vec<usize> = done.iter().map(|section| section.line).collect();
    let load = Load {
        jobs: done.into_iter().map(Section::finish).collect(),
    };
    // One job at a time, so that the error names a line.
    for (job, line) in load.jobs.iter().zip(lines) {
        let alone = Load {
            jobs: vec![job.clone()],
        };
        alone.check().map_err(|e| fail(line, e.0))?;
    }
    load.check().map_err(|e| fail(1, e.0))?;
    Ok(load)
}

fn set(section: &mut Section, key: &str, value: Option<&str>) -> Result<(), String> {
    let name = ALIASES
        .iter()
        .find(|(alias, _)| *alias == key)
        .map_or(key, |(_, name)| *name);
    if !OPTIONS.contains(&name) {
        return Err(unknown(key));
    }
    let job = &mut section.job;
    if name == "time_based" {
        job.time_based = flag(value).map_err(|e| format!("time_based: {e}"))?;
        return Ok(());
    }
    let value = value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("{key} needs a value: {key}=..."))?;
    if value.contains("${") || value.starts_with('$') {
        return Err(format!(
            "{key}: variables are not replaced; write the value itself"
        ));
    }
    let of = |what: String| format!("{key}: {what}");
    match name {
        "rw" => {
            (section.mixed, job.pattern) = pattern(value).map_err(of)?;
        }
        "rwmixread" => section.mix = percent(value).map_err(of)?,
        "bs" => (job.read_sizes, job.write_sizes) = block_sizes(value, job).map_err(of)?,
        "bssplit" => (job.read_sizes, job.write_sizes) = splits(value).map_err(of)?,
        "iodepth" => job.depth = small(value).map_err(of)?,
        "numjobs" => job.copies = small(value).map_err(of)?,
        "size" => job.size = Some(extent(value).map_err(of)?),
        "offset" => job.offset = extent(value).map_err(of)?,
        "runtime" => {
            let time = units::time(value).map_err(of)?;
            job.runtime_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        }
        "rate" => {
            (job.rate.read_bytes, job.rate.write_bytes) = pair(value, units::size).map_err(of)?
        }
        "rate_iops" => {
            (job.rate.read_iops, job.rate.write_iops) = pair(value, units::number).map_err(of)?
        }
        _ => job.verify = verify(value).map_err(of)?,
    }
    Ok(())
}

fn unknown(key: &str) -> String {
    let names = OPTIONS
        .iter()
        .copied()
        .chain(ALIASES.iter().map(|(alias, _)| *alias));
    let nearest = names
        .map(|name| (strsim::jaro_winkler(name, key), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8);
    let hint = match nearest {
        Some((_, name)) => format!("; did you mean {name:?}?"),
        None => format!("; burn-in understands {}", OPTIONS.join(", ")),
    };
    format!("option {key:?} is not supported{hint}")
}

fn flag(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("" | "1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(other) => Err(format!("{other:?} is neither 0 nor 1")),
    }
}

/// Whether `rwmixread` applies, and the pattern.
fn pattern(value: &str) -> Result<(bool, Pattern), String> {
    const ALL: [&str; 7] = [
        "read",
        "write",
        "randread",
        "randwrite",
        "rw",
        "readwrite",
        "randrw",
    ];
    let (mixed, random, read_percent) = match value {
        "read" => (false, false, 100),
        "write" => (false, false, 0),
        "randread" => (false, true, 100),
        "randwrite" => (false, true, 0),
        "rw" | "readwrite" => (true, false, 50),
        "randrw" => (true, true, 50),
        other => {
            return Err(format!(
                "{other:?} is not supported; one of {}",
                ALL.join(", ")
            ));
        }
    };
    Ok((
        mixed,
        Pattern {
            random,
            read_percent,
        },
    ))
}

fn percent(value: &str) -> Result<u8, String> {
    value
        .trim()
        .parse()
        .ok()
        .filter(|percent| *percent <= 100)
        .ok_or_else(|| format!("{value:?} is no share of a hundred (0 to 100)"))
}

fn small(value: &str) -> Result<u32, String> {
    let number = units::number(value)?;
    u32::try_from(number).map_err(|_| format!("{value:?} is too much"))
}

fn block(value: &str) -> Result<u32, String> {
    u32::try_from(units::size(value)?).map_err(|_| format!("{value:?} is too much"))
}

fn extent(value: &str) -> Result<Extent, String> {
    match value.strip_suffix('%') {
        Some(digits) => percent(digits).map(Extent::Percent),
        None => units::size(value).map(Extent::Bytes),
    }
}

/// One value for both directions, or one each; an empty one means "as before" to the caller.
fn directions(value: &str) -> Result<(&str, &str), String> {
    let mut parts = value.split(',').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let second = parts.next().unwrap_or(first);
    match parts.next() {
        // The third is for trims, which burn-in does not send.
        Some(_) => Err(format!(
            "{value:?} has values for trims; write one for reads and one for writes"
        )),
        None => Ok((first, second)),
    }
}

fn pair(
    value: &str,
    read: fn(&str) -> Result<u64, String>,
) -> Result<(Option<u64>, Option<u64>), String> {
    let (first, second) = directions(value)?;
    let one = |text: &str| match text {
        "" => Ok(None),
        text => read(text).map(Some),
    };
    Ok((one(first)?, one(second)?))
}

type Sizes = (Vec<SizeShare>, Vec<SizeShare>);

fn block_sizes(value: &str, before: &Job) -> Result<Sizes, String> {
    let (read, write) = directions(value)?;
    let one = |text: &str, before: &Vec<SizeShare>| match text {
        "" => Ok(before.clone()),
        text => Ok::<_, String>(vec![SizeShare {
            bytes: block(text)?,
            percent: 100,
        }]),
    };
    Ok((
        one(read, &before.read_sizes)?,
        one(write, &before.write_sizes)?,
    ))
}

fn splits(value: &str) -> Result<Sizes, String> {
    let (read, write) = directions(value)?;
    Ok((split(read)?, split(write)?))
}

/// `4k/10:64k/50:32k/40`; sizes without a share have equal parts of what the others leave.
pub fn split(value: &str) -> Result<Vec<SizeShare>, String> {
    let mut sizes = Vec::new();
    let mut open = Vec::new();
    let mut left = 100u8;
    for part in value.split(':') {
        if sizes.len() == 64 {
            return Err("more than 64 sizes".to_owned());
        }
        let (size, share) = part.split_once('/').unwrap_or((part, ""));
        let bytes = block(size)?;
        let mut percent = 0;
        if share.trim().is_empty() {
            open.push(sizes.len());
        } else {
            percent = self::percent(share)?;
            left = left
                .checked_sub(percent)
                .ok_or_else(|| format!("the shares of {value:?} exceed 100"))?;
        }
        sizes.push(SizeShare { bytes, percent });
    }
    if open.is_empty() {
        return match left {
            0 => Ok(sizes),
            left => Err(format!(
                "the shares of {value:?} add up to {}, not to 100",
                100 - left
            )),
        };
    }
    // The first ones take what does not divide.
    let count = u8::try_from(open.len()).unwrap_or(u8::MAX);
    for (position, index) in open.into_iter().enumerate() {
        sizes[index].percent = left / count + u8::from(position < usize::from(left % count));
    }
    Ok(sizes)
}

fn verify(value: &str) -> Result<bool, String> {
    match value {
        "0" => Ok(false),
        "crc32c" | "crc32c-intel" | "meta" => Ok(true),
        other => Err(format!(
            "{other:?} is not supported: burn-in marks each block with its address and a CRC-32C; write verify=crc32c, \
             or verify=0 to check nothing"
        )),
    }
}

#[cfg(test)]
mod tests;
