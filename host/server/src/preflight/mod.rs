//! `preflight`: whether this machine is ready for a server, by the checklist of the manual.
//!
//! Each check looks at files below a prefix ([`node::Node`]) and says what it found, why that matters and what to do;
//! some say what `--fix` would do about it ([`fix`]). Checks change nothing.

mod finding;
mod fix;
mod node;
mod place;
mod system;
mod trust;

pub(crate) use node::Clock;

use crate::cli::{Cli, StartArgs};
use crate::plugins::Plugins;
use clap::Args;
use daos_config::{ClassSchema, Config, Diagnostic};
use daos_report::{Envelope, PluginReport, print_json};
use finding::{Finding, State};
use node::Node;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(crate) struct PreflightArgs {
    /// Mend what can be mended without touching data: directories, modes of key files, huge pages, transparent huge
    /// pages. Says what it did. What is root's is left to root, and that is said first.
    #[arg(long)]
    fix: bool,
    /// Fail for warnings, too.
    #[arg(long)]
    strict: bool,
}

/// What the configuration asks of the machine.
#[derive(Debug, Default)]
struct Wanted {
    /// An engine uses NVMe controllers through SPDK.
    nvme: bool,
    /// A provider uses RDMA.
    rdma: bool,
    hugepages: u32,
    /// Somebody wrote down how many.
    hugepages_set: bool,
    /// Nobody but this machine is served.
    is_local: bool,
    /// Engines run as another user than the server.
    other_user: bool,
    /// The engine is not ours.
    foreign_engine: bool,
}

impl Wanted {
    fn of(node: &Node, config: &Config, schemas: &[ClassSchema]) -> Self {
        let uses_nvme = |index: usize| {
            let server = &config.servers[index];
            server.bdev_class == "nvme"
                && (!server.bdev_list.is_empty() || config.takes_usable_bdevs(index, schemas))
        };
        let mut all = 0..config.servers.len();
        let nvme = match config.servers.is_empty() {
            // Engines are planned from what is there then.
            true => {
                schemas.iter().any(|schema| schema.class == "nvme")
                    && !node.names("/sys/class/nvme").is_empty()
            }
            false => all.any(uses_nvme),
        };
        let providers = config
            .servers
            .iter()
            .filter_map(|server| server.provider.as_deref());
        let mut providers = providers.chain(config.provider.as_deref());
        let (uid, gid) = place::owner(node, config);
        Self {
            nvme,
            rdma: providers.any(|p| p.contains("verbs") || p.contains("psm2") || p.contains("cxi")),
            hugepages: config.nr_hugepages,
            hugepages_set: config.is_set("nr_hugepages"),
            is_local: config.transport_config.allow_insecure,
            other_user: (uid, gid) != (node.euid, node.egid),
            foreign_engine: config.engine_path.is_some(),
        }
    }
}

/// What `--json` shows.
#[derive(Serialize)]
struct Report {
    /// The configuration that was checked for; none if there is none.
    config: Option<PathBuf>,
    findings: Vec<Finding>,
    failures: usize,
    warnings: usize,
}

impl Report {
    fn new(config: Option<PathBuf>, findings: Vec<Finding>) -> Self {
        let count = |state| findings.iter().filter(|f| f.state == state).count();
        Self {
            config,
            failures: count(State::Fail),
            warnings: count(State::Warn),
            findings,
        }
    }

    fn text(&self) -> String {
        let lines: Vec<String> = self.findings.iter().map(Finding::text).collect();
        lines.join("\n")
    }

    fn summary(&self) -> String {
        format!("{} failure(s), {} warning(s)", self.failures, self.warnings)
    }
}

/// What was read before the checks.
struct Subject {
    file: Option<PathBuf>,
    config: Config,
    /// What is wrong with the file.
    found: Vec<Diagnostic>,
    state_dir: Option<PathBuf>,
}

impl Subject {
    fn read(cli: &Cli, exe: &Path) -> anyhow::Result<Self> {
        let overrides = cli.start.overrides(&StartArgs::default(), &cli.globals);
        let explicit = cli.globals.config.as_deref();
        // Without a file there is nothing wrong with it.
        let file = daos_config::locate(explicit, exe).ok();
        // Without a file, or with a wrong one, the command line still counts.
        let bare = || {
            let loaded = Config::parse("", "the command line", &overrides);
            loaded.map(|loaded| loaded.config).unwrap_or_default()
        };
        let (mut config, found) = match &file {
            None => (bare(), Vec::new()),
            Some(file) => match Config::load(file, &overrides) {
                Ok(loaded) => (loaded.config, loaded.warnings),
                Err(errors) => (bare(), errors.diagnostics),
            },
        };
        config.resolve_paths(&std::env::current_dir()?);
        let is_root = nix::unistd::geteuid().is_root();
        let state_dir = config
            .state_dir
            .clone()
            .or_else(|| daos_config::default_state_dir(is_root, |name| std::env::var_os(name)));
        Ok(Self {
            file,
            config,
            found,
            state_dir,
        })
    }
}

/// Everything about plugins; they are read once, checks of the machine follow their schemas.
struct Read {
    schemas: Vec<ClassSchema>,
    findings: Vec<Finding>,
}

fn read_plugins(subject: &Subject, exe: &Path) -> Read {
    match Plugins::open(&subject.config, exe) {
        Ok(plugins) => {
            let report = PluginReport::from(plugins.list_message(&subject.config));
            let classes = plugins.check_classes(&subject.config);
            Read {
                schemas: plugins.schemas(),
                findings: trust::plugins(&report, &classes),
            }
        }
        Err(error) => Read {
            schemas: Vec::new(),
            findings: vec![trust::no_plugins(&format!("{error:#}"))],
        },
    }
}

/// All checks, in the order of the checklist.
fn check(node: &Node, subject: &Subject, plugins: &Read) -> Vec<Finding> {
    let config = &subject.config;
    let wanted = Wanted::of(node, config, &plugins.schemas);
    let mut findings = trust::config(subject.file.as_deref(), &subject.found);
    findings.push(system::time(node, &wanted));
    findings.extend(system::clock(node));
    findings.extend(place::users(node, config));
    findings.extend(place::directories(
        node,
        config,
        subject.state_dir.as_deref(),
    ));
    findings.extend(place::privileges(node, config, &wanted));
    findings.push(system::hugepages(node, &wanted));
    findings.push(system::iommu(node, &wanted));
    findings.push(system::memlock(node, &wanted));
    findings.push(system::thp(node, &wanted));
    findings.extend(place::ports(node, config));
    findings.push(trust::certificates(node, config));
    findings.extend(plugins.findings.iter().cloned());
    findings
}

/// Mends what can be mended, and says what was done, by check; `told` hears what is left to root, before anything is
/// done.
fn mend(
    node: &Node,
    findings: &[Finding],
    told: impl FnOnce(&str),
) -> BTreeMap<&'static str, Vec<String>> {
    let fixes = findings
        .iter()
        .filter_map(|f| Some((f.check, f.fix.as_ref()?)));
    let (roots, mine): (Vec<_>, Vec<_>) = fixes.partition(|(_, fix)| fix.needs_root(node));
    if !roots.is_empty() {
        let what: Vec<String> = roots.iter().map(|(_, fix)| fix.to_string()).collect();
        told(&format!(
            "only root can do this, run `sudo daos_server preflight --fix` for it: {}",
            what.join("; ")
        ));
    }
    let mut done: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for (check, fix) in mine {
        let said = fix.apply(node).unwrap_or_else(|failed| failed);
        done.entry(check).or_default().push(said);
    }
    done
}

/// At the start of a server whose engines use NVMe controllers: sees that there are as many huge pages as the configuration
/// asks for. More are taken only if somebody wrote down how many; what there is, is never made less. A server starts
/// without them, too: its engines say what they lack.
pub(crate) fn hugepages_at_start(config: &Config, schemas: &[ClassSchema]) {
    let node = Node::real(Path::new("/proc/self/exe"));
    let wanted = Wanted::of(&node, config, schemas);
    match reserve(&node, &wanted) {
        None => {}
        Some(Ok(done)) => tracing::info!("huge pages for NVMe: {done}"),
        Some(Err(why)) => tracing::warn!("huge pages for NVMe: {why}"),
    }
}

/// What was done about huge pages, or why it was not; none if there is nothing to be done.
fn reserve(node: &Node, wanted: &Wanted) -> Option<Result<String, String>> {
    let finding = system::hugepages(node, wanted);
    if finding.state < State::Warn {
        return None;
    }
    let lacking = || format!("{}; {}", finding.found, finding.remedy);
    Some(match &finding.fix {
        Some(fix) if wanted.hugepages_set && !fix.needs_root(node) => fix
            .apply(node)
            .map_err(|failed| format!("{failed}; {}", finding.remedy)),
        _ => Err(lacking()),
    })
}

/// Runs the command; `Ok(false)` when a check failed.
///
/// # Errors
/// This program or its working directory cannot be found.
pub(crate) fn run(cli: &Cli, args: &PreflightArgs) -> anyhow::Result<bool> {
    let exe = std::env::current_exe()?;
    let subject = Subject::read(cli, &exe)?;
    let node = Node::real(&exe);
    let plugins = read_plugins(&subject, &exe);
    let mut findings = check(&node, &subject, &plugins);
    if args.fix {
        let done = mend(&node, &findings, |note| eprintln!("NOTE: {note}"));
        if !done.is_empty() {
            let plugins = read_plugins(&subject, &exe);
            findings = check(&node, &subject, &plugins);
            for (check, said) in done {
                // A check may have fewer findings than before.
                if let Some(finding) = findings.iter_mut().find(|f| f.check == check) {
                    finding.fixed = said;
                }
            }
        }
    }
    let report = Report::new(subject.file, findings);
    let passed = report.failures == 0 && (report.warnings == 0 || !args.strict);
    let summary = report.summary();
    if cli.globals.json {
        print_json(&match passed {
            true => Envelope::ok(report),
            false => Envelope::failed(Some(report), summary),
        })?;
        return Ok(passed);
    }
    daos_report::print_line!("{}\n\n{summary}", report.text());
    Ok(passed)
}

#[cfg(test)]
mod tests;
