//! Properties of pools: their numbers, names and, of those that are the same for every pool here, their value.

use crate::mgmt::PoolProperty;
use crate::mgmt::pool_property::Value;

/// Number of the property that is the label.
pub const LABEL: u32 = 1;
/// Number of the property that is the owning user.
pub const OWNER: u32 = 6;
/// Number of the property that is the owning group.
pub const OWNER_GROUP: u32 = 7;

/// What a property is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text of the pool, and whether it can be changed.
    Text(bool),
    /// A text that is the same for every pool.
    FixedText(&'static str),
    /// A number that is the same for every pool.
    Fixed(u64),
}

/// A property of pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its number in the protocol.
    pub number: u32,
    /// Its name, as tools spell it.
    pub name: &'static str,
    /// What it is in a sentence.
    pub about: &'static str,
    /// Whose value it is.
    pub kind: Kind,
}

const fn row(number: u32, name: &'static str, about: &'static str, kind: Kind) -> Property {
    Property {
        number,
        name,
        about,
        kind,
    }
}

/// All properties whose value can be told. A pool lies on its targets without redundancy, space is free as soon as
/// what it held is deleted, and checksums are verified whenever something is read.
pub const PROPERTIES: &[Property] = &[
    row(LABEL, "label", "Label", Kind::Text(true)),
    row(
        3,
        "space_rb",
        "Percent of space kept for rebuilds",
        Kind::Fixed(0),
    ),
    row(
        4,
        "self_heal",
        "What is done by itself about failed targets",
        Kind::Fixed(0),
    ),
    row(
        5,
        "reclaim",
        "Reclaiming of space in the background",
        Kind::Fixed(0),
    ),
    row(OWNER, "owner", "Owning user", Kind::Text(false)),
    row(
        OWNER_GROUP,
        "owner_group",
        "Owning group",
        Kind::Text(false),
    ),
    row(
        9,
        "ec_cell_sz",
        "Bytes of an erasure-code cell",
        Kind::Fixed(0),
    ),
    row(
        10,
        "data_thresh",
        "Bytes from which values lie on block devices",
        Kind::Fixed(4096),
    ),
    row(11, "rd_fac", "Failures that data survives", Kind::Fixed(0)),
    row(
        12,
        "ec_pda",
        "Domains of erasure-coded groups",
        Kind::Fixed(1),
    ),
    row(13, "rp_pda", "Domains of replicas", Kind::Fixed(1)),
    row(
        14,
        "global_version",
        "Version of the layout",
        Kind::Fixed(1),
    ),
    row(
        15,
        "upgrade_status",
        "Upgrade of the layout",
        Kind::FixedText("not started"),
    ),
    row(16, "scrub", "Scrubbing in the background", Kind::Fixed(0)),
    row(
        17,
        "scrub_freq",
        "Seconds between two scrubs",
        Kind::Fixed(0),
    ),
    row(
        18,
        "scrub_thresh",
        "Errors after which a target is evicted",
        Kind::Fixed(0),
    ),
    row(
        19,
        "svc_rf",
        "Failures that the pool service survives",
        Kind::Fixed(0),
    ),
    row(
        20,
        "obj_version",
        "Version of the objects' layout",
        Kind::Fixed(1),
    ),
    row(21, "perf_domain", "Domain of performance", Kind::Fixed(255)),
    row(22, "checkpoint", "Checkpoints", Kind::Fixed(0)),
    row(
        23,
        "checkpoint_freq",
        "Seconds between two checkpoints",
        Kind::Fixed(0),
    ),
    row(
        24,
        "checkpoint_thresh",
        "Percent of the log that begin a checkpoint",
        Kind::Fixed(0),
    ),
    row(25, "reintegration", "How targets come back", Kind::Fixed(0)),
    row(
        26,
        "svc_ops_enabled",
        "Whether the pool service knows repeated calls",
        Kind::Fixed(0),
    ),
    row(
        27,
        "svc_ops_entry_age",
        "Seconds for which it knows them",
        Kind::Fixed(0),
    ),
];

/// A property by its number.
pub fn of_number(number: u32) -> Option<&'static Property> {
    PROPERTIES.iter().find(|p| p.number == number)
}

/// A property by its name, or by its number as text.
pub fn of_name(name: &str) -> Option<&'static Property> {
    let number: Option<u32> = name.parse().ok();
    let is = |p: &&Property| p.name == name || Some(p.number) == number;
    PROPERTIES.iter().find(is)
}

impl Property {
    /// The value that every pool has; none if each has its own.
    pub fn fixed(&self) -> Option<Value> {
        match self.kind {
            Kind::Text(_) => None,
            Kind::FixedText(text) => Some(Value::Strval(text.to_owned())),
            Kind::Fixed(number) => Some(Value::Numval(number)),
        }
    }

    /// As an entry of a request or reply.
    pub fn entry(&self, value: Option<Value>) -> PoolProperty {
        PoolProperty {
            number: self.number,
            value,
        }
    }
}

/// A value as people read it.
pub fn shown(value: Option<&Value>) -> String {
    match value {
        None => "not set".to_owned(),
        Some(Value::Strval(text)) => text.clone(),
        Some(Value::Numval(number)) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_names_are_each_of_one_property() {
        let numbers: BTreeSet<_> = PROPERTIES.iter().map(|p| p.number).collect();
        let names: BTreeSet<_> = PROPERTIES.iter().map(|p| p.name).collect();
        assert_eq!(
            (numbers.len(), names.len()),
            (PROPERTIES.len(), PROPERTIES.len())
        );
        assert_eq!(of_name("label"), of_number(1));
        assert_eq!(of_name("16").map(|p| p.name), Some("scrub"));
        assert!(of_name("nonsense").is_none() && of_number(2).is_none());
        assert!(of_number(LABEL).is_some_and(|p| p.fixed().is_none()));
        assert_eq!(
            shown(of_number(10).and_then(Property::fixed).as_ref()),
            "4096"
        );
    }
}
