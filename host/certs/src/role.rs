//! The components that a certificate can stand for.

use std::fmt;
use std::str::FromStr;

/// A component of the control plane. Its name is the common name of its certificate and the value
/// of the header `x-daos-component` of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// An administrator's tool.
    Admin,
    /// The agent of a compute node.
    Agent,
    /// The server of a storage node.
    Server,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Agent, Self::Server];

    /// The common name of its certificate.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Agent => "agent",
            Self::Server => "server",
        }
    }

    /// Widest mode of its key file. Administrators may share theirs with a group, as the DAOS 2.8
    /// control plane has it.
    #[must_use]
    pub const fn key_mode(self) -> u32 {
        match self {
            Self::Admin => 0o440,
            Self::Agent | Self::Server => 0o400,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or_else(|| format!("{name:?} is no component (admin, agent, server)"))
    }
}
