//! A plan as YAML with comments.

use super::plan::{Engine, Plan};
use std::fmt::Write as _;
use std::path::Path;

/// Width of comments.
const WIDTH: usize = 100;

/// The text. Every value that is free text is quoted.
pub(super) fn render(plan: &Plan, plugins_dir: Option<&Path>) -> String {
    let mut out = String::new();
    comment(
        &mut out,
        "",
        "Made by `daos_server config generate` for this machine. Check changes with `daos_server config \
         check`; all keys are described by `daos_server config example`.",
    );
    for note in &plan.notes {
        comment(&mut out, "", &format!("Note: {note}."));
    }
    if !plan.access_points.is_empty() {
        let points: Vec<String> = plan.access_points.iter().map(|p| quoted(p)).collect();
        key(
            &mut out,
            "access_points",
            &format!("[{}]", points.join(", ")),
        );
    }
    if let Some(dir) = &plan.socket_dir {
        comment(&mut out, "", "The default directory of sockets is root's.");
        key(&mut out, "socket_dir", &quoted(&dir.display().to_string()));
    }
    if let Some(dir) = plugins_dir {
        key(&mut out, "plugins_dir", &quoted(&dir.display().to_string()));
    }
    if plan.is_local {
        comment(
            &mut out,
            "",
            "Only the loopback is up: engines serve this machine only, which takes insecure mode.",
        );
        key(&mut out, "transport_config", "{allow_insecure: true}");
    }
    key(&mut out, "provider", &quoted(&plan.provider));
    out += &servers(plan, false);
    out
}

/// The engines alone; each with its provider if nothing else says it.
pub(super) fn servers(plan: &Plan, with_provider: bool) -> String {
    let mut out = "servers:\n".to_owned();
    for (index, engine) in plan.engines.iter().enumerate() {
        self::engine(&mut out, index, engine);
        if with_provider {
            entry(&mut out, "provider", &quoted(&plan.provider));
        }
    }
    out
}

fn engine(out: &mut String, index: usize, engine: &Engine) {
    let node = engine
        .numa_node
        .map_or_else(String::new, |node| format!(", NUMA node {node}"));
    comment(out, "", &format!("Engine {index}{node}."));
    // Writing into a string cannot fail.
    let _ = writeln!(out, "- # {}.", engine.cores_reason);
    entry(out, "first_core", &engine.first_core.to_string());
    entry(out, "targets", &engine.targets.to_string());
    entry(out, "nr_xs_helpers", &engine.helpers.to_string());
    comment(out, "  ", &format!("{}.", engine.fabric_reason));
    if let Some(interface) = &engine.fabric_iface {
        entry(out, "fabric_iface", &quoted(interface));
    }
    entry(
        out,
        "fabric_iface_port",
        &engine.fabric_iface_port.to_string(),
    );
    comment(out, "  ", &format!("{}.", engine.scm_reason));
    entry(
        out,
        "scm_mount",
        &quoted(&engine.scm_mount.display().to_string()),
    );
    entry(out, "scm_class", &engine.scm_class.clone());
    if !engine.scm_list.is_empty() {
        entry(out, "scm_list", &list(&engine.scm_list));
    }
    if let Some(size) = engine.scm_size {
        entry(out, "scm_size", &size.to_string());
    }
    comment(out, "  ", &format!("{}.", engine.bdev_reason));
    entry(out, "bdev_class", &engine.bdev_class.clone());
    if !engine.bdev_list.is_empty() {
        entry(out, "bdev_list", &list(&engine.bdev_list));
    }
    if let Some(number) = engine.bdev_number {
        entry(out, "bdev_number", &number.to_string());
    }
    if let Some(size) = engine.bdev_size {
        entry(out, "bdev_size", &size.to_string());
    }
}

/// A key of an engine.
fn entry(out: &mut String, name: &str, value: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "  {name}: {value}");
}

fn key(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name}: {value}");
}

fn list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|v| self::quoted(v)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A YAML scalar in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Comment lines. Whatever stands in the text stays in the comment.
fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = format!("{indent}#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line.len() > indent.len() + 1 {
            let _ = writeln!(out, "{line}");
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
