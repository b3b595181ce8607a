//! A bdev plugin against fio on the same file or block device.

use crate::runner::{self, Job, Outcome};
use crate::stats::{median, spread};
use anyhow::{Context, bail};
use daos_plugin_api::abi::BdevOp;
use daos_plugin_api::control::{ClassRequest, DeviceState, FormatRequest};
use daos_plugin_api::host::{BdevDevice, CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::thunks;
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// GB of the file that is made when the target does not exist.
const FILE_GB: u64 = 2;

struct Case {
    name: &'static str,
    rw: &'static str,
    job: Job,
}

fn cases(span: u64) -> Vec<Case> {
    let job = |op, bytes, depth, sequential| Job {
        op,
        bytes,
        depth,
        sequential,
        durable: false,
        span,
    };
    let (read, write) = (BdevOp::READ, BdevOp::WRITE);
    vec![
        Case {
            name: "4 KiB random read, depth 1",
            rw: "randread",
            job: job(read, 4096, 1, false),
        },
        Case {
            name: "4 KiB random read, depth 32",
            rw: "randread",
            job: job(read, 4096, 32, false),
        },
        Case {
            name: "4 KiB random write, depth 1",
            rw: "randwrite",
            job: job(write, 4096, 1, false),
        },
        Case {
            name: "4 KiB random write, depth 32",
            rw: "randwrite",
            job: job(write, 4096, 32, false),
        },
        Case {
            name: "128 KiB sequential read, depth 8",
            rw: "read",
            job: job(read, 131_072, 8, true),
        },
        Case {
            name: "128 KiB sequential write, depth 8",
            rw: "write",
            job: job(write, 131_072, 8, true),
        },
    ]
}

/// Measures and prints the table.
pub(crate) fn run(target: &Path, seconds: u32, rounds: u32) -> anyhow::Result<()> {
    let target = std::path::absolute(target)?;
    let made = !target.exists();
    let result = measure(&target, seconds, rounds);
    if made {
        // The measurement counts; a file that cannot be removed is visible anyway.
        let _ = fs::remove_file(&target);
    }
    result
}

fn measure(target: &Path, seconds: u32, rounds: u32) -> anyhow::Result<()> {
    let is_block = fs::metadata(target).is_ok_and(|m| m.file_type().is_block_device());
    let (class, table) = match is_block {
        true => ("kdev", thunks::table::<bdev_kdev::BdevKdev>()),
        false => ("file", thunks::table::<bdev_file::BdevFile>()),
    };
    let instance = Instance::create(table, InstanceOptions::built_in())?;
    let mut config = Map::from_iter([("bdev_list".to_owned(), json!([target]))]);
    if !is_block {
        config.insert("bdev_size".to_owned(), json!(FILE_GB));
    }
    let request = ClassRequest {
        class: class.to_owned(),
        config,
    };
    let device = instance
        .devices(&request, CallOptions::default())?
        .remove(0);
    if device.state == DeviceState::Absent {
        let format = FormatRequest {
            device: device.clone(),
            overwrite_foreign: false,
            nvme_format: false,
            check_only: false,
        };
        instance.format(&format, CallOptions::default())?;
    }
    let open = || instance.open_bdev(&device, CallOptions::default());
    let size = open()?.size();
    fill(&open()?, size)?;

    println!(
        "bdev-{class} against fio ({} MiB, {seconds} s per turn, {rounds} turns each)\n",
        size >> 20
    );
    println!(
        "| case | ours IOPS | fio IOPS | ratio of IOPS | ours CPU us/IO | fio CPU us/IO | ratio of CPU |"
    );
    println!("|---|---|---|---|---|---|---|");
    for case in cases(size) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let own = || -> anyhow::Result<Outcome> {
                runner::run(&open()?, case.job, Duration::from_secs(seconds.into()))
            };
            let peer = || fio(target, &case, size, seconds);
            // Each side goes first in every other round.
            let (a, b) = match round % 2 {
                0 => (own()?, peer()?),
                _ => {
                    let b = peer()?;
                    (own()?, b)
                }
            };
            ours.push(a);
            theirs.push(b);
        }
        let of = |v: &[Outcome], f: fn(&Outcome) -> f64| v.iter().map(f).collect::<Vec<_>>();
        let ratios = |f: fn(&Outcome) -> f64| {
            ours.iter()
                .zip(&theirs)
                .map(|(a, b)| f(a) / f(b))
                .collect::<Vec<_>>()
        };
        println!(
            "| {} | {:.0} | {:.0} | {} | {:.2} | {:.2} | {} |",
            case.name,
            median(&of(&ours, |o| o.iops)),
            median(&of(&theirs, |o| o.iops)),
            spread(&ratios(|o| o.iops), 2),
            median(&of(&ours, |o| o.cpu_us)),
            median(&of(&theirs, |o| o.cpu_us)),
            spread(&ratios(|o| o.cpu_us), 2),
        );
    }
    Ok(())
}

/// Writes everything once, so that neither side reads holes.
fn fill(device: &BdevDevice, size: u64) -> anyhow::Result<()> {
    let mut io = daos_plugin_api::host::SyncBdev::new(device, Duration::from_secs(60))?;
    let chunk: Vec<u8> = (0..1usize << 20).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut at = 0;
    while at < size {
        let len = chunk.len().min((size - at) as usize);
        io.write(at, &chunk[..len])?;
        at += len as u64;
    }
    Ok(())
}

fn fio(target: &Path, case: &Case, size: u64, seconds: u32) -> anyhow::Result<Outcome> {
    let output = Command::new("fio")
        .args([
            "--name=peer",
            "--ioengine=io_uring",
            "--direct=1",
            "--time_based",
            "--output-format=json",
        ])
        .args([
            "--registerfiles=1",
            "--fixedbufs=1",
            "--thread",
            "--norandommap",
            "--random_generator=lfsr",
        ])
        .arg(format!("--filename={}", target.display()))
        .arg(format!("--size={size}"))
        .arg(format!("--rw={}", case.rw))
        .arg(format!("--bs={}", case.job.bytes))
        .arg(format!("--iodepth={}", case.job.depth))
        .arg(format!("--runtime={seconds}"))
        .output()
        .context("cannot run fio; install the package fio")?;
    if !output.status.success() {
        bail!("fio failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let json: Value =
        serde_json::from_str(&text[text.find('{').unwrap_or(0)..]).context("fio's answer")?;
    let job = &json["jobs"][0];
    let side = &job[if case.job.op == BdevOp::READ {
        "read"
    } else {
        "write"
    }];
    let number = |value: &Value| value.as_f64().context("fio's answer lacks a number");
    let ios = number(&side["total_ios"])?;
    let runtime_us = number(&side["runtime"])? * 1000.0;
    let cpu_percent = number(&job["usr_cpu"])? + number(&job["sys_cpu"])?;
    Ok(Outcome {
        iops: number(&side["iops"])?,
        cpu_us: runtime_us * cpu_percent / 100.0 / ios.max(1.0),
    })
}
