//! The tiered `storage:` list of DAOS 2.x, translated into the flat keys where they can say
//! the same.

use crate::diagnostic::{Code, Diagnostic};
use crate::keys::Scope;
use crate::model::ServerConfig;
use crate::parse;
use crate::section::{Reader, Section};
use crate::tree::Value;

const FLAT: &[&str] = &[
    "scm_mount",
    "scm_class",
    "scm_list",
    "scm_size",
    "bdev_class",
    "bdev_list",
    "bdev_number",
    "bdev_size",
    "bdev_layers",
];

pub(crate) fn read(r: &mut Reader, s: &Section<'_>, c: &mut ServerConfig) {
    let Some((_, path, node)) = s.node(r, "storage") else {
        return;
    };
    let key_at = s.key_at("storage");
    let Value::List(items) = &node.value else {
        r.wrong_type::<()>(&path, node, "a list of storage tiers");
        return;
    };
    r.report(
        Diagnostic::warning(
            Code::OldName,
            format!("{path} is the tiered form of DAOS 2.x; it was translated"),
        )
        .hint("use scm_class, scm_mount, bdev_class, bdev_list, ... directly in the server entry"),
        &path,
        key_at,
    );
    let flat: Vec<&str> = s.names().filter(|n| FLAT.contains(n)).collect();
    if let Some(first) = flat.first() {
        let d = Diagnostic::error(
            Code::ConflictingKeys,
            format!(
                "{path} and {} are two ways to say the same",
                flat.join(", ")
            ),
        )
        .hint("keep one of them, preferably the flat keys")
        .related("flat key given here", Some(s.key_at(first)));
        r.report(d, &path, key_at);
        return;
    }
    if items.is_empty() || items.len() > 2 {
        let d = Diagnostic::error(
            Code::NotExpressible,
            format!(
                "{path} has {} tiers; a server has one SCM tier and at most one block device tier",
                items.len()
            ),
        )
        .hint("merge the block device tiers, or run the upstream engine for metadata on SSD");
        r.report(d, &path, node.at);
        return;
    }
    for (index, item) in items.iter().enumerate() {
        // Values are noted under the flat keys' paths, so that later findings point here.
        let Some(tier) = Section::open(r, Scope::Tier, &s.path, item) else {
            continue;
        };
        one(r, &tier, index, c);
    }
}

fn one(r: &mut Reader, tier: &Section<'_>, index: usize, c: &mut ServerConfig) {
    let name = format!("storage[{index}]");
    let Some(class) = tier.text(r, "class") else {
        let d = Diagnostic::error(Code::MissingValue, format!("{name} has no class"))
            .hint("add class: with the class of a plugin");
        return r.report(d, &tier.path, tier.at);
    };
    let scm = index == 0;
    let (field, wrong) = if scm {
        (&mut c.scm_class, "bdev_")
    } else {
        (&mut c.bdev_class, "scm_")
    };
    *field = class;
    let key = if scm { "scm_class" } else { "bdev_class" };
    r.note(
        tier.child(key),
        Some(tier.key_at("class")),
        tier.value_at("class"),
    );
    for misplaced in tier.names().filter(|n| n.starts_with(wrong)) {
        let d = Diagnostic::error(
            Code::NotExpressible,
            format!("{misplaced} in {name}: the first tier is SCM, the second a block device"),
        )
        .hint("put the SCM tier first and the block device tier second");
        r.report(d, &tier.child(misplaced), tier.key_at(misplaced));
    }
    parse::storage(r, tier, c);
}
