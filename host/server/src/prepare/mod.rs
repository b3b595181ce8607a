//! `storage prepare`: hands devices to user space and back, through the plugins that can.

mod args;
mod memory;
mod text;

pub(crate) use args::PrepareArgs;

use crate::cli::{Cli, StartArgs};
use crate::plugins::Plugins;
use crate::scan::config_or_default;
use anyhow::{Context, bail};
use args::{BOTH_FAILED, NVME_FAILED, SCM_FAILED};
use daos_config::Config;
use daos_loader::PluginInfo;
use daos_plugin_api::control::{
    ClassKind, PrepareFault, PrepareMode, PrepareReport, PrepareRequest,
};
use daos_report::{Envelope, print_json};
use nix::unistd::{User, geteuid};
use serde::Serialize;

/// What became of both kinds of storage; what was not asked for is absent.
#[derive(Default, Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    nvme: Option<PrepareReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scm: Option<PrepareReport>,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// Nothing was touched: the caller may not do it, or the request makes no sense.
pub(crate) fn run(cli: &Cli, args: &PrepareArgs) -> anyhow::Result<u8> {
    let root = geteuid().is_root();
    if !root && !args.dry_run && !args.status {
        bail!(
            "storage prepare must be run as root: `sudo daos_server storage prepare`; without root there are \
             --status and --dry-run"
        );
    }
    let sudo_user = std::env::var("SUDO_USER").ok();
    let user = target_user(args.target_user.as_deref(), sudo_user.as_deref(), root);
    if !user.is_empty()
        && User::from_name(&user)
            .context("cannot look users up")?
            .is_none()
    {
        bail!("there is no user {user}; correct -u");
    }
    let exe = std::env::current_exe()?;
    let overrides = cli.start.overrides(&StartArgs::default(), &cli.globals);
    let config = config_or_default(cli, &overrides, &exe);
    let request = request(args, &config, user)?;
    let plugins = Plugins::open(&config, &exe)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(async {
        let mut answer = Answer::default();
        if !args.scm_only {
            answer.nvme = Some(block_devices(&plugins, args, &request).await);
        }
        if !args.nvme_only {
            let quiet = cli.globals.json;
            answer.scm = Some(memory::prepare(&plugins, args, &request, quiet).await);
        }
        plugins.rest().await;
        answer
    });
    let failed = |report: &Option<PrepareReport>| {
        report
            .as_ref()
            .is_some_and(|report| !report.faults.is_empty())
    };
    let (nvme, scm) = (failed(&answer.nvme), failed(&answer.scm));
    if cli.globals.json {
        let which = match (nvme, scm) {
            (true, true) => "NVMe and SCM",
            (true, false) => "NVMe",
            _ => "SCM",
        };
        print_json(&match nvme || scm {
            true => Envelope::failed(Some(answer), format!("not everything of {which} succeeded")),
            false => Envelope::ok(answer),
        })?;
    } else {
        for (title, report) in [("NVMe SSDs", &answer.nvme), ("SCM", &answer.scm)] {
            if let Some(report) = report {
                daos_report::print_line!("{}", text::report(title, report, args.status));
                for fault in &report.faults {
                    eprintln!("{}", text::fault(fault));
                }
            }
        }
    }
    Ok(match (nvme, scm) {
        (false, false) => 0,
        (true, false) => NVME_FAILED,
        (false, true) => SCM_FAILED,
        (true, true) => BOTH_FAILED,
    })
}

/// For whom: `-u`, else who called sudo, else nobody in particular, which is the effective user.
fn target_user(wanted: Option<&str>, sudo: Option<&str>, root: bool) -> String {
    // The environment of somebody else's program says nothing about who called it.
    let sudo = sudo.filter(|_| root);
    wanted.or(sudo).unwrap_or_default().to_owned()
}

fn request(args: &PrepareArgs, config: &Config, user: String) -> anyhow::Result<PrepareRequest> {
    let (devices, exclude) = match &args.pci_list {
        // The command line wins over the file.
        Some(list) => {
            let entries = list.split([' ', ',', '\t', '\n']).filter(|e| !e.is_empty());
            let address = |entry: &str| {
                daos_config::normalise_pci(entry).with_context(|| {
                    format!("{entry:?} in -w is not a PCI address; write it like 0000:81:00.0")
                })
            };
            let list = entries.map(address).collect::<anyhow::Result<Vec<_>>>()?;
            if list.is_empty() {
                bail!("-w names no device; leave it out for all");
            }
            (list, Vec::new())
        }
        None => (config.bdev_include.clone(), config.bdev_exclude.clone()),
    };
    let include: Vec<String> = devices
        .into_iter()
        .filter(|address| args.pci_list.is_some() || !exclude.contains(address))
        .collect();
    Ok(PrepareRequest {
        mode: match (args.status, args.dry_run) {
            (true, _) => PrepareMode::Status,
            (_, true) => PrepareMode::Plan,
            _ => PrepareMode::Apply,
        },
        devices: include,
        exclude,
        hugepages: Some(args.hugepages.unwrap_or(u64::from(config.nr_hugepages))),
        namespaces: args.scm_ns_per_socket,
        user,
        // The plugin's own place, which only root may write to. Our state directory may be another user's.
        state_dir: String::new(),
    })
}

/// Plugins of a kind that can prepare.
fn able(plugins: &Plugins, kind: ClassKind) -> Vec<PluginInfo> {
    let mut able = plugins.usable();
    able.retain(|plugin| {
        plugin.manifest.classes.iter().any(|class| {
            class.kind == kind && class.capabilities.iter().any(|name| name == "prepare")
        })
    });
    able
}

async fn block_devices(
    plugins: &Plugins,
    args: &PrepareArgs,
    request: &PrepareRequest,
) -> PrepareReport {
    let able = able(plugins, ClassKind::Bdev);
    if able.is_empty() {
        return failure(
            "NVMe SSDs cannot be prepared",
            "no plugin that is installed can do it",
            "put libdaos_bdev_nvme_spdk.so into plugins_dir (see `daos_server plugin list`)",
        );
    }
    ask(plugins, able, args, request, |_| ()).await
}

fn failure(what: &str, cause: &str, remedy: &str) -> PrepareReport {
    PrepareReport {
        faults: vec![PrepareFault {
            address: String::new(),
            what: what.to_owned(),
            cause: cause.to_owned(),
            remedy: remedy.to_owned(),
        }],
        ..PrepareReport::default()
    }
}

/// Asks one plugin after the other, and puts their answers together.
async fn ask(
    plugins: &Plugins,
    able: Vec<PluginInfo>,
    args: &PrepareArgs,
    request: &PrepareRequest,
    progress: impl Fn(&str) + Copy + Send + Sync + 'static,
) -> PrepareReport {
    let mut all = PrepareReport::default();
    for plugin in able {
        match plugins
            .prepare(&plugin, request, args.reset, progress)
            .await
        {
            Ok(report) => {
                all.namespaces.extend(report.namespaces);
                all.reboot_required |= report.reboot_required;
                all.devices.extend(report.devices);
                all.hugepages.extend(report.hugepages);
                all.steps.extend(report.steps);
                all.checks.extend(report.checks);
                all.faults.extend(report.faults);
                all.notes.extend(report.notes);
            }
            Err(fault) => all.faults.push(PrepareFault {
                address: String::new(),
                what: format!("plugin {}: {}", plugin.name(), fault.what),
                cause: fault.cause.clone(),
                remedy: fault.remedy.clone(),
            }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> PrepareArgs {
        use clap::Parser;
        #[derive(Parser)]
        struct Program {
            #[command(flatten)]
            args: PrepareArgs,
        }
        let words = ["prepare"].into_iter().chain(line.split_whitespace());
        Program::try_parse_from(words)
            .unwrap_or_else(|e| panic!("{line}: {e}"))
            .args
    }

    fn wish(line: &str, config: &Config) -> PrepareRequest {
        request(&args(line), config, String::new()).unwrap()
    }

    #[test]
    fn who_gets_the_devices() {
        assert_eq!(target_user(Some("bob"), Some("alice"), true), "bob");
        assert_eq!(target_user(None, Some("alice"), true), "alice");
        assert_eq!(target_user(None, Some("alice"), false), "");
        assert_eq!(target_user(None, None, true), "");
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let list =
            |entries: &[&str]| -> Vec<String> { entries.iter().map(|e| (*e).to_owned()).collect() };
        let mut config = Config::default();
        config.bdev_include = list(&["0000:41:00.0", "0000:42:00.0"]);
        config.bdev_exclude = list(&["0000:42:00.0"]);
        config.nr_hugepages = 77;
        let request = wish("-n", &config);
        assert_eq!(request.devices, list(&["0000:41:00.0"]));
        assert_eq!(request.exclude, list(&["0000:42:00.0"]));
        assert_eq!(request.hugepages, Some(77));
        let request = wish("-p 8 -w 0000.42.00.0,43:00.1", &config);
        assert_eq!(request.devices, list(&["0000:42:00.0", "0000:43:00.1"]));
        assert!(request.exclude.is_empty());
        assert_eq!(request.hugepages, Some(8));
        assert_eq!(wish("--status", &config).mode, PrepareMode::Status);
        assert_eq!(wish("--dry-run", &config).mode, PrepareMode::Plan);
        assert_eq!(wish("-s", &config).namespaces, None);
        assert_eq!(
            wish("-s --scm-ns-per-socket 2", &config).namespaces,
            Some(2)
        );
        assert!(super::request(&args("-w sda"), &config, String::new()).is_err());
        assert!(super::request(&args("-w ,"), &config, String::new()).is_err());
    }
}
