//! Every key has an effect, and the test that shows it exists.

use daos_config::keys::{EFFECTS, Effect, Scope, of};
use std::collections::BTreeSet;
use std::path::PathBuf;

const SCOPES: [Scope; 5] = [
    Scope::Top,
    Scope::Transport,
    Scope::Plugin,
    Scope::Server,
    Scope::Tier,
];

/// Features that are not there yet, by the names that the table uses.
const LATER: &[&str] = &["agents' signed credentials", "storage prepare"];

fn tree() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_key_has_one_row_and_every_row_a_key() {
    for scope in SCOPES {
        let keys: BTreeSet<&str> = of(scope).map(|k| k.name).collect();
        let rows: Vec<&str> = EFFECTS
            .iter()
            .filter(|(s, _, _)| *s == scope)
            .map(|(_, name, _)| *name)
            .collect();
        let unique: BTreeSet<&str> = rows.iter().copied().collect();
        assert_eq!(unique.len(), rows.len(), "a row twice in {scope:?}");
        assert_eq!(keys, unique, "{scope:?}");
    }
}

#[test]
fn the_test_of_every_row_exists_and_later_features_are_known() {
    for (scope, name, effect) in EFFECTS {
        match effect {
            Effect::Later { feature } => {
                assert!(LATER.contains(feature), "{scope:?} {name}: {feature}");
            }
            Effect::Seen { effect, test } => {
                assert!(effect.ends_with('.'), "{scope:?} {name}: {effect}");
                let (file, function) = test.split_once("::").expect("path::function");
                let text = std::fs::read_to_string(tree().join(file))
                    .unwrap_or_else(|e| panic!("{scope:?} {name}: {file}: {e}"));
                let at = text
                    .find(&format!("fn {function}("))
                    .unwrap_or_else(|| panic!("{scope:?} {name}: no {function} in {file}"));
                let before = text[..at].trim_end();
                assert!(
                    before.ends_with("#[test]") || before.ends_with("async"),
                    "{scope:?} {name}: {function} in {file} is no test"
                );
            }
        }
    }
}

#[test]
fn the_table_in_docs_is_generated() {
    let shipped = std::fs::read_to_string(tree().join("docs/config-keys.md")).unwrap_or_default();
    assert!(
        shipped == daos_config::effects_table(),
        "docs/config-keys.md is out of date: run\n  \
         cargo run -p daos-config --example write_keys > docs/config-keys.md"
    );
}
