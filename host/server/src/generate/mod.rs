//! `config generate`: a configuration for this machine, with the reasons beside the keys.
//!
//! Gathers what the plugins' scans, sysfs and the file systems tell ([`gather`]), plans engines from it without
//! looking anywhere else ([`plan`]), writes that down ([`render`]) and checks the result as `config check` would. A server
//! without `servers:` plans its engines with the same code ([`propose`]).

mod gather;
mod plan;
mod propose;
mod render;

pub(crate) use propose::{Engines, Proposal, fill};

use crate::cli::{Cli, GenerateArgs, StartArgs};
use crate::plugins::Plugins;
use anyhow::{Context, bail};
use daos_config::{Config, Diagnostic, Overrides};
use daos_report::{Envelope, print_json};
use plan::Plan;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Mode of a file that is written.
const MODE: u32 = 0o644;

#[derive(Serialize)]
struct Report<'a> {
    /// The text of the configuration.
    yaml: &'a str,
    /// The file that it was written to.
    file: Option<PathBuf>,
    #[serde(flatten)]
    plan: &'a Plan,
}

/// Prints the configuration, or writes it to the file of `-o`.
///
/// # Errors
/// Options that contradict each other or this machine; nothing is written then.
pub(crate) fn run(cli: &Cli, args: &GenerateArgs) -> anyhow::Result<bool> {
    let file = cli.globals.config.as_deref();
    if let Some(file) = file
        && !args.force
        && file.symlink_metadata().is_ok()
    {
        bail!(
            "{} exists; name another file with -o, or replace it with --force",
            file.display()
        );
    }
    let exe = std::env::current_exe()?;
    let overrides = cli.start.overrides(&StartArgs::default(), &cli.globals);
    // -o names what is to be written: nothing is read from it.
    let mut config = Config::default();
    config.plugins_dir.clone_from(&overrides.plugins_dir);
    config.state_dir.clone_from(&overrides.state_dir);
    let plugins = Plugins::open(&config, &exe)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(async {
        let found = gather::gather(&plugins).await;
        plugins.rest().await;
        found
    });
    let plan = plan::plan(&plugins, &config, args, &found)?;
    let yaml = render::render(&plan, overrides.plugins_dir.as_deref());
    check(&plugins, &yaml)?;
    if let Some(file) = file {
        write(file, &yaml, args.force)?;
    }
    if cli.globals.json {
        print_json(&Envelope::ok(Report {
            yaml: &yaml,
            file: file.map(Path::to_owned),
            plan: &plan,
        }))?;
        return Ok(true);
    }
    match file {
        Some(file) => daos_report::print_line!("{}: written", file.display()),
        None => daos_report::print_text!("{yaml}"),
    }
    Ok(true)
}

/// What `config check` would say: an option can make a configuration that it refuses.
fn check(plugins: &Plugins, yaml: &str) -> anyhow::Result<()> {
    let loaded = Config::parse(yaml, "the generated configuration", &Overrides::default());
    let findings = match loaded {
        Ok(loaded) => plugins.check_classes(&loaded.config),
        Err(errors) => errors.diagnostics,
    };
    let errors: Vec<String> = findings
        .iter()
        .filter(|finding| finding.is_error())
        .map(Diagnostic::to_string)
        .collect();
    if !errors.is_empty() {
        bail!(
            "these options make no valid configuration:\n{}",
            errors.join("\n")
        );
    }
    Ok(())
}

fn write(file: &Path, yaml: &str, force: bool) -> anyhow::Result<()> {
    let what = || format!("cannot write {}", file.display());
    if force {
        return daos_media::atomic::write(file, MODE, yaml.as_bytes()).with_context(what);
    }
    // A file that came meanwhile is not replaced either.
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .with_context(what)?;
    new.write_all(yaml.as_bytes())
        .and_then(|()| new.sync_all())
        .with_context(what)
}
