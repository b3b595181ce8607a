//! `preflight`: whether the nodes of a system go together.

mod compare;

use crate::cli::Cli;
use crate::connect::preflight_client;
use crate::fanout;
use clap::Args;
use compare::{Answer, Comparison, compare};
use daos_proto::host::FactsRequest;
use daos_report::{Envelope, print_json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a host's clock is read: the quickest answer tells most.
const READINGS: usize = 4;

#[derive(Args)]
pub(crate) struct PreflightArgs {
    /// Users to compare beside those that the hosts' configurations name.
    #[arg(long = "user", value_delimiter = ',', value_name = "NAME,...")]
    pub(crate) users: Vec<String>,
    /// Groups, likewise.
    #[arg(long = "group", value_delimiter = ',', value_name = "NAME,...")]
    pub(crate) groups: Vec<String>,
    /// Milliseconds that the hosts' clocks may be apart.
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub(crate) max_skew: u64,
    /// Show what is equal on all hosts, too, key by key.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Runs the command; `Ok(false)` when hosts differ, or one did not answer.
pub(crate) async fn run(cli: &Cli, args: &PreflightArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let request = FactsRequest {
        users: args.users.clone(),
        groups: args.groups.clone(),
    };
    let answers = fanout::ask_on(cli, hosts, move |channel| {
        let (mut client, request) = (preflight_client(channel), request.clone());
        async move {
            let mut best: Option<Answer> = None;
            for reading in 0..READINGS {
                // The names once: looking them up takes its time.
                let request = match reading {
                    0 => request.clone(),
                    _ => FactsRequest::default(),
                };
                let asked = now();
                let facts = client.facts(request).await?.into_inner();
                let answer = Answer::new(asked, now(), facts);
                best = Some(match best.take() {
                    None => answer,
                    Some(before) => before.with_clock_of(answer),
                });
            }
            best.ok_or_else(|| tonic::Status::internal("the host was not asked"))
        }
    })
    .await;
    let (mut told, mut errors) = (BTreeMap::new(), BTreeMap::new());
    for (host, answer) in answers {
        match answer {
            Ok(answer) => drop(told.insert(host, answer)),
            Err(error) => drop(errors.insert(host, error)),
        }
    }
    let comparison = compare(&told, Duration::from_millis(args.max_skew), errors);
    print(cli, args, &comparison)?;
    Ok(comparison.is_good())
}

/// Nanoseconds since the Unix epoch on this machine.
fn now() -> i128 {
    // A clock from before the epoch is as good as any other: only differences between hosts count.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or_else(
        |e| -(e.duration().as_nanos() as i128),
        |d| d.as_nanos() as i128,
    )
}

fn print(cli: &Cli, args: &PreflightArgs, comparison: &Comparison) -> anyhow::Result<()> {
    if cli.json {
        print_json(&match comparison.failure() {
            None => Envelope::ok(comparison),
            Some(error) => Envelope::failed(Some(comparison), error),
        })?;
        return Ok(());
    }
    if !comparison.hosts.is_empty() {
        daos_report::print_line!("{}", comparison.text(args.verbose));
    }
    fanout::print_errors(&comparison.errors);
    Ok(())
}
