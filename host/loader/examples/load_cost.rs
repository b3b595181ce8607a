//! What it costs to inspect and load a plugin: `load_cost PLUGIN.so [ROUNDS]`.
//!
//! Each round takes a fresh copy of the file, since a library is loaded only once. Prints medians in
//! microseconds, one `name value` a line; hashing, which only an allow list asks for, apart.

use daos_loader::{PluginFile, Policy, load, sha256_of};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments
        .next()
        .ok_or("usage: load_cost PLUGIN.so [ROUNDS]")?;
    let rounds: usize = arguments.next().map_or(Ok(31), |text| text.parse())?;
    // Not in /tmp, where the copies might be refused for a directory above them.
    let directory = std::env::current_exe()?.with_file_name("load_cost_copies");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory)?;
    let result = measure(&source, rounds, &directory);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn measure(
    source: &str,
    rounds: usize,
    directory: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let policy = Policy::default();
    let (mut inspect, mut whole, mut hash) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let path = directory.join(format!("{round}.so"));
        std::fs::copy(source, &path)?;
        let start = Instant::now();
        let info = PluginFile::inspect(&path, &policy)?;
        inspect.push(start.elapsed());
        // `load` inspects again: a process that gets the path from another one must not skip that.
        let start = Instant::now();
        load(&info, &policy)?;
        whole.push(start.elapsed());
        let start = Instant::now();
        sha256_of(&std::fs::File::open(&path)?)?;
        hash.push(start.elapsed());
    }
    println!("bytes {}", std::fs::metadata(source)?.len());
    for (name, times) in [
        ("inspect_us", &mut inspect),
        ("inspect_and_load_us", &mut whole),
        ("sha256_us", &mut hash),
    ] {
        println!("{name} {:.1}", median(times).as_secs_f64() * 1e6);
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
