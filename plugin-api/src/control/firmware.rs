//! Documents of `firmware`: which firmware a controller has, and putting another one into it. One controller a call.

use serde::{Deserialize, Serialize};

/// Request of `firmware`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum FirmwareRequest {
    /// What is there. Changes nothing.
    Query {
        /// The controller, as the class names its devices; a namespace in the name is of no matter.
        device: String,
    },
    /// Loads an image into a slot, makes it the active one, and looks whether it is.
    Update(FirmwareUpdate),
}

impl FirmwareRequest {
    /// The controller that it is about.
    pub fn device(&self) -> &str {
        match self {
            Self::Query { device } | Self::Update(FirmwareUpdate { device, .. }) => device,
        }
    }
}

/// An update. What it expects is checked before anything is sent to the device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FirmwareUpdate {
    /// The controller, as the class names its devices; a namespace in the name is of no matter.
    pub device: String,
    /// Absolute path of the image, a regular file; an open file of the calling process is "/proc/self/fd/N".
    pub image: String,
    /// SHA-256 that the image must have, lower-case hexadecimal; empty = any. Compared with the bytes that go to the device,
    /// so that nobody exchanges the file after it was looked at.
    #[serde(default)]
    pub sha256: String,
    /// Slot that the image goes to, from 1; 0 = the controller chooses.
    #[serde(default)]
    pub slot: u8,
    /// Model that the controller must have, without outer blanks; empty = any.
    #[serde(default)]
    pub model: String,
    /// Revision that must run before; empty = any.
    #[serde(default)]
    pub revision: String,
    /// Revision that must run afterwards; empty = any but the one before.
    #[serde(default)]
    pub new_revision: String,
}

/// Answer of `firmware`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FirmwareReport {
    /// The controller.
    pub address: String,
    /// Model text.
    #[serde(default)]
    pub model: String,
    /// Serial number.
    #[serde(default)]
    pub serial: String,
    /// Revision that runs now.
    #[serde(default)]
    pub revision: String,
    /// The controller takes images.
    #[serde(default)]
    pub updatable: bool,
    /// Its slots, from the first.
    #[serde(default)]
    pub slots: Vec<FirmwareSlot>,
    /// Bytes that the pieces of a download are a multiple of; 0 = the controller does not tell.
    #[serde(default)]
    pub granularity: u32,
    /// What an update did; `None` after a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<FirmwareOutcome>,
}

/// A slot for firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareSlot {
    /// Its number, from 1.
    pub slot: u8,
    /// Revision that is in it; empty = none.
    #[serde(default)]
    pub revision: String,
    /// Takes no image.
    #[serde(default)]
    pub read_only: bool,
    /// What runs came from it.
    #[serde(default)]
    pub active: bool,
    /// The next reset takes what is in it.
    #[serde(default)]
    pub next: bool,
}

/// Whether an image that was loaded runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirmwareActivation {
    /// It does: the controller says the new revision.
    #[default]
    Active,
    /// It will after a reset that the plugin cannot give.
    Pending,
}

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FirmwareOutcome {
    /// Revision before.
    pub from: String,
    /// Slot that was asked for; 0 = the controller's choice.
    pub slot: u8,
    /// Size of the image in bytes.
    pub bytes: u64,
    /// Whether it runs.
    pub activation: FirmwareActivation,
    /// What to do for it to run; empty when it does.
    #[serde(default)]
    pub remedy: String,
    /// Remarks for the administrator.
    #[serde(default)]
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn requests_are_told_apart_by_their_action() {
        let query: FirmwareRequest =
            from_value(json!({"action": "query", "device": "0000:41:00.0"})).unwrap();
        assert_eq!(query.device(), "0000:41:00.0");
        assert!(matches!(query, FirmwareRequest::Query { .. }));
        let update: FirmwareRequest =
            from_value(json!({"action": "update", "device": "d", "image": "/i"})).unwrap();
        let FirmwareRequest::Update(update) = update else {
            panic!("an update is a query");
        };
        assert_eq!((update.slot, update.model.as_str()), (0, ""));
        for wrong in [
            json!({}),
            json!({"action": "query"}),
            json!({"action": "update", "device": "d"}),
            json!({"action": "erase", "device": "d"}),
        ] {
            assert!(
                from_value::<FirmwareRequest>(wrong.clone()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_answer_to_a_query_has_no_update() {
        let report = FirmwareReport::default();
        let document = serde_json::to_value(&report).unwrap();
        assert!(document.get("update").is_none());
        assert_eq!(from_value::<FirmwareReport>(document).unwrap(), report);
    }
}
