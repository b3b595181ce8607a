//! One change.

use std::fmt;

/// Name that our namespaces carry in their labels.
pub(super) const NAME: &str = "daos";

/// One change of persistent memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Makes a namespace of the largest free piece of a region.
    Create { region: String, bytes: u64 },
    /// Enables a namespace, whatever it then turns out to be.
    Enable { namespace: String },
    /// Makes an fsdax namespace of a raw one that holds nothing; labels are initialised on the way where
    /// modules have areas for them that were never used.
    Reconfigure { namespace: String },
    /// Disables a namespace.
    Disable { namespace: String },
    /// Destroys a namespace that is disabled.
    Destroy { namespace: String },
}

impl Step {
    /// Arguments of `ndctl`.
    pub(super) fn command(&self) -> Vec<&str> {
        const CREATE: [&str; 5] = [
            "create-namespace",
            "--mode=fsdax",
            "--map=dev",
            "--name",
            NAME,
        ];
        match self {
            Self::Create { region, .. } => {
                let mut command = CREATE.to_vec();
                command.extend(["--region", region]);
                command
            }
            Self::Reconfigure { namespace } => {
                let mut command = CREATE.to_vec();
                command.extend(["--force", "--reconfig", namespace]);
                command
            }
            Self::Enable { namespace } => vec!["enable-namespace", namespace],
            Self::Disable { namespace } => vec!["disable-namespace", namespace],
            Self::Destroy { namespace } => vec!["destroy-namespace", namespace],
        }
    }

    /// What it is done to.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Create { region, .. } => region,
            Self::Enable { namespace }
            | Self::Reconfigure { namespace }
            | Self::Disable { namespace }
            | Self::Destroy { namespace } => namespace,
        }
    }

    /// Whether it makes a namespace, which may take minutes.
    pub(super) fn is_long(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Reconfigure { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { region, bytes } => write!(
                f,
                "create an fsdax namespace of {} MiB on {region}",
                bytes >> 20
            ),
            Self::Enable { namespace } => write!(f, "enable {namespace}"),
            Self::Reconfigure { namespace } => {
                write!(
                    f,
                    "make {namespace}, which is raw and empty, an fsdax namespace"
                )
            }
            Self::Disable { namespace } => write!(f, "disable {namespace}"),
            Self::Destroy { namespace } => write!(f, "destroy {namespace}"),
        }
    }
}
