//! A load made to fit a device, with a remark on everything that had to change.

use super::KEEP_OUT;
use super::area::{Area, Range};
use crate::load::{Job, Load, SizeShare};
use crate::record::Mode;
use daos_plugin_api::abi::BdevGeometry;

/// Where each job works.
pub(crate) type Placed = (Area, Vec<(Job, Range)>);

/// Checks that a load can be run on a device, before anything on it is touched.
///
/// # Errors
/// Why it cannot, in a sentence.
pub fn check(load: &Load, mode: Mode, geometry: &BdevGeometry) -> Result<(), String> {
    layout(load, mode, geometry, &mut Vec::new()).map(drop)
}

/// The jobs of a load, one for each copy, with their parts of the device.
pub(crate) fn layout(
    load: &Load,
    mode: Mode,
    geometry: &BdevGeometry,
    notes: &mut Vec<String>,
) -> Result<Placed, String> {
    let jobs = fit(load, geometry, notes)?;
    if mode == Mode::ReadOnly && jobs.iter().any(Job::writes) {
        return Err("a load that writes was given to a run that only reads".to_owned());
    }
    let keep_out = match mode {
        Mode::ReadWrite => KEEP_OUT / u64::from(geometry.block_size),
        Mode::ReadOnly => 0,
    };
    let blocks = geometry.block_count.saturating_sub(2 * keep_out);
    let area = Area::new(keep_out, blocks, geometry.block_size, &jobs)?;
    let place = |job: Job| area.range(&job).map(|range| (job, range));
    let placed = jobs.into_iter().map(place).collect::<Result<_, _>>()?;
    Ok((area, placed))
}

/// The jobs, one for each copy, with sizes and depths that the device can take.
///
/// # Errors
/// There are more jobs than the device has queues.
fn fit(load: &Load, geometry: &BdevGeometry, notes: &mut Vec<String>) -> Result<Vec<Job>, String> {
    let block = geometry.block_size;
    let most =
        (u64::from(geometry.max_transfer_blocks) * u64::from(block)).min(u64::from(u32::MAX));
    // A whole number of blocks by construction.
    let most = most as u32 / block * block;
    let mut jobs = Vec::new();
    for job in &load.jobs {
        let mut job = job.clone();
        let mut fit_all = |sizes: &mut Vec<SizeShare>, what: &str| {
            for size in sizes {
                let fitted = size.bytes.next_multiple_of(block).min(most);
                if fitted != size.bytes {
                    notes.push(format!(
                        "{what} of {} bytes became such of {fitted}: the device has blocks of {block} and takes {most} at once",
                        size.bytes
                    ));
                    size.bytes = fitted;
                }
            }
        };
        if job.pattern.read_percent > 0 {
            fit_all(&mut job.read_sizes, "reads");
        }
        if job.writes() {
            fit_all(&mut job.write_sizes, "writes");
        }
        if job.depth > geometry.max_queue_depth {
            notes.push(format!(
                "job {:?}: {} requests under way instead of {}, which is the most that the device takes",
                job.name, geometry.max_queue_depth, job.depth
            ));
            job.depth = geometry.max_queue_depth;
        }
        jobs.extend((0..job.copies).map(|_| job.clone()));
    }
    if jobs.len() > geometry.max_queues as usize {
        return Err(format!(
            "the load has {} jobs with their copies, the device has {} queues; lower numjobs",
            jobs.len(),
            geometry.max_queues
        ));
    }
    notes.dedup();
    Ok(jobs)
}
