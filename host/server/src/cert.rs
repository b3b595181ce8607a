//! `cert`: makes and shows the certificates of a system's components.

use crate::cli::Cli;
use anyhow::{Context, bail};
use clap::{Args, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};
use daos_certs::{Authority, Files, Finding, Role, Surveyed, Validity, create, survey};
use daos_report::{Envelope, print_json, table};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Mode of certificates: anyone may read them.
const PUBLIC: u32 = 0o644;

/// Mode of the authority's key.
const SECRET: u32 = 0o400;

#[derive(Subcommand)]
pub(crate) enum CertCommand {
    /// Make an authority and a certificate for each component, for a new system.
    ///
    /// The directory gets daosCA.crt and daosCA.key, server, agent and admin (.crt and .key) and clients/agent.crt.
    /// Nothing that is there is overwritten.
    #[command(
        after_help = "What goes where:\n  storage nodes   daosCA.crt server.crt server.key clients/\n  compute nodes   \
                      daosCA.crt agent.crt agent.key\n  administrators  daosCA.crt admin.crt admin.key\n  daosCA.key signs \
                      further certificates: keep it where no component runs.\n\nExamples:\n  sudo daos_server cert init\n  \
                      daos_server cert init --dir ~/certs --days 30"
    )]
    Init(InitArgs),
    /// Issue a new certificate and key for a component.
    ///
    /// A running server takes a replaced certificate with the next connection; nothing is restarted.
    #[command(
        after_help = "Examples:\n  daos_server cert issue server --replace\n  daos_server cert issue admin --ca-dir \
                      /mnt/safe --dir ."
    )]
    Issue(IssueArgs),
    /// Show what certificate files hold and what is wrong with them. Fails if anything is.
    Show {
        /// A directory or a file.
        #[arg(default_value = DIR)]
        path: PathBuf,
    },
}

/// Where certificates are, as in the DAOS 2.8 control plane.
const DIR: &str = "/etc/daos/certs";

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Directory to make them in; made if it is missing.
    #[arg(long, default_value = DIR)]
    dir: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(crate) struct IssueArgs {
    /// The component.
    #[arg(value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)).try_map(|name| name.parse::<Role>()))]
    component: Role,
    /// Directory with daosCA.crt and daosCA.key.
    #[arg(long, default_value = DIR)]
    ca_dir: PathBuf,
    /// Directory to write to [default: that of the authority]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Replace a certificate and key that are there.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// Days that they are valid.
    #[arg(long, default_value_t = 1095, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Common name of servers' certificates, if the configuration says another one than "server".
    #[arg(long, default_value = "server", value_name = "NAME")]
    server_name: String,
}

impl Common {
    fn name(&self, role: Role) -> &str {
        match role {
            Role::Server => &self.server_name,
            Role::Admin | Role::Agent => role.name(),
        }
    }
}

/// What was made.
#[derive(Serialize)]
struct Made {
    files: Vec<PathBuf>,
    valid_until: String,
}

pub(crate) fn run(cli: &Cli, command: &CertCommand) -> anyhow::Result<bool> {
    match command {
        CertCommand::Init(args) => made(cli, init(args)?),
        CertCommand::Issue(args) => made(cli, issue(args)?),
        CertCommand::Show { path } => show(cli, path),
    }
}

fn made(cli: &Cli, made: Made) -> anyhow::Result<bool> {
    if cli.globals.json {
        print_json(&Envelope::ok(made))?;
        return Ok(true);
    }
    for file in &made.files {
        daos_report::print_line!("{}", file.display());
    }
    daos_report::print_line!("valid until {}", made.valid_until);
    Ok(true)
}

/// A file to be written.
struct File {
    path: PathBuf,
    mode: u32,
    content: String,
}

fn init(args: &InitArgs) -> anyhow::Result<Made> {
    let validity = Validity::days(args.common.days);
    let authority = Authority::new(validity).context("cannot make the authority's key")?;
    let mut files = vec![
        File {
            path: args.dir.join("daosCA.crt"),
            mode: PUBLIC,
            content: authority.certificate().to_owned(),
        },
        File {
            path: args.dir.join("daosCA.key"),
            mode: SECRET,
            content: authority.key().to_owned(),
        },
    ];
    for role in Role::ALL {
        let [cert, key] = issued(&authority, &args.dir, role, &args.common, validity)?;
        if role == Role::Agent {
            files.push(File {
                path: args.dir.join("clients").join("agent.crt"),
                mode: PUBLIC,
                content: cert.content.clone(),
            });
        }
        files.extend([cert, key]);
    }
    if let Some(there) = files
        .iter()
        .find(|file| fs::symlink_metadata(&file.path).is_ok())
    {
        bail!(
            "{} is there already, nothing was written; issue single certificates with `daos_server cert issue`, name \
             another directory with --dir, or move this one away",
            there.path.display()
        );
    }
    for dir in [args.dir.clone(), args.dir.join("clients")] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&dir)
            .with_context(|| {
                format!(
                    "cannot make {}; run this as its owner or name another one with --dir",
                    dir.display()
                )
            })?;
    }
    write_all(&files)?;
    Ok(Made {
        files: files.into_iter().map(|file| file.path).collect(),
        valid_until: day(validity.to),
    })
}

/// Writes all files or none.
fn write_all(files: &[File]) -> anyhow::Result<()> {
    for (index, file) in files.iter().enumerate() {
        if let Err(error) = create(&file.path, file.mode, file.content.as_bytes()) {
            for written in &files[..index] {
                // What is left is named by the next run.
                let _ = fs::remove_file(&written.path);
            }
            return Err(error).with_context(|| {
                format!(
                    "cannot write {}; nothing was left behind",
                    file.path.display()
                )
            });
        }
    }
    Ok(())
}

fn issued(
    authority: &Authority,
    dir: &Path,
    role: Role,
    common: &Common,
    validity: Validity,
) -> anyhow::Result<[File; 2]> {
    let (cert, key) = authority
        .issue(role, common.name(role), validity)
        .with_context(|| format!("cannot issue the certificate of {role}"))?;
    let at = Files::in_dir(dir, role);
    Ok([
        File {
            path: at.cert,
            mode: PUBLIC,
            content: cert,
        },
        File {
            path: at.key,
            mode: role.key_mode(),
            content: key,
        },
    ])
}

fn issue(args: &IssueArgs) -> anyhow::Result<Made> {
    let authority = Authority::load(
        &args.ca_dir.join("daosCA.crt"),
        &args.ca_dir.join("daosCA.key"),
    )
    .map_err(|problem| anyhow::anyhow!(problem))?;
    let dir = args.dir.as_ref().unwrap_or(&args.ca_dir);
    let validity = Validity::days(args.common.days);
    let mut files = issued(&authority, dir, args.component, &args.common, validity)?;
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    if let Some(there) = paths
        .iter()
        .find(|path| !args.replace && fs::symlink_metadata(path).is_ok())
    {
        bail!(
            "{} is there already, nothing was written; say --replace to replace it, or name another directory with --dir",
            there.display()
        );
    }
    for file in &mut files {
        file.path.as_mut_os_string().push(".new");
        // Of a run that was killed.
        let _ = fs::remove_file(&file.path);
    }
    write_all(&files)?;
    // Between the two a server sees files that do not belong together, and goes on with what it has.
    for (file, path) in files.iter().zip(&paths) {
        fs::rename(&file.path, path)
            .with_context(|| format!("cannot replace {}", path.display()))?;
    }
    Ok(Made {
        files: paths,
        valid_until: day(validity.to),
    })
}

/// A file as `--json` shows it.
#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    name: Option<String>,
    issuer: Option<String>,
    authority: bool,
    serial: Option<String>,
    valid_from: Option<String>,
    valid_until: Option<String>,
    findings: Vec<Finding>,
}

impl From<Surveyed> for Shown {
    fn from(surveyed: Surveyed) -> Self {
        let facts = surveyed.facts;
        Self {
            file: surveyed.file,
            authority: facts.as_ref().is_some_and(|facts| facts.is_authority),
            valid_from: facts.as_ref().map(|facts| day(facts.not_before)),
            valid_until: facts.as_ref().map(|facts| day(facts.not_after)),
            serial: facts.as_ref().map(|facts| facts.serial.clone()),
            issuer: facts.as_ref().map(|facts| facts.issuer.clone()),
            name: facts.map(|facts| facts.name),
            findings: surveyed.findings,
        }
    }
}

fn show(cli: &Cli, path: &Path) -> anyhow::Result<bool> {
    let found = survey(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if found.is_empty() {
        bail!(
            "{} holds no certificates (.crt) and no keys (.key); make some with `daos_server cert init --dir {}`",
            path.display(),
            path.display()
        );
    }
    let shown: Vec<Shown> = found.into_iter().map(Shown::from).collect();
    let bad = shown.iter().filter(|one| !one.findings.is_empty()).count();
    let failed = format!("{bad} of {} files cannot be used", shown.len());
    if cli.globals.json {
        print_json(&if bad == 0 {
            Envelope::ok(shown)
        } else {
            Envelope::failed(Some(shown), failed)
        })?;
        return Ok(bad == 0);
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    daos_report::print_line!(
        "{}",
        table(
            &[
                "File",
                "Name",
                "Issuer",
                "Valid from",
                "Valid until",
                "State"
            ],
            shown.iter().map(|one| vec![
                one.file.display().to_string(),
                text(&one.name),
                text(&one.issuer),
                text(&one.valid_from),
                text(&one.valid_until),
                if one.findings.is_empty() { "ok" } else { "bad" }.to_owned(),
            ])
        )
    );
    for one in &shown {
        for finding in &one.findings {
            let remedy = match finding.remedy.as_str() {
                "" => String::new(),
                remedy => format!("; {remedy}"),
            };
            eprintln!("{}: {}{remedy}", one.file.display(), finding.what);
        }
    }
    if bad > 0 {
        eprintln!("ERROR: {failed}");
    }
    Ok(bad == 0)
}

fn day(time: OffsetDateTime) -> String {
    // Certificates have whole seconds.
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}
