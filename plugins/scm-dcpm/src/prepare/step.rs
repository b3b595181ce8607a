//! One change.

use super::tools::Program;
use std::fmt;

/// Name that our namespaces carry in their labels.
pub(super) const NAME: &str = "daos";

/// One change of persistent memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Makes a namespace of a region: of the largest free piece, or of so many bytes of it.
    Create {
        region: String,
        bytes: u64,
        part: bool,
    },
    /// Enables a namespace, whatever it then turns out to be.
    Enable { namespace: String },
    /// Makes an fsdax namespace of a raw one that holds nothing; labels are initialised on the way where
    /// modules have areas for them that were never used.
    Reconfigure {
        namespace: String,
        bytes: Option<u64>,
    },
    /// Disables a namespace.
    Disable { namespace: String },
    /// Destroys a namespace that is disabled, or was only begun.
    Destroy { namespace: String },
    /// Has the BIOS make a socket's modules one interleaved set, or plain memory, at the next boot.
    /// What has to be `gone` first is what stands on them.
    Goal {
        socket: u32,
        mode: Mode,
        gone: Vec<String>,
    },
    /// Forgets what the BIOS is to make of a socket's modules.
    DropGoal { socket: u32 },
}

/// What modules are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Ranges of persistent memory.
    AppDirect,
    /// Main memory, of which other memory is the cache.
    Memory,
}

impl Step {
    /// Who does it.
    pub(super) fn program(&self) -> Program {
        match self {
            Self::Goal { .. } | Self::DropGoal { .. } => Program::Ipmctl,
            _ => Program::Ndctl,
        }
    }

    /// The program's arguments.
    pub(super) fn command(&self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let create = |rest: &[&str]| {
            let how = [
                "create-namespace",
                "--mode=fsdax",
                "--map=dev",
                "--name",
                NAME,
            ];
            words(&[&how, rest].concat())
        };
        match self {
            Self::Create {
                region,
                part: false,
                ..
            } => create(&["--region", region]),
            Self::Create {
                region,
                bytes,
                part: true,
            } => create(&["--size", &bytes.to_string(), "--region", region]),
            Self::Reconfigure {
                namespace,
                bytes: None,
            } => create(&["--force", "--reconfig", namespace]),
            Self::Reconfigure {
                namespace,
                bytes: Some(bytes),
            } => create(&[
                "--force",
                "--size",
                &bytes.to_string(),
                "--reconfig",
                namespace,
            ]),
            Self::Enable { namespace } => words(&["enable-namespace", namespace]),
            Self::Disable { namespace } => words(&["disable-namespace", namespace]),
            Self::Destroy { namespace } => words(&["destroy-namespace", namespace]),
            Self::Goal { socket, mode, .. } => {
                let mode = match mode {
                    Mode::AppDirect => "PersistentMemoryType=AppDirect",
                    Mode::Memory => "MemoryMode=100",
                };
                let socket = socket.to_string();
                words(&[
                    "create", "-o", "nvmxml", "-f", "-goal", "-socket", &socket, mode,
                ])
            }
            Self::DropGoal { socket } => words(&[
                "delete",
                "-o",
                "nvmxml",
                "-goal",
                "-socket",
                &socket.to_string(),
            ]),
        }
    }

    /// What it is done to.
    pub(super) fn subject(&self) -> String {
        match self {
            Self::Create { region, .. } => region.clone(),
            Self::Enable { namespace }
            | Self::Reconfigure { namespace, .. }
            | Self::Disable { namespace }
            | Self::Destroy { namespace } => namespace.clone(),
            Self::Goal { socket, .. } | Self::DropGoal { socket } => format!("socket {socket}"),
        }
    }

    /// Whether it is to be done at all once some subjects are given up: a goal would destroy what stands on them.
    pub(super) fn is_possible(&self, given_up: &[String]) -> bool {
        let spared = match self {
            Self::Goal { gone, .. } => gone.as_slice(),
            _ => &[],
        };
        !given_up.contains(&self.subject()) && !spared.iter().any(|one| given_up.contains(one))
    }

    /// Whether it waits for other steps, which are to be looked at before.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Goal { gone, .. } if !gone.is_empty())
    }

    /// What is told while it is done, in the words of the manual.
    pub(super) fn progress(&self) -> String {
        match self {
            step if step.is_long() => {
                "creating SCM namespace, may take a few minutes...".to_owned()
            }
            Self::Destroy { .. } => "removing SCM namespace, may take a few minutes...".to_owned(),
            Self::Goal {
                mode: Mode::Memory, ..
            } => "resetting SCM memory allocations".to_owned(),
            step => step.to_string(),
        }
    }

    /// Whether it makes a namespace, which may take minutes.
    fn is_long(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Reconfigure { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { region, bytes, .. } => write!(
                f,
                "create an fsdax namespace of {} MiB on {region}",
                bytes >> 20
            ),
            Self::Enable { namespace } => write!(f, "enable {namespace}"),
            Self::Reconfigure { namespace, .. } => {
                write!(
                    f,
                    "make {namespace}, which is raw and empty, an fsdax namespace"
                )
            }
            Self::Disable { namespace } => write!(f, "disable {namespace}"),
            Self::Destroy { namespace } => write!(f, "destroy {namespace}"),
            Self::Goal {
                socket,
                mode: Mode::AppDirect,
                ..
            } => write!(
                f,
                "have the modules of socket {socket} made one interleaved App Direct region at the next boot"
            ),
            Self::Goal {
                socket,
                mode: Mode::Memory,
                ..
            } => write!(
                f,
                "have the modules of socket {socket} made Memory Mode at the next boot"
            ),
            Self::DropGoal { socket } => {
                write!(f, "delete the memory allocation goal of socket {socket}")
            }
        }
    }
}
