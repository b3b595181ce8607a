//! `storage format`: plan, question, progress, results.

mod proposed;

use crate::ask::confirmed;
use crate::cli::{Cli, FormatArgs};
use crate::connect::{HostClient, host_client};
use crate::fanout::{self, Patience, explain, explain_during};
use crate::interrupt;
use crate::progress::{HostProgress, Progress};
use anyhow::bail;
use daos_proto::host::{
    FormatPlan, FormatStorageRequest, FormatTarget, Kind, format_storage_event::Event,
};
use daos_report::ProposedPlan;
use daos_report::{Envelope, FormatRow, bytes, print_json};
use indicatif::MultiProgress;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;

const WARNING: &str = "This is a destructive operation and storage devices specified in the server config file \
                       will be erased.\nPlease be patient as it may take several minutes.\n";

/// What to do when the server has ended meanwhile.
const AFTER_LOSS: &str = "see how far the format came, `daos_shell system query`, and repeat it, with --reformat where storage is \
                          half formatted";

/// What became of one host.
#[derive(Default, Serialize)]
struct Outcome {
    results: Vec<FormatRow>,
    engines_started: u32,
    /// Engines that the host has planned, because its configuration names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    proposed: Option<ProposedPlan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the command; `Ok(false)` when a host failed and was reported.
pub(crate) async fn run(cli: &Cli, args: &FormatArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    let fail = |outcomes: &mut BTreeMap<String, Outcome>, host: &str, error| {
        outcomes.entry(host.to_owned()).or_default().error = Some(error);
    };
    let request = FormatStorageRequest {
        engines: Vec::new(),
        reformat: args.reformat,
        overwrite_foreign: args.overwrite_foreign,
        nvme_format: args.nvme_format,
        plan_only: true,
        plan_id: String::new(),
        accept_plan: String::new(),
    };
    let answers = {
        let request = request.clone();
        fanout::ask_each(cli, hosts, Patience::Call, move |channel, _| {
            let (client, request) = (host_client(channel), request.clone());
            // What a host says about its plan is no trouble with the connection.
            async move { Ok(plan(client, request).await) }
        })
        .await
    };
    let mut plans = BTreeMap::new();
    let mut active = Vec::new();
    for (host, answer) in &answers {
        match answer {
            Err(error) => fail(&mut outcomes, host, error.clone()),
            Ok(answer) => {
                active.push(host.as_str());
                match answer {
                    Ok(plan) => drop(plans.insert(host.clone(), plan.clone())),
                    Err(error) => fail(&mut outcomes, host, error.clone()),
                }
            }
        }
    }
    if active.is_empty() {
        // The envelope tells the first one as well; whoever looks at a terminal wants all.
        if !cli.json && outcomes.len() > 1 {
            fanout::print_errors(&failures(&outcomes));
        }
        let first = outcomes
            .into_values()
            .find_map(|o| o.error)
            .unwrap_or_default();
        bail!("No active connections! {first}");
    }
    if !cli.json {
        daos_report::print_line!("Active connections: [{}]", daos_hostlist::fold(active));
    }
    if interrupt::happened() {
        return finish(cli, outcomes, args.dry_run);
    }

    let mut refused = show_plans(cli, args, &plans, &mut outcomes);
    refused |= proposed::show(cli, args, &plans, &mut outcomes);
    if args.dry_run || refused || plans.is_empty() {
        return finish(cli, outcomes, args.dry_run);
    }
    if !cli.json {
        daos_report::print_text!("{WARNING}");
    }
    if !args.force && !confirmed("format")? {
        eprintln!("Nothing was formatted.");
        return Ok(false);
    }

    let shown = match (cli.json, std::io::stderr().is_terminal()) {
        (true, _) => Progress::Hidden,
        (false, true) => Progress::Bars(MultiProgress::new()),
        (false, false) => Progress::Lines,
    };
    let chosen: Vec<String> = plans.keys().cloned().collect();
    let question = move |channel, host: String| {
        let mut request = request.clone();
        request.plan_only = false;
        let plan = plans.get(&host).cloned().unwrap_or_default();
        request.plan_id = plan.plan_id;
        // What was shown or named, or agreed to before.
        request.accept_plan = plan.proposed.unwrap_or_default().hash;
        let mut shown = HostProgress::new(shown.clone(), &host);
        async move { Ok(format(host_client(channel), request, &mut shown).await) }
    };
    for (host, answer) in fanout::ask_each(cli, &chosen, Patience::Work, question).await {
        match answer {
            Ok(outcome) => {
                let before = outcomes.remove(&host).unwrap_or_default();
                let proposed = before.proposed;
                outcomes.insert(
                    host,
                    Outcome {
                        proposed,
                        ..outcome
                    },
                );
            }
            Err(error) => fail(&mut outcomes, &host, error),
        }
    }
    finish(cli, outcomes, false)
}

/// Asks a host what a format would do.
async fn plan(mut client: HostClient, request: FormatStorageRequest) -> Result<FormatPlan, String> {
    let mut stream = client
        .format_storage(request)
        .await
        .map_err(|s| explain(&s))?
        .into_inner();
    while let Some(event) = stream.message().await.map_err(|s| explain(&s))? {
        if let Some(Event::Plan(plan)) = event.event {
            return Ok(plan);
        }
    }
    Err("the server sent no plan".to_owned())
}

/// Prints what would be erased and what stands in the way; the latter fails the host. Returns
/// whether any host refused: then nothing is written anywhere.
fn show_plans(
    cli: &Cli,
    args: &FormatArgs,
    plans: &BTreeMap<String, FormatPlan>,
    outcomes: &mut BTreeMap<String, Outcome>,
) -> bool {
    let mut refused = false;
    for (host, plan) in plans {
        if !cli.json {
            daos_report::print_line!("{host}: {} device(s) to format", plan.targets.len());
        }
        let mut refusals = Vec::new();
        for planned in &plan.targets {
            let target = planned.target.clone().unwrap_or_default();
            if !cli.json {
                let how = match args.nvme_format && target.kind() == Kind::Bdev {
                    true => ", erased by NVMe Format",
                    false => "",
                };
                daos_report::print_line!("\t{}{how}", describe(&target));
                for lost in &planned.erases {
                    daos_report::print_line!("\t    erases: {lost}");
                }
            }
            for fault in &planned.refusals {
                refusals.push(fault.to_string());
            }
        }
        if !plan.allowed {
            refused = true;
            if refusals.is_empty() {
                refusals.push("the server refuses this format without saying why".to_owned());
            }
            outcomes.entry(host.clone()).or_default().error = Some(refusals.join("; "));
        }
    }
    refused
}

fn describe(target: &FormatTarget) -> String {
    let what = match target.kind() {
        Kind::Scm => "SCM",
        _ => "block device",
    };
    let size = if target.size_bytes == 0 {
        String::new()
    } else {
        format!(", {}", bytes(target.size_bytes))
    };
    format!(
        "engine {}: {what} {} ({}{size})",
        target.engine, target.address, target.class
    )
}

/// Formats one host, and shows how far each device is.
async fn format(
    mut client: HostClient,
    request: FormatStorageRequest,
    shown: &mut HostProgress,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut stream = match client.format_storage(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            outcome.error = Some(explain(&status));
            return outcome;
        }
    };
    let mut ended = false;
    loop {
        match stream.message().await {
            Ok(Some(event)) => match event.event {
                Some(Event::Progress(progress)) => shown.advance(&progress),
                Some(Event::Result(result)) => {
                    let row = FormatRow::from(result);
                    shown.finish(&row);
                    outcome.results.push(row);
                }
                Some(Event::EngineStarted(_)) => outcome.engines_started += 1,
                Some(Event::Summary(summary)) => {
                    ended = true;
                    outcome.error = summary.fault.map(|f| f.to_string());
                }
                Some(Event::Plan(_)) | None => {}
            },
            Ok(None) => break,
            Err(status) => {
                outcome.error = Some(explain_during(&status, "the format", AFTER_LOSS));
                ended = true;
                break;
            }
        }
    }
    shown.clear();
    if !ended {
        outcome.error = Some(
            "the server ended the format without a summary; see how far it came: daos_shell system query"
                .to_owned(),
        );
    }
    outcome
}

/// What failed, by host.
fn failures(outcomes: &BTreeMap<String, Outcome>) -> BTreeMap<String, String> {
    let failure = |outcome: &Outcome| {
        let row = outcome.results.iter().find(|r| r.fault.is_some());
        let device = row.map(|row| format!("{} failed", row.address));
        outcome.error.clone().or(device)
    };
    outcomes
        .iter()
        .filter_map(|(host, outcome)| Some((host.clone(), failure(outcome)?)))
        .collect()
}

/// Prints the results in the guide's order: block devices first, then SCM, then errors.
fn finish(cli: &Cli, outcomes: BTreeMap<String, Outcome>, dry_run: bool) -> anyhow::Result<bool> {
    let failed = failures(&outcomes);
    if cli.json {
        print_json(&match fanout::summary(&failed) {
            None => Envelope::ok(outcomes),
            Some(error) => Envelope::failed(Some(outcomes), error),
        })?;
        return Ok(failed.is_empty());
    }
    let formatted = outcomes.values().any(|o| !o.results.is_empty());
    if !dry_run && formatted {
        for (title, kind) in [
            ("NVMe storage format results:", "bdev"),
            ("SCM storage format results:", "scm"),
        ] {
            let mut any = false;
            for (host, outcome) in &outcomes {
                let rows: Vec<_> = outcome.results.iter().filter(|r| r.kind == kind).collect();
                if rows.is_empty() {
                    continue;
                }
                if !any {
                    daos_report::print_line!("\n{title}");
                    any = true;
                }
                daos_report::print_line!("{host}:");
                for row in rows {
                    daos_report::print_line!("{}", row.text());
                }
            }
        }
        let started: u32 = outcomes.values().map(|o| o.engines_started).sum();
        daos_report::print_line!("\n{started} engine(s) started");
    }
    fanout::print_errors(&failed);
    Ok(failed.is_empty())
}
