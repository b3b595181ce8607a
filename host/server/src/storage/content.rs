//! What is on a device, in the terms in which a start and a format decide.

use daos_helper::{DeviceInspection, LabelRequest, LabelState};

/// What a block device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Does not exist; a format makes it.
    Absent,
    /// Nothing but zeroes, as far as was looked.
    Blank,
    /// A label of ours.
    Labelled(Box<LabelRequest>),
    /// A label that cannot be read: damaged, interrupted format, newer version.
    BadLabel(String),
    /// Something that is not ours.
    Foreign(String),
}

impl Content {
    /// What a format would destroy, in words.
    pub(super) fn loss(&self) -> Option<String> {
        match self {
            Self::Absent | Self::Blank => None,
            Self::Labelled(label) => Some(format!(
                "data of engine {}, device {} of {}, generation {}",
                label.engine,
                label.index + 1,
                label.count,
                label.generation
            )),
            Self::BadLabel(why) => Some(format!("a device of a DAOS engine with {why}")),
            Self::Foreign(what) => Some(what.clone()),
        }
    }
}

impl From<&DeviceInspection> for Content {
    fn from(found: &DeviceInspection) -> Self {
        match &found.label {
            LabelState::Present { label, .. } => Self::Labelled(Box::new(label.clone())),
            LabelState::Differ { first, second } => Self::BadLabel(format!(
                "two labels that differ (engines {} and {}): a format was interrupted",
                first.engine, second.engine
            )),
            LabelState::Damaged { detail } => Self::BadLabel(detail.clone()),
            LabelState::None if found.foreign => Self::Foreign(found.content.clone()),
            LabelState::None => Self::Blank,
        }
    }
}
