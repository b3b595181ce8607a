//! `bdev_layers`: the layers over a server's block devices, checked at their place in the file.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::ServerConfig;
use crate::schema;
use crate::section::{Reader, Section};
use crate::tree::Value;

pub(crate) fn read(r: &mut Reader, s: &Section<'_>, c: &mut ServerConfig) {
    let Some((_, path, node)) = s.node(r, "bdev_layers") else {
        return;
    };
    let Value::List(items) = &node.value else {
        r.wrong_type::<()>(&path, node, "a list of layers, as in [{stats: {}}]");
        return;
    };
    let rules: serde_json::Value = match serde_json::from_str(daos_layers::SCHEMA) {
        Ok(rules) => rules,
        Err(error) => unreachable!("the schema of layers is JSON: {error}"),
    };
    for (index, item) in r.bounded(&path, node.at, items).iter().enumerate() {
        let path = format!("{path}[{index}]");
        r.note(path.clone(), None, item.at);
        let Some(layer) = r.json(&path, item) else {
            continue;
        };
        let mut violations = Vec::new();
        schema::check(&rules, &layer, "bdev_layers", &mut violations);
        let found = !violations.is_empty();
        for v in violations {
            let code = match v.on_key {
                true => Code::UnknownKey,
                false => Code::BadValue,
            };
            let mut d = Diagnostic::error(code, v.message);
            d.hint = v.hint;
            let place = format!("{path}{}", v.path);
            let d = match v.on_key {
                true => r.origin.at_key(d, &place),
                false => r.origin.at(d, &place),
            };
            r.out.push(d);
        }
        if !found && let Err(error) = daos_layers::parse_one(&layer) {
            let d = Diagnostic::error(Code::BadValue, format!("{path}: {error}"))
                .hint("docs/layers.md has an example of each layer");
            r.report(d, &path, item.at);
        }
        c.bdev_layers.push(layer);
    }
    if items.len() > daos_layers::LAYERS_MAX {
        let most = daos_layers::LAYERS_MAX;
        let message = format!("{path} has {} layers, at most {most} fit", items.len());
        r.report(Diagnostic::error(Code::ValueCount, message), &path, node.at);
    }
}
