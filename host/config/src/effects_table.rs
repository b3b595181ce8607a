//! `docs/config-keys.md`: what each key does, generated from the table of keys.

use crate::keys::{self, Effect, KeySpec, Scope};
use std::fmt::Write as _;

const HEAD: &str = "\
# Configuration keys and their effects

Generated from `host/config/src/keys`; a test holds it to that. Each key has an effect that can be seen from
outside and a test that shows it; what is read and checked only, until a later feature uses it, is marked with
that feature. `examples/daos_server.yml` has the keys' documentation, `daos_server plugin inspect FILE` the keys
of a plugin's classes.

Changes of *immutable* keys are refused once storage is formatted
(`tests/e2e/tests/e2e/immutable_keys.rs::each_is_refused_with_old_and_new_value`).
";

const GROUPS: &[(Scope, &str)] = &[
    (Scope::Top, "The file"),
    (Scope::Transport, "`transport_config:`"),
    (Scope::Plugin, "An entry of `plugins:`"),
    (Scope::Server, "An entry of `servers:`"),
    (Scope::Tier, "A tier of `storage:`, the form of DAOS 2.x"),
];

/// The text of `docs/config-keys.md`.
#[must_use]
pub fn effects_table() -> String {
    let mut out = HEAD.to_owned();
    for (scope, title) in GROUPS {
        // Writing into a string cannot fail.
        let _ = write!(
            out,
            "\n## {title}\n\n| key | default | option | effect | shown by |\n|---|---|---|---|---|\n"
        );
        for spec in keys::of(*scope) {
            out += &row(spec);
        }
    }
    out
}

fn row(spec: &KeySpec) -> String {
    let mut key = format!("`{}`", spec.name);
    for old in spec.old_names {
        key += &format!(", `{old}`");
    }
    if spec.immutable {
        key += " (immutable)";
    }
    let option = spec.option.map_or_else(String::new, |o| format!("`{o}`"));
    let (effect, test) = match keys::effect(spec.scope, spec.name) {
        Some(Effect::Seen { effect, test }) => (effect.to_owned(), format!("`{test}`")),
        Some(Effect::Later { feature }) => {
            ("Read and checked.".to_owned(), format!("later: {feature}"))
        }
        None => (String::new(), String::new()),
    };
    format!(
        "| {key} | {} | {option} | {} | {test} |\n",
        cell(spec.default),
        cell(&effect)
    )
}

/// Text in which no bar ends the cell and nothing is taken for a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
