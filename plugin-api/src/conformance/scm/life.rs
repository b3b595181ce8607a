//! Opening, closing, mounting.

use super::{ScmBench, create, remove};
use crate::abi::Status;
use crate::conformance::case::{Case, Verdict, ensure, refused, refused_somehow, supported};
use crate::control::DeviceState;
use crate::host::CallOptions;
use std::fs;

pub(super) const CASES: &[Case<ScmBench>] = &[
    Case {
        id: "life.info",
        name: "the memory describes itself sensibly",
        body: info,
    },
    Case {
        id: "life.mount_point",
        name: "the mount point is an absolute directory that takes files",
        body: mount_point,
    },
    Case {
        id: "life.exclusive",
        name: "a second opener is refused as BUSY and told why",
        body: exclusive,
    },
    Case {
        id: "life.in_use",
        name: "open memory is listed as in use",
        body: in_use,
    },
    Case {
        id: "life.unknown",
        name: "memory that does not exist is refused and explained",
        body: unknown,
    },
    Case {
        id: "life.mount_again",
        name: "mounting what is mounted changes nothing",
        body: mount_again,
    },
    Case {
        id: "life.leaks",
        name: "opening and closing again and again leaks no descriptor",
        body: leaks,
    },
];

fn info(bench: &ScmBench) -> Verdict {
    let info = bench.open()?.info()?;
    ensure!(info.total > 0, "total is 0");
    ensure!(
        info.available <= info.total,
        "{} of {} bytes are available",
        info.available,
        info.total
    );
    ensure!(
        info.persist_granularity.is_power_of_two() && info.persist_granularity <= 4096,
        "persist_granularity is {}",
        info.persist_granularity
    );
    let listed = bench.base.devices[0].size;
    ensure!(
        listed == 0 || info.total <= listed && info.total >= listed / 10 * 8,
        "total is {}, devices said {listed}",
        info.total
    );
    ensure!(
        bench.open()?.info()? == info,
        "another time it is otherwise"
    );
    Ok(())
}

fn mount_point(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let path = memory.mount_point()?;
    ensure!(path.is_absolute(), "{} is not absolute", path.display());
    ensure!(path.is_dir(), "{} is no directory", path.display());
    ensure!(
        memory.mount_point()? == path,
        "another call gives another path"
    );
    let file = path.join("conformance-file");
    let io = |e: std::io::Error| crate::sdk::Error::io(format!("{}", file.display()), e);
    fs::write(&file, b"kept").map_err(io)?;
    drop(memory);
    let memory = bench.open()?;
    let kept = fs::read(&file).map_err(io)?;
    fs::remove_file(&file).map_err(io)?;
    ensure!(kept == b"kept", "the file holds something else");
    drop(memory);
    Ok(())
}

fn exclusive(bench: &ScmBench) -> Verdict {
    let first = bench.open()?;
    let device = &bench.base.devices[0];
    for _ in 0..3 {
        let second = bench.base.instance.open_scm(device, CallOptions::default());
        refused("a second open", second, &[Status::BUSY])?;
    }
    drop(first);
    bench.open().map(drop)
}

fn in_use(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let device = &bench.base.list()?[0];
    ensure!(
        device.state == DeviceState::InUse && !device.detail.is_empty(),
        "it is listed as {:?} ({:?})",
        device.state,
        device.detail
    );
    drop(memory);
    let device = &bench.base.list()?[0];
    ensure!(
        device.state == DeviceState::Present,
        "closed, it is listed as {:?} ({:?})",
        device.state,
        device.detail
    );
    Ok(())
}

fn unknown(bench: &ScmBench) -> Verdict {
    let mut device = bench.base.devices[0].clone();
    device.address = "/nonexistent/of-conformance".into();
    device.index = 4_000_000;
    // Plugins that read the config rather than the address must see it too.
    for key in ["scm_mount", "scm_list"] {
        if let Some(value) = device.config.get_mut(key) {
            *value = match value.is_array() {
                true => vec![device.address.clone()].into(),
                false => device.address.clone().into(),
            };
        }
    }
    let instance = &bench.base.instance;
    refused_somehow("open", instance.open_scm(&device, CallOptions::default()))
}

fn mount_again(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    drop(create(&memory, "mounted", 4096)?);
    drop(memory);
    for device in &bench.base.devices {
        for _ in 0..3 {
            let mounted = bench.base.instance.mount(device, CallOptions::default());
            supported("mount", mounted)?;
        }
    }
    let memory = bench.open()?;
    drop(memory.open_region("mounted", CallOptions::default())?);
    remove(&memory, "mounted")
}

fn leaks(bench: &ScmBench) -> Verdict {
    const ROUNDS: usize = 40;
    let round = || -> Verdict {
        let memory = bench.open()?;
        drop(create(&memory, "leak", 4096)?);
        remove(&memory, "leak")
    };
    let count = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    round()?;
    let before = count();
    for _ in 0..ROUNDS {
        round()?;
    }
    // Other threads of a test program may open a few meanwhile; a leak is one per round.
    let after = count();
    ensure!(
        after < before + ROUNDS,
        "{before} descriptors before, {after} after {ROUNDS} rounds"
    );
    Ok(())
}
