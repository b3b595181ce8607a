//! Certificates of a system in a directory of their own.

use daos_certs::{Authority, Files, Identity, Role, Validity, create};
use std::path::Path;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// A system's authority and the directory of its certificates.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
}

impl Site {
    /// An authority without components.
    pub(crate) fn new() -> Self {
        Self::with(Validity::days(2))
    }

    pub(crate) fn with(validity: Validity) -> Self {
        let dir = TempDir::new().unwrap();
        let authority = Authority::new(validity).unwrap();
        create(
            &dir.path().join("daosCA.crt"),
            0o644,
            authority.certificate().as_bytes(),
        )
        .unwrap();
        Self { dir, authority }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Issues a component's files, in place of what it had.
    pub(crate) fn issue(&self, role: Role, validity: Validity) -> Files {
        self.issue_as(role, role.name(), validity)
    }

    pub(crate) fn issue_as(&self, role: Role, name: &str, validity: Validity) -> Files {
        let files = Files::in_dir(self.path(), role);
        let (cert, key) = self.authority.issue(role, name, validity).unwrap();
        for (file, mode, content) in [(&files.cert, 0o644, cert), (&files.key, 0o400, key)] {
            let _ = std::fs::remove_file(file);
            create(file, mode, content.as_bytes()).unwrap();
        }
        files
    }

    /// A component with valid files.
    pub(crate) fn identity(&self, role: Role) -> Identity {
        Identity::load(&self.issue(role, Validity::days(1)), role, role.name()).unwrap()
    }
}

/// Valid from so many hours from now to so many hours from now.
pub(crate) fn hours(from: i64, to: i64) -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity {
        from: now + Duration::hours(from),
        to: now + Duration::hours(to),
    }
}
