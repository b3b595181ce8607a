//! `plugin new`, `check` and `bench`: what authors of plugins work with. Plugins run in helper
//! processes, as always.

mod args;

pub(crate) use args::{BenchArgs, CheckArgs, NewArgs};

use crate::cli::Cli;
use daos_kit::check::{self, Options, catalogue};
use daos_kit::scaffold::Plan;
use daos_kit::{Choice, Helper, Subject, Verdict, bench, choose};
use daos_loader::{PluginFile, Policy};
use daos_plugin_api::control::ClassKind;
use daos_report::{Envelope, print_json};
use serde::Serialize;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Exit code for a wrong command line, and for a plugin that cannot be tried at all.
const EXIT_UNUSABLE: u8 = 2;

/// Why nothing was tried, or printing failed.
type Unusable = String;

fn finish(cli: &Cli, result: Result<bool, Unusable>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            if cli.globals.json {
                // Nothing is left to tell if standard output is gone.
                let _ = print_json(&Envelope::<()>::failed(None, message.clone()));
            }
            eprintln!("ERROR: {message}");
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

fn helper(cli: &Cli) -> Result<Helper, Unusable> {
    let mut helper = Helper::beside_current_exe().map_err(|e| e.to_string())?;
    if cli.globals.debug {
        helper.log_level = "debug".to_owned();
    }
    Ok(helper)
}

fn subject(file: &Path, choice: &Choice) -> Result<Subject, Unusable> {
    let info = PluginFile::inspect(file, &Policy::default())
        .map_err(|reason| format!("{}: {reason}", file.display()))?;
    choose(&info, choice)
}

fn unwritable(path: &Path, why: &std::io::Error) -> Unusable {
    format!("cannot write {}: {why}", path.display())
}

fn print(document: &impl Serialize) -> Result<(), Unusable> {
    print_json(document).map_err(|e| format!("cannot print the report: {e}"))
}

/// `plugin new`.
pub(crate) fn run_new(cli: &Cli, args: &NewArgs) -> ExitCode {
    finish(cli, written(cli, args))
}

fn written(cli: &Cli, args: &NewArgs) -> Result<bool, Unusable> {
    let plan = Plan::new(
        &args.name,
        args.c,
        args.directory.as_deref(),
        args.api.as_deref(),
    );
    let written = plan
        .and_then(|plan| plan.write())
        .map_err(|e| e.to_string())?;
    if cli.globals.json {
        print(&Envelope::ok(written))?;
        return Ok(true);
    }
    daos_report::print_line!("{}", written.directory.display());
    for file in &written.files {
        daos_report::print_line!("  {file}");
    }
    daos_report::print_line!("\nNext:");
    for command in &written.next {
        daos_report::print_line!("  {command}");
    }
    Ok(true)
}

/// `plugin check`.
pub(crate) fn run_check(cli: &Cli, args: &CheckArgs) -> ExitCode {
    finish(cli, checked(cli, args))
}

fn checked(cli: &Cli, args: &CheckArgs) -> Result<bool, Unusable> {
    let Some(file) = args.file.as_ref().filter(|_| !args.list) else {
        list(cli)?;
        return Ok(true);
    };
    let subject = subject(file, &args.on.choice())?;
    let options = Options {
        cases: args.case.clone(),
        skip: args.skip.clone(),
        repeat: args.repeat,
        deadline: args.deadline,
        together: args.together,
        refuse: args.refuse.clone(),
        seed: args.seed,
    };
    let is_quiet = cli.globals.json;
    // Known before the time is spent.
    let mut junit = match &args.junit {
        Some(path) => Some((path, File::create(path).map_err(|e| unwritable(path, &e))?)),
        None => None,
    };
    if !is_quiet {
        daos_report::print_line!(
            "{} {} (interface {}): {} {}, {}\n",
            subject.plugin,
            subject.version,
            subject.interface,
            subject.kind,
            subject.class,
            serde_json::Value::Object(subject.config.clone())
        );
    }
    let mut told = |ending: &check::Ending| {
        // What is not run has one reason, which the last line tells.
        if !is_quiet && ending.verdict != Verdict::NotRun {
            daos_report::print_line!("{}", ending.text());
        }
    };
    let report =
        check::run(&helper(cli)?, &subject, &options, &mut told).map_err(|e| e.to_string())?;
    if let Some((path, file)) = &mut junit {
        let written = file.write_all(report.junit().as_bytes());
        written.map_err(|e| unwritable(path, &e))?;
    }
    let is_ok = report.is_ok();
    if is_quiet {
        let summary = format!("{} of {} cases failed", report.failed, report.cases.len());
        print(&match is_ok {
            true => Envelope::ok(report),
            false => Envelope::failed(Some(report), summary),
        })?;
    } else {
        daos_report::print_line!("{}", report.summary());
    }
    Ok(is_ok)
}

/// A case, as `--list` tells it.
#[derive(Serialize)]
struct Listed {
    kind: String,
    case: &'static str,
    rule: &'static str,
}

fn list(cli: &Cli) -> Result<(), Unusable> {
    let kinds = [ClassKind::Bdev, ClassKind::Scm, ClassKind::Fabric];
    let cases: Vec<Listed> = kinds
        .into_iter()
        .flat_map(|kind| {
            catalogue(kind).into_iter().map(move |case| Listed {
                kind: kind.to_string(),
                case: case.id,
                rule: case.promise,
            })
        })
        .collect();
    if cli.globals.json {
        return print(&Envelope::ok(cases));
    }
    for case in cases {
        daos_report::print_line!("{:<7} {:<28} {}", case.kind, case.case, case.rule);
    }
    Ok(())
}

/// `plugin bench`.
pub(crate) fn run_bench(cli: &Cli, args: &BenchArgs) -> ExitCode {
    finish(cli, measured(cli, args))
}

fn measured(cli: &Cli, args: &BenchArgs) -> Result<bool, Unusable> {
    let mut subjects = vec![subject(&args.file, &args.on.choice())?];
    if let Some(other) = &args.other {
        subjects.push(subject(other, &args.other_choice())?);
    }
    let options = bench::Options {
        cases: args.case.clone(),
        rounds: args.rounds,
        time: args.time,
        ..bench::Options::default()
    };
    let mut told = |case: &str| {
        if !cli.globals.json {
            eprintln!("measuring {case}");
        }
    };
    let result = bench::run(&helper(cli)?, &subjects, &options, &mut told);
    let report = match result {
        Ok(report) => report,
        // The plugin could be loaded, and failed at its work.
        Err(bench::NotMeasured::Failed(why)) => {
            if cli.globals.json {
                print(&Envelope::<()>::failed(None, why.clone()))?;
            }
            eprintln!("ERROR: {why}");
            return Ok(false);
        }
        Err(other) => return Err(other.to_string()),
    };
    if cli.globals.json {
        print(&Envelope::ok(report))?;
    } else {
        daos_report::print_text!("{}", report.text());
    }
    Ok(true)
}
