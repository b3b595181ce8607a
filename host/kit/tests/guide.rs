//! The vendor's guide has a row for each member of each table of the interface, and for nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Members of the tables and contexts, as the interface's source defines them.
fn defined() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("plugin-api/src/abi"))
        .expect("the interface")
        .flatten()
    {
        let text = fs::read_to_string(entry.path()).expect("readable");
        let mut current: Option<String> = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub struct ") {
                let name = rest.trim_end_matches(" {").to_owned();
                let is_table = name.ends_with("Table") || name == "Call" || name == "HostServices";
                current = (rest.ends_with('{') && is_table).then_some(name);
            } else if line == "}" {
                current = None;
            } else if let Some(name) = &current
                && let Some(member) = line
                    .strip_prefix("    pub ")
                    .and_then(|l| l.split(':').next())
            {
                let members: &mut Vec<String> = found.entry(name.clone()).or_default();
                members.push(member.to_owned());
            }
        }
    }
    found
}

/// Rows of the guide below the heading of each table.
fn described() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("docs/vendor"))
        .expect("the guide")
        .flatten()
    {
        let text = fs::read_to_string(entry.path()).expect("readable");
        let mut current = None;
        for line in text.lines() {
            if line.starts_with('#') {
                let name = line.strip_prefix("## `").and_then(|l| l.strip_suffix('`'));
                current = name.map(str::to_owned);
            } else if let Some(name) = &current
                && let Some(row) = line.strip_prefix("| `")
            {
                let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
                assert!(
                    cells.iter().all(|cell| !cell.trim().is_empty()),
                    "an empty cell: {line}"
                );
                let rows: &mut Vec<String> = found.entry(name.clone()).or_default();
                rows.push(cells[0].trim_end_matches('`').to_owned());
            }
        }
    }
    found
}

#[test]
fn no_member_is_missing_and_none_is_invented() {
    let (defined, described) = (defined(), described());
    let names: Vec<&str> = defined.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "BdevTable",
            "Call",
            "ControlTable",
            "DeviceAdminTable",
            "FabricTable",
            "HostServices",
            "PluginTable",
            "ScmTable"
        ]
    );
    for (table, members) in &defined {
        let rows = described
            .get(table)
            .unwrap_or_else(|| panic!("{table} has no page"));
        assert_eq!(
            rows, members,
            "the guide's rows of {table}, in the table's order"
        );
    }
    assert_eq!(described.len(), defined.len());
}

/// Cases below a heading of the list of cases: short name, rule.
fn listed(heading: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs/vendor/cases.md")).expect("the list of cases");
    let part = text.split("\n## ").find(|part| part.starts_with(heading));
    let lines = part
        .unwrap_or_else(|| panic!("no heading {heading:?}"))
        .lines();
    lines
        .filter_map(|line| {
            line.strip_prefix("| `")?
                .strip_suffix(" |")?
                .split_once("` | ")
        })
        .map(|(case, rule)| (case.to_owned(), rule.to_owned()))
        .collect()
}

#[test]
fn each_case_of_the_suite_is_listed_with_its_rule() {
    use daos_kit::check::catalogue;
    use daos_plugin_api::control::ClassKind;
    for (kind, heading) in [
        (ClassKind::Bdev, "Block devices"),
        (ClassKind::Scm, "Storage-class memory"),
        (ClassKind::Fabric, "Fabrics"),
    ] {
        let all = catalogue(kind)
            .into_iter()
            .filter(|case| case.id != "setup");
        let all: Vec<_> = all
            .map(|c| (c.id.to_owned(), c.promise.to_owned()))
            .collect();
        let listed = [listed("Control face"), listed(heading)].concat();
        assert_eq!(listed, all, "docs/vendor/cases.md, cases of kind {kind}");
    }
}
