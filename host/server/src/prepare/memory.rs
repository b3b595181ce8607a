//! The SCM half of `storage prepare`: what is about to be changed is shown and asked about first.

use super::args::PrepareArgs;
use super::{able, ask, failure};
use crate::plugins::Plugins;
use daos_plugin_api::control::{ClassKind, PrepareMode, PrepareReport, PrepareRequest};
use std::io::{BufRead, Write};
use std::path::Path;

/// Where the kernel shows persistent memory.
const NVDIMMS: &str = "/sys/bus/nd/devices";

/// What is asked before memory is changed.
const WARNING: &str = "Memory allocation goals for SCM will be changed and namespaces modified, this will be a \
                       destructive operation. Please ensure namespaces are unmounted and SCM is otherwise unused. \
                       Please be patient as it may take several minutes, and a reboot may be required afterwards.";

/// Prepares storage-class memory, or gives it back. Only what people are to read is printed, and nothing
/// if `quiet`.
pub(super) async fn prepare(
    plugins: &Plugins,
    args: &PrepareArgs,
    request: &PrepareRequest,
    quiet: bool,
) -> PrepareReport {
    let able = able(plugins, ClassKind::Scm);
    if able.is_empty() {
        return no_memory_plugin(&nvdimms(Path::new(NVDIMMS)), args.scm_only && !args.status);
    }
    let request = PrepareRequest {
        devices: Vec::new(),
        exclude: Vec::new(),
        hugepages: None,
        ..request.clone()
    };
    if request.mode == PrepareMode::Apply && !args.force {
        let planned = PrepareRequest {
            mode: PrepareMode::Plan,
            ..request.clone()
        };
        let plan = ask(plugins, able.clone(), args, &planned, |_| ()).await;
        if plan.steps.is_empty() {
            return plan;
        }
        if let Err(why) = consent(&plan, quiet) {
            return failure(
                "SCM is left as it is",
                &why,
                "answer yes, or use -f to do it without the question",
            );
        }
    }
    ask(plugins, able, args, &request, move |what| {
        if !quiet {
            daos_report::print_line!("{what}");
        }
    })
    .await
}

/// Shows what would be done and asks; the error says why it is not to be done.
fn consent(plan: &PrepareReport, quiet: bool) -> Result<(), String> {
    if quiet {
        return Err("with --json nobody can be asked".to_owned());
    }
    let mut out = std::io::stdout().lock();
    let told = plan
        .steps
        .iter()
        .try_for_each(|step| writeln!(out, "would {}", step.what))
        .and_then(|()| {
            writeln!(
                out,
                "{WARNING}\nAre you sure you want to continue? (yes/no)"
            )
        })
        .and_then(|()| out.flush());
    told.map_err(|e| format!("the question cannot be shown: {e}"))?;
    match answer(&mut std::io::stdin().lock()) {
        Ok(true) => Ok(()),
        Ok(false) => Err("consent not given".to_owned()),
        Err(e) => Err(format!("consent not given: the answer cannot be read: {e}")),
    }
}

/// Whether the answer is yes. The end of input is a no, and so is an empty line.
fn answer(input: &mut impl BufRead) -> std::io::Result<bool> {
    let mut line = String::new();
    loop {
        line.clear();
        input.read_line(&mut line)?;
        match line.trim() {
            "yes" | "y" => return Ok(true),
            "no" | "n" | "" => return Ok(false),
            _ => daos_report::print_line!("Please type yes or no and then press enter:"),
        }
    }
}

/// Names of the persistent memory modules.
fn nvdimms(devices: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(devices).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut modules: Vec<String> = names.filter(|name| name.starts_with("nmem")).collect();
    modules.sort();
    modules
}

/// What there is to say without a plugin for persistent memory; it is a failure only when somebody wanted
/// nothing else, and there is some.
fn no_memory_plugin(modules: &[String], wanted: bool) -> PrepareReport {
    if modules.is_empty() {
        return PrepareReport {
            notes: vec![
                "nothing to prepare: this machine has no persistent memory, and scm_class ram needs no \
                 preparation"
                    .to_owned(),
            ],
            ..PrepareReport::default()
        };
    }
    let found = format!(
        "persistent memory ({}) is left as it is",
        modules.join(", ")
    );
    let cause = "no plugin that is installed prepares it";
    if wanted {
        return failure(
            &found,
            cause,
            "use scm_class ram, or install a plugin for scm_class dcpm",
        );
    }
    PrepareReport {
        notes: vec![format!(
            "{found}: {cause}; scm_class ram needs no preparation"
        )],
        ..PrepareReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (typed, yes) in [
            ("yes\n", true),
            ("y\n", true),
            ("well\nyes\n", true),
            ("no\nyes\n", false),
            ("\nyes\n", false),
            ("", false),
            ("maybe", false),
        ] {
            assert_eq!(answer(&mut typed.as_bytes()).unwrap(), yes, "{typed:?}");
        }
    }

    #[test]
    fn memory_without_a_plugin_is_told_truthfully() {
        let none = no_memory_plugin(&[], true);
        assert!(none.faults.is_empty() && none.notes[0].contains("nothing to prepare"));
        let modules = ["nmem0".to_owned()];
        assert!(no_memory_plugin(&modules, false).faults.is_empty());
        assert!(no_memory_plugin(&modules, false).notes[0].contains("nmem0"));
        assert_eq!(no_memory_plugin(&modules, true).faults.len(), 1);
        let dir = tempfile::tempdir().unwrap();
        for name in ["nmem1", "nmem0", "region0"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        assert_eq!(nvdimms(dir.path()), ["nmem0", "nmem1"]);
        assert!(nvdimms(&dir.path().join("absent")).is_empty());
    }
}
