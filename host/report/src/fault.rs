//! An error a person can act on.

use daos_proto::host::Fault;
use serde::Serialize;

/// What failed, why, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultRow {
    /// What failed, on what.
    pub what: String,
    /// Why.
    pub cause: String,
    /// What to do next.
    pub remedy: String,
    /// Last log lines of the process that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl From<&Fault> for FaultRow {
    fn from(fault: &Fault) -> Self {
        Self {
            what: fault.what.clone(),
            cause: fault.cause.clone(),
            remedy: fault.remedy.clone(),
            log: fault.log.clone(),
        }
    }
}

impl std::fmt::Display for FaultRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        if !self.remedy.is_empty() {
            write!(f, "\n    hint: {}", self.remedy)?;
        }
        for line in &self.log {
            write!(f, "\n    log: {line}")?;
        }
        Ok(())
    }
}
