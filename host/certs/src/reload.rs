//! Certificates that are replaced while a server runs.

use crate::error::Problem;
use crate::identity::{Files, Identity};
use crate::role::Role;
use crate::secret::Stamp;
use crate::tls::server_config;
use rustls::ServerConfig;
use std::sync::{Arc, Mutex, PoisonError};

/// The server's end of connections, always by the files as they are now.
///
/// Each new connection looks at the files' inodes; what changed is loaded and checked. Files that
/// are no good - half replaced, say - leave the last good ones in use.
pub struct Renewing {
    files: Files,
    name: String,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// The files at the last look, good or not.
    seen: Option<[Stamp; 3]>,
}

/// What a look at the files has found.
#[derive(Debug)]
pub enum Renewal {
    /// They are as before.
    Same,
    /// New certificates are in use; the day the server's ends.
    Renewed(time::OffsetDateTime),
    /// They have changed and cannot be used; the ones before stay in use. Said once per change.
    Refused(Box<Problem>),
}

impl Renewing {
    /// Loads the server's files; `name` is the common name of its certificate.
    ///
    /// # Errors
    /// The first problem with the files.
    pub fn load(files: Files, name: &str) -> Result<Self, Box<Problem>> {
        let identity = Identity::load(&files, Role::Server, name)?;
        let config = config(&files, &identity)?;
        Ok(Self {
            files,
            name: name.to_owned(),
            current: Mutex::new(Current {
                config,
                seen: Some(identity.stamps),
            }),
        })
    }

    /// The common name of servers' certificates.
    #[must_use]
    pub fn server_name(&self) -> &str {
        &self.name
    }

    /// The configuration for a connection that begins now, and what has become of the files.
    /// Reads files only after a change.
    pub fn config(&self) -> (Arc<ServerConfig>, Renewal) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.files.stamps().ok();
        if seen == current.seen {
            return (Arc::clone(&current.config), Renewal::Same);
        }
        let loaded = Identity::load(&self.files, Role::Server, &self.name)
            .and_then(|identity| Ok((config(&self.files, &identity)?, identity)));
        let renewal = match loaded {
            Ok((config, identity)) => {
                current.config = config;
                // Of what was read: a change since then is seen by the next look.
                current.seen = Some(identity.stamps);
                Renewal::Renewed(identity.facts().not_after)
            }
            Err(problem) => {
                current.seen = seen;
                Renewal::Refused(problem)
            }
        };
        (Arc::clone(&current.config), renewal)
    }
}

fn config(files: &Files, identity: &Identity) -> Result<Arc<ServerConfig>, Box<Problem>> {
    server_config(identity).map_err(|error| {
        Problem::invalid(
            &files.cert,
            format!("cannot be used: {error}"),
            "issue a new one",
        )
    })
}
