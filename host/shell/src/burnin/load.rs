//! The load that a command line describes.

use super::args::StartArgs;
use anyhow::Context;
use daos_burnin::{Job, Load, fio};
use daos_proto::host::BurnInAccess;

/// The load, and whether it was said that devices are written to.
///
/// # Errors
/// The job file cannot be read or used, or the options make no load.
pub(super) fn of(args: &StartArgs) -> anyhow::Result<(Load, BurnInAccess)> {
    if let Some(path) = &args.job_file {
        let shown = path.display().to_string();
        let limit = fio::MAX_FILE as u64;
        let length = std::fs::metadata(path).map(|found| found.len());
        let length = length.with_context(|| format!("cannot read the job file {shown}"))?;
        anyhow::ensure!(
            length <= limit,
            "{shown} has {length} bytes; a job file has at most 1 MiB"
        );
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the job file {shown}"))?;
        let load = fio::parse(&shown, &text)?;
        let access = access(load.writes());
        return Ok((load, access));
    }
    let mut job = Job::default();
    if let Some(time) = args.duration {
        job.runtime_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(rw) = &args.rw {
        job.pattern.random = rw.starts_with("rand");
        match rw.trim_start_matches("rand") {
            "read" => job.pattern.read_percent = 100,
            "write" => job.pattern.read_percent = 0,
            _ => {}
        }
        anyhow::ensure!(
            args.rwmixread.is_none() || rw.ends_with("rw"),
            "--rwmixread is for mixtures (--rw rw or randrw), not for {rw}"
        );
    }
    if let Some(percent) = args.rwmixread {
        job.pattern.read_percent = percent;
    }
    if let Some(sizes) = &args.bs {
        job.read_sizes.clone_from(&sizes.0);
        job.write_sizes.clone_from(&sizes.0);
    }
    if let Some(depth) = args.iodepth {
        job.depth = depth;
    }
    if let Some(iops) = args.rate_iops {
        (job.rate.read_iops, job.rate.write_iops) = match iops {
            0 => (None, None),
            iops => (Some(iops), Some(iops)),
        };
    }
    if let Some(bytes) = args.rate {
        (job.rate.read_bytes, job.rate.write_bytes) = (Some(bytes), Some(bytes));
    }
    job.verify = !args.no_verify;
    let said = args.rw.is_some() || args.rwmixread.is_some();
    let load = Load { jobs: vec![job] };
    load.check()?;
    let access = match said {
        true => access(load.writes()),
        false => BurnInAccess::Auto,
    };
    Ok((load, access))
}

fn access(writes: bool) -> BurnInAccess {
    match writes {
        true => BurnInAccess::Write,
        false => BurnInAccess::ReadOnly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: StartArgs,
    }

    fn load(line: &str) -> anyhow::Result<(Load, BurnInAccess)> {
        let line = Line::try_parse_from(std::iter::once("x").chain(line.split(' ')))?;
        of(&line.args)
    }

    #[test]
    fn options_make_a_load() {
        let (default, access) = load("a").unwrap();
        assert_eq!((default, access), (Load::default(), BurnInAccess::Auto));
        let (slow, access) = load("a --duration 2h --iodepth 1 --rate 1m").unwrap();
        assert_eq!(access, BurnInAccess::Auto, "nobody said that it may write");
        let job = &slow.jobs[0];
        assert_eq!(
            (job.runtime_ms, job.depth, job.rate.write_bytes),
            (Some(7_200_000), 1, Some(1 << 20))
        );
        let (mixed, access) = load("a --rwmixread 70 --bs 4k --rate-iops 0").unwrap();
        let job = &mixed.jobs[0];
        assert_eq!(
            (job.pattern.read_percent, job.pattern.random, access),
            (70, true, BurnInAccess::Write)
        );
        assert_eq!((job.write_sizes.len(), job.rate.read_iops), (1, None));
        let (reads, access) = load("a --rw read --no-verify").unwrap();
        assert_eq!(
            (reads.writes(), reads.jobs[0].verify, access),
            (false, false, BurnInAccess::ReadOnly)
        );
        for wrong in [
            "a --rw read --rwmixread 5",
            "a --bs 1000",
            "a --duration 1ms",
            "a --consent a",
            "a --all",
        ] {
            assert!(load(wrong).is_err(), "{wrong}");
        }
    }
}
