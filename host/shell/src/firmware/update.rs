//! An update on many hosts: plans, question, progress, results.

use crate::ask::confirmed;
use crate::cli::Cli;
use crate::connect::firmware_client;
use crate::fanout::{self, Answers, Patience, explain, explain_during, print_errors};
use anyhow::bail;
use daos_proto::host::update_firmware_event::Event;
use daos_proto::host::{
    FirmwarePlan, FirmwareProgress, UpdateFirmwareEvent, UpdateFirmwareRequest,
};
use daos_report::{Envelope, FirmwarePlanReport, FirmwareResultRow, print_json};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use tonic::{Status, Streaming};

const WARNING: &str = "The firmware of these devices will be replaced, and the devices reset. Power must not fail \
                       meanwhile.";

/// What to do when the server has ended meanwhile.
const AFTER_LOSS: &str = "see what its devices run, `daos_shell firmware query`, and repeat the update of those that run the old \
                          revision";

/// What became of one host.
#[derive(Default, Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<FirmwarePlanReport>,
    results: Vec<FirmwareResultRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Outcome {
    /// What failed, in a sentence.
    fn failure(&self, dry_run: bool) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(error.clone());
        }
        if let Some(row) = self.results.iter().find(|row| row.fault.is_some()) {
            return Some(format!("{} was not updated", row.device.address));
        }
        let plan = self.plan.as_ref().filter(|_| dry_run)?;
        let mut refused = plan.devices.iter().filter(|d| d.refusal.is_some());
        let first = refused.next()?;
        Some(format!("{} would be refused", first.device.address))
    }
}

/// Runs the command; `Ok(false)` when a device or host failed and was reported.
pub(super) async fn run(
    cli: &Cli,
    request: UpdateFirmwareRequest,
    dry_run: bool,
    force: bool,
    hosts: &[String],
) -> anyhow::Result<bool> {
    if !request.image.starts_with('/') {
        bail!(
            "{}: an image is named with its whole path on the hosts of the devices",
            request.image
        );
    }
    let plans = plans(cli, &request, hosts).await;
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    let mut agreed: BTreeMap<String, String> = BTreeMap::new();
    for (host, plan) in plans {
        let outcome = outcomes.entry(host.clone()).or_default();
        match plan {
            Ok(plan) => {
                let id = plan.plan_id.clone();
                let plan = FirmwarePlanReport::from(plan);
                if !cli.json {
                    daos_report::print_line!("{host}: {}", plan.text());
                }
                if plan.free() > 0 {
                    agreed.insert(host, id);
                } else if !dry_run {
                    outcome.error = Some("no device can be updated".to_owned());
                }
                outcome.plan = Some(plan);
            }
            Err(error) => outcome.error = Some(error),
        }
    }
    if dry_run || agreed.is_empty() {
        return finish(cli, outcomes, dry_run);
    }
    if !cli.json {
        daos_report::print_line!("{WARNING}");
    }
    if !force && !confirmed("update firmware")? {
        eprintln!("Nothing was updated.");
        return Ok(false);
    }
    let chosen: Vec<String> = agreed.keys().cloned().collect();
    let shown = Shown::new(cli);
    let question = {
        let shown = shown.clone();
        move |channel, host: String| {
            let mut request = request.clone();
            request.plan_id = agreed.get(&host).cloned().unwrap_or_default();
            let mut progress = Progress::new(shown.clone(), host);
            async move {
                let stream = firmware_client(channel).update(request).await;
                let stream = stream.map_err(|status| explain(&status))?;
                Ok(follow(stream.into_inner(), &mut progress).await)
            }
        }
    };
    for (host, answer) in fanout::ask_each(cli, &chosen, Patience::Work, question).await {
        let outcome = outcomes.entry(host).or_default();
        match answer {
            Ok((results, error)) => (outcome.results, outcome.error) = (results, error),
            Err(error) => outcome.error = Some(error),
        }
    }
    finish(cli, outcomes, false)
}

/// Asks every host what an update would do.
async fn plans(
    cli: &Cli,
    request: &UpdateFirmwareRequest,
    hosts: &[String],
) -> Answers<FirmwarePlan> {
    let mut request = request.clone();
    request.plan_only = true;
    fanout::ask_on(cli, hosts, move |channel| {
        let request = request.clone();
        async move {
            let stream = firmware_client(channel).update(request).await?;
            let mut stream = stream.into_inner();
            while let Some(event) = stream.message().await? {
                if let Some(Event::Plan(plan)) = event.event {
                    return Ok(plan);
                }
            }
            Err(Status::internal("the server sent no plan"))
        }
    })
    .await
}

/// Reads the events of an update: what became of its devices, and what broke it off.
async fn follow(
    mut stream: Streaming<UpdateFirmwareEvent>,
    progress: &mut Progress,
) -> (Vec<FirmwareResultRow>, Option<String>) {
    let mut results = Vec::new();
    let error = loop {
        match stream.message().await {
            Ok(Some(event)) => match event.event {
                Some(Event::Progress(step)) => progress.step(&step),
                Some(Event::Result(result)) => {
                    let row = FirmwareResultRow::from(result);
                    progress.end(&row);
                    results.push(row);
                }
                Some(Event::Summary(_)) => break None,
                Some(Event::Plan(_)) | None => {}
            },
            Ok(None) => {
                break Some(
                    "the server ended the update without a summary; see what its devices run: daos_shell firmware query"
                        .to_owned(),
                );
            }
            Err(status) => break Some(explain_during(&status, "the update", AFTER_LOSS)),
        }
    };
    progress.clear();
    (results, error)
}

/// Prints results, then errors.
fn finish(cli: &Cli, outcomes: BTreeMap<String, Outcome>, dry_run: bool) -> anyhow::Result<bool> {
    let failed: BTreeMap<String, String> = outcomes
        .iter()
        .filter_map(|(host, outcome)| Some((host.clone(), outcome.failure(dry_run)?)))
        .collect();
    if cli.json {
        print_json(&match fanout::summary(&failed) {
            None => Envelope::ok(outcomes),
            Some(error) => Envelope::failed(Some(outcomes), error),
        })?;
        return Ok(failed.is_empty());
    }
    if outcomes.values().any(|outcome| !outcome.results.is_empty()) {
        daos_report::print_line!("NVMe firmware update results:");
    }
    for (host, outcome) in &outcomes {
        if outcome.results.is_empty() {
            continue;
        }
        daos_report::print_line!("{host}:");
        for row in &outcome.results {
            daos_report::print_line!("{}", row.text());
        }
    }
    print_errors(&failed);
    Ok(failed.is_empty())
}

/// Where progress goes, for all hosts: bars on a terminal, otherwise lines, on standard error.
#[derive(Clone)]
struct Shown {
    bars: Option<MultiProgress>,
    hidden: bool,
}

impl Shown {
    fn new(cli: &Cli) -> Self {
        let terminal = !cli.json && std::io::stderr().is_terminal();
        Self {
            bars: terminal.then(MultiProgress::new),
            hidden: cli.json,
        }
    }
}

/// How far the devices of one host are.
struct Progress {
    shown: Shown,
    host: String,
    bars: HashMap<String, ProgressBar>,
    /// What was last said of a device.
    said: HashMap<String, String>,
}

impl Progress {
    fn new(shown: Shown, host: String) -> Self {
        Self {
            shown,
            host,
            bars: HashMap::new(),
            said: HashMap::new(),
        }
    }

    fn step(&mut self, step: &FirmwareProgress) {
        if let Some(bars) = &self.shown.bars {
            let bar = self.bars.entry(step.address.clone()).or_insert_with(|| {
                let bar = bars.add(ProgressBar::new(1));
                // The template is constant and valid; bars without it are readable, too.
                if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(format!("{} {}", self.host, step.address));
                bar
            });
            if step.total > 0 {
                bar.set_length(step.total);
                bar.set_position(step.done);
            }
            bar.set_message(step.what.clone());
        } else if !self.shown.hidden {
            // A line for each step, and for each quarter of the image.
            let mut line = step.what.clone();
            if let Some(quarters) = step.done.saturating_mul(4).checked_div(step.total) {
                line += &format!(": {} %", quarters * 25);
            }
            if self.said.get(&step.address) != Some(&line) {
                eprintln!("{}: {}: {line}", self.host, step.address);
                self.said.insert(step.address.clone(), line);
            }
        }
    }

    fn end(&mut self, row: &FirmwareResultRow) {
        if let Some(bar) = self.bars.get(&row.device.address) {
            match row.fault {
                Some(_) => bar.abandon_with_message(row.status.clone()),
                None => bar.finish_with_message("done"),
            }
        }
    }

    /// Removes the bars; the results follow.
    fn clear(&mut self) {
        for (_, bar) in self.bars.drain() {
            bar.finish_and_clear();
        }
    }
}
