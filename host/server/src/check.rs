//! `config check`, and configuration errors as everybody else shows them.

use crate::cli::Cli;
use crate::plugins::Plugins;
use anyhow::{anyhow, bail};
use daos_config::{Config, ConfigErrors, Diagnostic, Overrides};
use daos_report::{Envelope, print_json};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Report {
    file: String,
    findings: Vec<Diagnostic>,
}

/// Checks a file; `Ok(false)` when it has errors.
pub(crate) fn run(cli: &Cli, file: Option<&Path>) -> anyhow::Result<bool> {
    let exe = std::env::current_exe()?;
    let path = daos_config::locate(file.or(cli.globals.config.as_deref()), &exe)
        .map_err(|e| rendered(&e))?;
    let overrides = cli
        .start
        .overrides(&crate::cli::StartArgs::default(), &cli.globals);
    let findings = findings(&path, &overrides, &exe)?;
    let errors = findings.iter().filter(|d| d.is_error()).count();
    let file = path.display().to_string();
    if cli.globals.json {
        let report = Report {
            file: file.clone(),
            findings,
        };
        print_json(&if errors == 0 {
            Envelope::ok(report)
        } else {
            Envelope::failed(Some(report), format!("{file} has {errors} error(s)"))
        })?;
        return Ok(errors == 0);
    }
    for finding in &findings {
        daos_report::print_line!("{finding}\n");
    }
    match errors {
        0 => daos_report::print_line!("{file}: ok"),
        n => eprintln!("ERROR: {file} has {n} error(s)"),
    }
    Ok(errors == 0)
}

/// Everything that is to say about a file, errors and warnings, with the plugins' classes.
fn findings(path: &Path, overrides: &Overrides, exe: &Path) -> anyhow::Result<Vec<Diagnostic>> {
    match Config::load(path, overrides) {
        Ok(loaded) => {
            let plugins = Plugins::open(&loaded.config, exe)?;
            let mut findings = loaded.warnings;
            findings.extend(plugins.check_classes(&loaded.config));
            Ok(findings)
        }
        Err(errors) => Ok(errors.diagnostics),
    }
}

/// Configuration errors as one error of the program.
pub(crate) fn rendered(errors: &ConfigErrors) -> anyhow::Error {
    anyhow!("failed to load config from {}:\n{errors}", errors.file)
}

/// Fails if there are errors among the findings.
pub(crate) fn refuse_errors(path: &Path, findings: &[Diagnostic]) -> anyhow::Result<()> {
    let errors: Vec<String> = findings
        .iter()
        .filter(|d| d.is_error())
        .map(ToString::to_string)
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    bail!(
        "failed to load config from {}:\n{}",
        path.display(),
        errors.join("\n")
    )
}
