//! `network ping`: latency and bandwidth between this machine and a host or an engine.

mod plot;

use crate::cli::{Cli, PingArgs};
use crate::connect::connect;
use crate::fanout::explain;
use crate::reach::DEFAULT_PORT;
use anyhow::{Context, anyhow, bail};
use daos_client::{EngineUri, PING_MAX, Pinger};
use daos_hostlist::with_port;
use daos_proto::host::OpenResponderRequest;
use daos_proto::mgmt::SystemQueryReq;
use daos_report::{Envelope, PingReport, PingRow, print_json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time to wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the server may take to notice that its responder has ended.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(1);
/// Pings of each size that are not measured: connections are made, memory is touched.
const WARM_UP: u32 = 5;

/// Bytes with a unit of the command line.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (digits, unit) = match lower.strip_suffix(['k', 'm']) {
        Some(digits) if lower.ends_with('k') => (digits, 1 << 10),
        Some(digits) => (digits, 1 << 20),
        None => (lower.as_str(), 1),
    };
    digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| (1..=PING_MAX).contains(bytes))
        .ok_or_else(|| format!("{text:?} is no size from 1 to 1m"))
}

/// Measures and prints.
pub(crate) async fn run(cli: &Cli, args: &PingArgs, hosts: &[String]) -> anyhow::Result<bool> {
    if let Some(file) = &args.plot {
        crate::file::check(file, "--plot")?;
    }
    let plugins_dir = args.plugins_dir.clone().or_else(default_plugins_dir);
    let report = match args.target.parse::<u32>() {
        Ok(rank) => of_rank(cli, args, hosts, rank, plugins_dir).await?,
        Err(_) => of_host(cli, args, plugins_dir).await?,
    };
    if let Some(file) = &args.plot {
        plot::write(&report, file)?;
    }
    if cli.json {
        print_json(&Envelope::ok(report))?;
    } else {
        daos_report::print_line!("{}", report.text());
    }
    Ok(true)
}

/// Where the daemon beside this program finds its plugins.
fn default_plugins_dir() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let dir = exe.parent()?.parent()?.join("lib/daos/plugins");
    dir.is_dir().then_some(dir)
}

async fn of_rank(
    cli: &Cli,
    args: &PingArgs,
    hosts: &[String],
    rank: u32,
    plugins_dir: Option<PathBuf>,
) -> anyhow::Result<PingReport> {
    let uri = find(cli, hosts, rank).await?;
    if let Some(wanted) = &args.provider
        && *wanted != uri.provider
    {
        bail!(
            "rank {rank} uses provider {}, not {wanted}; leave -p out, or measure its host by name, which can \
             open a responder for another provider",
            uri.provider
        );
    }
    let provider = uri.provider.clone();
    let rows = measure(args, uri, args.target_number, plugins_dir).await?;
    Ok(PingReport {
        peer: format!("rank {rank}"),
        provider,
        interface: String::new(),
        rows,
    })
}

/// Where an engine of the system is.
async fn find(cli: &Cli, hosts: &[String], rank: u32) -> anyhow::Result<EngineUri> {
    let request = SystemQueryReq {
        ranks: rank.to_string(),
        ..SystemQueryReq::default()
    };
    let answer = crate::manage::connect(cli, hosts)
        .await?
        .system_query(request)
        .await;
    let answer = answer.map_err(|status| anyhow!(explain(&status)))?;
    let Some(member) = answer.into_inner().members.pop() else {
        bail!(
            "the system has no rank {rank}; `daos_shell system query --members` shows those that there are"
        );
    };
    if member.state != "joined" {
        bail!(
            "rank {rank} does not serve, it is {}: {}; see `daos_shell system query`",
            member.state,
            member.info
        );
    }
    let uri = member.fabric_uri.parse();
    uri.with_context(|| format!("the address of rank {rank} makes no sense"))
}

async fn of_host(
    cli: &Cli,
    args: &PingArgs,
    plugins_dir: Option<PathBuf>,
) -> anyhow::Result<PingReport> {
    if args.target_number != 0 {
        bail!(
            "a responder has one target; --target-number is for engines, which are named by their rank"
        );
    }
    let host = with_port(&args.target, DEFAULT_PORT)?;
    let mut client = connect(&host, &cli.reach).await?;
    let request = OpenResponderRequest {
        provider: args.provider.clone().unwrap_or_default(),
        seconds: 0,
    };
    let refused = |status: tonic::Status| anyhow!("{host}: {}", explain(&status));
    let opened = client.open_responder(request).await.map_err(refused)?;
    let mut events = opened.into_inner();
    let ready = events.message().await.map_err(refused)?;
    let ready = ready
        .with_context(|| format!("{host}: it opened no responder; use programs of one release"))?;
    let uri: EngineUri = ready
        .uri
        .parse()
        .with_context(|| format!("{host}: the responder's address makes no sense"))?;
    let measured = measure(args, uri, 0, plugins_dir);
    tokio::pin!(measured);
    let mut rows = tokio::select! {
        rows = &mut measured => rows,
        event = events.message() => match event {
            Err(status) => Err(refused(status)),
            Ok(_) => measured.await,
        },
    };
    // The end of the responder is the better explanation of a ping without an answer.
    if rows.is_err()
        && let Ok(Err(status)) = tokio::time::timeout(EXPLAINED_WITHIN, events.message()).await
    {
        rows = Err(refused(status));
    }
    let rows = rows.with_context(|| format!("cannot ping {host} over {}", ready.provider))?;
    Ok(PingReport {
        peer: host,
        provider: ready.provider,
        interface: ready.interface,
        rows,
    })
}

/// Measures on a thread of its own, which spins.
async fn measure(
    args: &PingArgs,
    uri: EngineUri,
    target: u32,
    plugins_dir: Option<PathBuf>,
) -> anyhow::Result<Vec<PingRow>> {
    let (interface, sizes, count) = (args.interface.clone(), args.sizes.clone(), args.count);
    let (done, rows) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("ping".to_owned())
        .spawn(move || {
            let rows = pings(
                &uri,
                target,
                &interface,
                plugins_dir.as_deref(),
                &sizes,
                count,
            );
            // Nobody waits if the responder has ended meanwhile.
            drop(done.send(rows));
        })
        .context("no thread to measure on")?;
    rows.await.context("the fabric plugin panicked")?
}

fn pings(
    uri: &EngineUri,
    target: u32,
    interface: &str,
    plugins_dir: Option<&Path>,
    sizes: &[usize],
    count: u32,
) -> anyhow::Result<Vec<PingRow>> {
    let mut pinger = Pinger::open(uri, target, interface, plugins_dir)?;
    let mut rows = Vec::new();
    for size in sizes {
        for _ in 0..WARM_UP {
            pinger.ping(*size, PATIENCE)?;
        }
        let mut times = Vec::with_capacity(count as usize);
        for _ in 0..count {
            times.push(pinger.ping(*size, PATIENCE)?);
        }
        rows.push(PingRow::of(*size as u64, times));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units_and_limits() {
        for (text, bytes) in [
            ("64", 64),
            ("1k", 1024),
            ("4K", 4096),
            ("1m", 1 << 20),
            ("1048576", 1 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "0",
            "",
            "k",
            "2m",
            "1g",
            "-1",
            "1.5k",
            "99999999999999999999k",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
