//! `storage burn-in`: start, status, stop, report.

mod args;
mod consent;
mod load;
mod show;

pub(crate) use args::BurnInCommand;

use crate::cli::Cli;
use crate::connect::{BurnInClient, burn_in_client};
use crate::fanout::{self, Answers, Patience, explain, explain_during};
use anyhow::Context;
use args::StartArgs;
use daos_burnin::{Record, RunState};
use daos_proto::host::{
    BurnInDevice, BurnInReportRequest, BurnInStartRequest, BurnInStopRequest, BurnInWatchRequest,
};
use daos_report::{burnin as report, bytes};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Exit status of a command that worked.
pub(crate) const WELL: u8 = 0;
/// Exit status when something could not run.
pub(crate) const FAILED: u8 = 1;
/// Exit status when a burn-in found errors.
pub(crate) const ERRORS_FOUND: u8 = 3;

/// What to do when the server has ended meanwhile, and its burn-ins with it.
const AFTER_LOSS: &str = "see what was measured until then, `daos_shell storage burn-in report`, and start another burn-in";

/// Runs the command; the exit status.
pub(crate) async fn run(
    cli: &Cli,
    command: &BurnInCommand,
    hosts: &[String],
) -> anyhow::Result<u8> {
    match command {
        BurnInCommand::Start(args) => start(cli, args, hosts).await,
        BurnInCommand::Status { runs, follow } => status(cli, runs.clone(), *follow, hosts).await,
        BurnInCommand::Stop { runs, .. } => stop(cli, runs.clone(), hosts).await,
        BurnInCommand::Report { run, html } => {
            let run = run.clone().unwrap_or_default();
            report(cli, run, html.as_deref(), hosts).await
        }
    }
}

/// The exit status that a run stands for.
fn status_of(record: &Record) -> u8 {
    match record.state {
        RunState::Passed | RunState::Running | RunState::Stopped => WELL,
        RunState::Failed => ERRORS_FOUND,
        RunState::Interrupted | RunState::NotRun => FAILED,
    }
}

/// The worst of all: errors that were found, then what failed.
fn worst<'a>(records: impl Iterator<Item = &'a Record>, complete: bool) -> u8 {
    let worst = records.map(status_of).max().unwrap_or(WELL);
    if complete { worst } else { worst.max(FAILED) }
}

/// Asks every host about its burn-ins.
async fn ask<T, F>(
    cli: &Cli,
    hosts: &[String],
    patience: Patience,
    question: impl Fn(BurnInClient, String) -> F + Clone + Send + 'static,
) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + Send,
{
    fanout::ask_each(cli, hosts, patience, move |channel, host| {
        question(burn_in_client(channel), host)
    })
    .await
}

fn records(documents: &str) -> Result<Vec<Record>, String> {
    serde_json::from_str(documents).map_err(|e| {
        format!("its record of burn-ins makes no sense, use programs of one release: {e}")
    })
}

/// What a start has made, or would make, of a device.
#[derive(Serialize)]
struct DeviceRow {
    device: String,
    plugin: String,
    size_bytes: u64,
    holds: String,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

impl From<BurnInDevice> for DeviceRow {
    fn from(device: BurnInDevice) -> Self {
        Self {
            mode: if device.writes {
                "read-write"
            } else {
                "read-only"
            },
            refusal: device.refusal.map(|fault| fault.to_string()),
            device: device.device,
            plugin: device.plugin,
            size_bytes: device.size_bytes,
            holds: device.holds,
        }
    }
}

/// What a host has started, or would start.
#[derive(Serialize)]
struct Started {
    run: String,
    devices: Vec<DeviceRow>,
}

impl Started {
    fn refused(&self) -> bool {
        self.devices.iter().any(|device| device.refusal.is_some())
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        for d in &self.devices {
            let holds = match (d.holds.as_str(), d.mode) {
                ("", _) => String::new(),
                (holds, "read-write") => format!(", destroys {holds}"),
                (holds, _) => format!(", holds {holds}"),
            };
            lines.push(match &d.refusal {
                None => format!("{}: {}, {}{holds}", d.device, d.mode, bytes(d.size_bytes)),
                Some(refusal) => format!("{}: refused: {refusal}", d.device),
            });
        }
        if !self.run.is_empty() {
            lines.push(format!(
                "burn-in {} started; see: daos_shell storage burn-in status {} --follow",
                self.run, self.run
            ));
        }
        lines.join("\n")
    }
}

async fn start(cli: &Cli, args: &StartArgs, hosts: &[String]) -> anyhow::Result<u8> {
    let (load, access) = load::of(args)?;
    let mut request = BurnInStartRequest {
        devices: args.devices.clone(),
        all: args.all,
        load: serde_json::to_string(&load)?,
        destroy: Vec::new(),
        plan_only: false,
        ..BurnInStartRequest::default()
    };
    request.set_access(access);
    if !args.destroy_data.is_empty() {
        match consent::obtain(cli, args, hosts, &request).await? {
            Some(destroy) => request.destroy = destroy,
            None => {
                eprintln!("Nothing was started.");
                return Ok(FAILED);
            }
        }
    }
    request.plan_only = args.dry_run;
    let answers: Answers<Started> = ask(cli, hosts, Patience::Call, move |mut client, _| {
        let request = request.clone();
        async move {
            let answer = client
                .start(request)
                .await
                .map_err(|s| explain(&s))?
                .into_inner();
            Ok(Started {
                run: answer.run,
                devices: answer.devices.into_iter().map(DeviceRow::from).collect(),
            })
        }
    })
    .await;
    if !args.follow {
        let refused = answers.values().flatten().any(Started::refused);
        let complete = fanout::print(cli, answers, Started::text)?;
        return Ok(if complete && !refused { WELL } else { FAILED });
    }
    // By host, since each has names of its own.
    let mut runs = BTreeMap::new();
    let mut failed = Answers::new();
    for (host, answer) in answers {
        match answer {
            Ok(started) => drop(runs.insert(host, vec![started.run])),
            Err(error) => drop(failed.insert(host, Err(error))),
        }
    }
    let followed: Vec<String> = runs.keys().cloned().collect();
    let mut answers = follow(cli, runs, &followed).await;
    answers.extend(failed);
    finish(cli, answers, |records| {
        records
            .iter()
            .map(report::text)
            .collect::<Vec<_>>()
            .join("\n\n")
    })
}

async fn follow(
    cli: &Cli,
    runs: BTreeMap<String, Vec<String>>,
    hosts: &[String],
) -> Answers<Vec<Record>> {
    let shown = show::Progress::new(cli);
    ask(cli, hosts, Patience::Follow, move |client, host| {
        let runs = runs.get(&host).cloned().unwrap_or_default();
        let shown = shown.clone();
        async move { watch(client, runs, true, |records| shown.show(&host, records)).await }
    })
    .await
}

/// The last state of runs that a host tells.
async fn watch(
    mut client: BurnInClient,
    runs: Vec<String>,
    follow: bool,
    mut each: impl FnMut(&[Record]),
) -> Result<Vec<Record>, String> {
    let request = BurnInWatchRequest { runs, follow };
    let stream = client.watch(request).await.map_err(|s| explain(&s))?;
    let mut stream = stream.into_inner();
    let mut last = None;
    let lost = |s| explain_during(&s, "the burn-in", AFTER_LOSS);
    while let Some(message) = stream.message().await.map_err(lost)? {
        let known = records(&message.documents)?;
        each(&known);
        last = Some(known);
    }
    let last = last.ok_or("the server said nothing about its burn-ins")?;
    match last
        .iter()
        .find(|record| follow && record.state == RunState::Running)
    {
        Some(record) => Err(format!(
            "the server ended while burn-in {} ran; its record says how far it came once the server is back: daos_shell storage burn-in report",
            record.run
        )),
        None => Ok(last),
    }
}

async fn status(
    cli: &Cli,
    runs: Vec<String>,
    following: bool,
    hosts: &[String],
) -> anyhow::Result<u8> {
    // A list of everything says how runs ended, and is none of them.
    let asked = following || !runs.is_empty();
    let answers = if following {
        let runs = hosts
            .iter()
            .map(|host| (host.clone(), runs.clone()))
            .collect();
        follow(cli, runs, hosts).await
    } else {
        ask(cli, hosts, Patience::Call, move |client, _| {
            watch(client, runs.clone(), false, |_| {})
        })
        .await
    };
    let complete = answers.values().all(Result::is_ok);
    let status = finish(cli, answers, |records| report::list(records))?;
    Ok(match (asked, complete) {
        (true, _) => status,
        (false, true) => WELL,
        (false, false) => FAILED,
    })
}

async fn stop(cli: &Cli, runs: Vec<String>, hosts: &[String]) -> anyhow::Result<u8> {
    let answers = ask(cli, hosts, Patience::Call, move |mut client, _| {
        let request = BurnInStopRequest { runs: runs.clone() };
        async move {
            let answer = client.stop(request).await.map_err(|s| explain(&s))?;
            records(&answer.into_inner().documents)
        }
    })
    .await;
    let complete = fanout::print(cli, answers, |records| report::list(records))?;
    // What was found until then is for `report` to tell.
    Ok(if complete { WELL } else { FAILED })
}

async fn report(
    cli: &Cli,
    run: String,
    html: Option<&Path>,
    hosts: &[String],
) -> anyhow::Result<u8> {
    if let Some(path) = html {
        crate::file::check(path, "--html")?;
    }
    let answers: Answers<Vec<Record>> = ask(cli, hosts, Patience::Call, move |mut client, _| {
        let request = BurnInReportRequest { run: run.clone() };
        async move {
            let answer = client.report(request).await.map_err(|s| explain(&s))?;
            let document = answer.into_inner().document;
            records(&format!("[{document}]"))
        }
    })
    .await;
    if let Some(path) = html {
        let all = answers.iter().filter_map(|(host, answer)| {
            let record = answer.as_ref().ok()?.first()?;
            Some((host.clone(), record.clone()))
        });
        let page = report::page(&all.collect::<Vec<_>>());
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    finish(cli, answers, |records| {
        records
            .iter()
            .map(report::text)
            .collect::<Vec<_>>()
            .join("\n\n")
    })
}

/// Prints records and tells how they ended as exit status.
fn finish(
    cli: &Cli,
    answers: Answers<Vec<Record>>,
    text: impl Fn(&Vec<Record>) -> String,
) -> anyhow::Result<u8> {
    let complete = answers.values().all(Result::is_ok);
    let status = worst(answers.values().flatten().flatten(), complete);
    fanout::print(cli, answers, text)?;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_burnin::Load;

    #[test]
    fn errors_found_and_runs_that_failed_have_different_exit_states() {
        let record = |state| {
            let mut record = Record::new(
                "b1".to_owned(),
                "h".to_owned(),
                1,
                Load::default(),
                Vec::new(),
            );
            record.state = state;
            record
        };
        let all = |states: &[RunState], complete| {
            worst(
                states.iter().map(|s| record(*s)).collect::<Vec<_>>().iter(),
                complete,
            )
        };
        assert_eq!(all(&[], true), 0);
        assert_eq!(all(&[], false), 1);
        assert_eq!(
            all(
                &[RunState::Passed, RunState::Stopped, RunState::Running],
                true
            ),
            0
        );
        assert_eq!(all(&[RunState::Passed, RunState::Interrupted], true), 1);
        assert_eq!(all(&[RunState::NotRun], true), 1);
        assert_eq!(all(&[RunState::Failed, RunState::NotRun], false), 3);
    }
}
