//! Engines that hosts have planned, because their configurations name none: shown, and to be agreed to.

use super::Outcome;
use crate::cli::{Cli, FormatArgs};
use crate::fanout::names;
use daos_proto::host::FormatPlan;
use daos_report::ProposedPlan;
use std::collections::BTreeMap;

/// Shows each plan with its hosts. Those to whose plan nobody agrees fail: with `--force`, or with `--accept-plan`, all
/// whose plan is not named. Returns whether there are any.
pub(super) fn show(
    cli: &Cli,
    args: &FormatArgs,
    plans: &BTreeMap<String, FormatPlan>,
    outcomes: &mut BTreeMap<String, Outcome>,
) -> bool {
    let mut shown: BTreeMap<String, (ProposedPlan, Vec<&str>)> = BTreeMap::new();
    let mut refused = false;
    for (host, plan) in plans {
        let outcome = outcomes.entry(host.clone()).or_default();
        let proposed = plan.proposed.clone().map(ProposedPlan::from);
        if let Some(why) = refusal(args, proposed.as_ref())
            && outcome.error.is_none()
        {
            outcome.error = Some(why);
            refused = true;
        }
        outcome.proposed.clone_from(&proposed);
        if let Some(proposed) = proposed.filter(|proposed| !proposed.accepted) {
            let entry = shown.entry(proposed.hash.clone());
            entry.or_insert_with(|| (proposed, Vec::new())).1.push(host);
        }
    }
    if !cli.json {
        for (proposed, hosts) in shown.values() {
            daos_report::print_line!(
                "\n{}: no servers are configured; this is what they would be, plan {}:\n\n{}\n",
                names(hosts),
                proposed.hash,
                proposed.yaml.trim_end()
            );
        }
    }
    refused
}

/// Why the plan of a host cannot be gone by; none if it can, or if that is still to be asked.
fn refusal(args: &FormatArgs, proposed: Option<&ProposedPlan>) -> Option<String> {
    let named = &args.accept_plan;
    let proposed = proposed?;
    if named.contains(&proposed.hash) || args.dry_run {
        return None;
    }
    match (named.is_empty(), proposed.accepted) {
        (false, _) => Some(format!(
            "its plan of engines is {}, which --accept-plan does not name; look at it with --dry-run",
            proposed.hash
        )),
        (true, false) if args.force => Some(format!(
            "its configuration names no servers, and nobody has agreed to those that it has planned; look at them with \
             --dry-run, then add --accept-plan {}",
            proposed.hash
        )),
        (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, StorageCommand};
    use clap::Parser as _;

    fn args(line: &str) -> FormatArgs {
        let words = ["daos_shell", "storage", "format"].into_iter();
        let cli = Cli::try_parse_from(words.chain(line.split_whitespace())).unwrap();
        match cli.command {
            Command::Storage(StorageCommand::Format(args)) => args,
            _ => unreachable!("that is the command"),
        }
    }

    #[test]
    fn a_plan_is_gone_by_only_when_somebody_agrees() {
        let plan = |accepted| ProposedPlan {
            hash: "abc".to_owned(),
            yaml: String::new(),
            accepted,
        };
        for (line, accepted, refused) in [
            ("", false, false),
            ("-f", false, true),
            ("-f", true, false),
            ("-f --accept-plan abc", false, false),
            ("-f --accept-plan x,abc", false, false),
            ("-f --accept-plan x", true, true),
            ("--accept-plan x", false, true),
            ("-f --dry-run", false, false),
        ] {
            let why = refusal(&args(line), Some(&plan(accepted)));
            assert_eq!(why.is_some(), refused, "{line}: {why:?}");
            assert!(why.is_none_or(|why| why.contains("abc")), "{line}");
        }
        assert_eq!(refusal(&args("-f --accept-plan x"), None), None);
    }
}
