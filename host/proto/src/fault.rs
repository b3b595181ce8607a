//! Errors with number, cause and remedy, carried through gRPC.
//!
//! A [`Fault`] becomes a status with code `Internal`, a text, and one `google.rpc.ErrorInfo` in the
//! details. Domain, number, description and resolution sit where the tools of the DAOS 2.8 control
//! plane look for them; what they do not know travels under names of our own beside them.

use std::collections::HashMap;
use std::fmt;

use prost::Message as _;
use tonic::{Code, Status};

use crate::ctl::ResponseStatus;
use crate::google::rpc;
use crate::host::Fault;

/// Reason that marks an [`rpc::ErrorInfo`] as a fault.
const REASON: &str = "proto.fault.Fault";
/// Type name of an [`rpc::ErrorInfo`].
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Reason that marks a status number of the storage engines.
const DAOS_STATUS: &str = "proto.daos.DaosStatus";
/// Reason that marks a server that does not keep the system's membership.
const NOT_REPLICA: &str = "proto.system.ErrNotReplica";
/// Reason that marks a pool that does not exist.
const POOL_NOT_FOUND: &str = "proto.system.ErrPoolNotFound";

/// Status number (DER code) of what is not supported.
pub const NOT_SUPPORTED: i32 = -2037;

/// A status with an [`rpc::ErrorInfo`].
fn annotated(
    reason: &str,
    domain: &str,
    text: String,
    metadata: HashMap<String, String>,
) -> Status {
    let info = rpc::ErrorInfo {
        reason: reason.to_owned(),
        domain: domain.to_owned(),
        metadata,
    };
    let details = rpc::Status {
        code: Code::Internal as i32,
        message: text.clone(),
        details: vec![rpc::Detail {
            type_url: ERROR_INFO.to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    Status::with_details(Code::Internal, text, details.encode_to_vec().into())
}

/// The reason and metadata of an annotated status.
fn annotation(status: &Status, reason: &str) -> Option<HashMap<String, String>> {
    let details = rpc::Status::decode(status.details()).ok()?;
    details
        .details
        .iter()
        .filter(|detail| detail.type_url == ERROR_INFO)
        .filter_map(|detail| rpc::ErrorInfo::decode(&*detail.value).ok())
        .find(|info| info.reason == reason)
        .map(|info| info.metadata)
}

/// Names of status numbers that this server gives.
fn der_name(number: i32) -> &'static str {
    match number {
        -1003 => "DER_INVAL",
        -1004 => "DER_EXIST",
        -1005 => "DER_NONEXIST",
        -1006 => "DER_UNREACH",
        -1007 => "DER_NOSPACE",
        -1011 => "DER_TIMEDOUT",
        -1012 => "DER_BUSY",
        -1013 => "DER_AGAIN",
        -2001 => "DER_IO",
        NOT_SUPPORTED => "DER_NOTSUPPORTED",
        _ => "DER_MISC",
    }
}

/// An error with a status number (DER code, negative) of the storage engines.
pub fn daos_status(number: i32, text: &str) -> Status {
    let text = format!("{}({number}): {text}", der_name(number));
    let metadata = HashMap::from([("Status".to_owned(), number.to_string())]);
    annotated(DAOS_STATUS, "DAOS", text, metadata)
}

/// The status number that `status` carries, if it does.
pub fn status_number(status: &Status) -> Option<i32> {
    annotation(status, DAOS_STATUS)?.get("Status")?.parse().ok()
}

/// The error of a call about the system to a server that does not keep its membership; `replicas` (`host:port`) do.
pub fn not_replica(replicas: &[String]) -> Status {
    let text = format!(
        "not a DAOS Management Service replica (try one of {})",
        replicas.join(",")
    );
    let quoted: Vec<String> = replicas.iter().map(|r| format!("\"{r}\"")).collect();
    let list = format!("[{}]", quoted.join(","));
    let metadata = HashMap::from([("Replicas".to_owned(), list)]);
    annotated(NOT_REPLICA, "DAOS", text, metadata)
}

/// Whether `status` says that another server keeps the membership.
pub fn is_not_replica(status: &Status) -> bool {
    annotation(status, NOT_REPLICA).is_some()
}

/// The servers (`host:port`) that keep the membership, as `status` names them.
pub fn replicas(status: &Status) -> Vec<String> {
    let named = annotation(status, NOT_REPLICA).and_then(|mut a| a.remove("Replicas"));
    let inner = named.unwrap_or_default();
    let inner = inner.trim().trim_start_matches('[').trim_end_matches(']');
    // Addresses have neither commas nor quotes.
    let words = inner.split(',').map(|word| word.trim().trim_matches('"'));
    words.filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// The error of a call for a pool that does not exist; `is_uuid` says what `id` is.
pub fn pool_not_found(id: &str, is_uuid: bool) -> Status {
    let (text, info) = if is_uuid {
        (
            format!("unable to find pool service with uuid {id}"),
            format!(r#"{{"Rank":null,"UUID":"{id}","Label":""}}"#),
        )
    } else {
        // Whatever was sent as a label: quoted as JSON wants it.
        let label: String = id.chars().flat_map(char::escape_default).collect();
        (
            format!("unable to find pool service with label \"{label}\""),
            format!(r#"{{"Rank":null,"UUID":null,"Label":"{label}"}}"#),
        )
    };
    let metadata = HashMap::from([("PoolInfo".to_owned(), info)]);
    annotated(POOL_NOT_FOUND, "DAOS", text, metadata)
}

/// Whether `status` says that a pool does not exist.
pub fn is_pool_not_found(status: &Status) -> bool {
    annotation(status, POOL_NOT_FOUND).is_some()
}

impl Fault {
    /// A fault with the parts that every error must have.
    pub fn new(
        status: ResponseStatus,
        domain: impl Into<String>,
        code: i32,
        what: impl Into<String>,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Fault {
            status: status.into(),
            code,
            domain: domain.into(),
            what: what.into(),
            cause: cause.into(),
            remedy: remedy.into(),
            log: Vec::new(),
        }
    }

    /// What failed and why, in one line.
    pub fn description(&self) -> String {
        match (self.what.is_empty(), self.cause.is_empty()) {
            (_, true) => self.what.clone(),
            (true, false) => self.cause.clone(),
            (false, false) => format!("{}: {}", self.what, self.cause),
        }
    }

    /// The fault as the error of a call.
    pub fn to_status(&self) -> Status {
        let description = self.description();
        let text = format!(
            "{}: code = {} description = \"{description}\"",
            self.domain, self.code
        );
        let metadata = HashMap::from([
            ("Domain".to_owned(), self.domain.clone()),
            ("Code".to_owned(), self.code.to_string()),
            ("Description".to_owned(), description),
            ("Reason".to_owned(), String::new()),
            ("Resolution".to_owned(), self.remedy.clone()),
            ("What".to_owned(), self.what.clone()),
            ("Cause".to_owned(), self.cause.clone()),
            ("Status".to_owned(), self.status.to_string()),
            ("Log".to_owned(), self.log.join("\n")),
        ]);
        annotated(REASON, &self.domain, text, metadata)
    }

    /// The fault that `status` carries, also when another server of this protocol made it; `None`
    /// if it carries none.
    pub fn from_status(status: &Status) -> Option<Fault> {
        let mut metadata = annotation(status, REASON)?;
        let mut take = |key: &str| metadata.remove(key).unwrap_or_default();
        let description = take("Description");
        let what = Some(take("What"))
            .filter(|what| !what.is_empty())
            .unwrap_or(description);
        Some(Fault {
            status: take("Status")
                .parse()
                .unwrap_or(ResponseStatus::CtlErrUnknown as i32),
            code: take("Code").parse().unwrap_or_default(),
            domain: take("Domain"),
            what,
            cause: take("Cause"),
            remedy: take("Resolution"),
            log: take("Log").lines().map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for Fault {
    /// What failed, why, and what to do next, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description())?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        fault.to_status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Fault {
        let mut fault = Fault::new(
            ResponseStatus::CtlErrNvme,
            "bdev",
            302,
            "format of 0000:81:00.0",
            "the device is mounted at /data",
            "unmount it, or take it out of bdev_list",
        );
        fault.log = vec!["one".into(), "two".into()];
        fault
    }

    #[test]
    fn survives_the_way_through_a_status() {
        let status = fault().to_status();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(
            status.message(),
            "bdev: code = 302 description = \"format of 0000:81:00.0: the device is mounted at /data\""
        );
        assert_eq!(Fault::from_status(&status), Some(fault()));
    }

    #[test]
    fn reads_the_faults_of_other_servers() {
        let info = rpc::ErrorInfo {
            reason: REASON.into(),
            domain: "server".into(),
            metadata: HashMap::from([
                ("Domain".into(), "server".into()),
                ("Code".into(), "611".into()),
                ("Description".into(), "no engine is ready".into()),
                ("Reason".into(), String::new()),
                ("Resolution".into(), "start one".into()),
            ]),
        };
        let details = rpc::Status {
            code: 13,
            message: String::new(),
            details: vec![rpc::Detail {
                type_url: ERROR_INFO.into(),
                value: info.encode_to_vec(),
            }],
        };
        let status = Status::with_details(Code::Internal, "x", details.encode_to_vec().into());
        let fault = Fault::from_status(&status).unwrap();
        assert_eq!(
            (fault.code, fault.what.as_str()),
            (611, "no engine is ready")
        );
        assert_eq!(fault.to_string(), "no engine is ready (start one)");
    }

    #[test]
    fn other_annotations_are_told_apart() {
        let status = daos_status(-1007, "no room");
        assert_eq!(status.message(), "DER_NOSPACE(-1007): no room");
        assert_eq!(status_number(&status), Some(-1007));
        assert!(!is_pool_not_found(&status) && Fault::from_status(&status).is_none());
        let status = not_replica(&["a:1".to_owned(), "b:2".to_owned()]);
        assert_eq!(replicas(&status), ["a:1", "b:2"]);
        assert!(is_not_replica(&status) && status.message().ends_with("(try one of a:1,b:2)"));
        let info = annotation(&status, NOT_REPLICA).unwrap();
        assert_eq!(info["Replicas"], r#"["a:1","b:2"]"#);
        let status = pool_not_found("tank", false);
        assert_eq!(
            status.message(),
            "unable to find pool service with label \"tank\""
        );
        assert!(is_pool_not_found(&status) && status_number(&status).is_none());
        let info = annotation(&status, POOL_NOT_FOUND).unwrap();
        assert_eq!(
            info["PoolInfo"],
            r#"{"Rank":null,"UUID":null,"Label":"tank"}"#
        );
    }

    #[test]
    fn a_plain_error_carries_no_fault() {
        assert_eq!(Fault::from_status(&Status::unknown("no")), None);
        let junk = Status::with_details(Code::Internal, "x", vec![0xff; 9].into());
        assert_eq!(Fault::from_status(&junk), None);
    }
}
