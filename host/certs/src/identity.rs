//! What a component proves itself with.

use crate::error::Problem;
use crate::facts::{Facts, facts};
use crate::role::Role;
use crate::secret::{self, CERTIFICATE_MODE, Stamp};
use crate::tls;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where a component's certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// Certificate of the component, further ones up to the authority behind it.
    pub cert: PathBuf,
    /// Private key of the component.
    pub key: PathBuf,
}

impl Files {
    /// The files of `role` in a directory as `daos_server cert init` makes it.
    #[must_use]
    pub fn in_dir(dir: &Path, role: Role) -> Self {
        Self {
            ca: dir.join("daosCA.crt"),
            cert: dir.join(format!("{role}.crt")),
            key: dir.join(format!("{role}.key")),
        }
    }

    pub(crate) fn stamps(&self) -> std::io::Result<[Stamp; 3]> {
        Ok([
            Stamp::of(&self.ca)?,
            Stamp::of(&self.cert)?,
            Stamp::of(&self.key)?,
        ])
    }
}

/// A component's certificate and key, and the authority that it trusts: checked.
#[derive(Debug)]
pub struct Identity {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    facts: Facts,
    pub(crate) stamps: [Stamp; 3],
}

/// What mends most problems.
const REMEDY: &str = "make certificates with `daos_server cert init`, or issue one with `daos_server cert issue`, or run \
                      without TLS (-i)";

impl Identity {
    /// Whether the files still are those that were loaded. Looks at their inodes, not into them.
    #[must_use]
    pub fn is_current(&self, files: &Files) -> bool {
        files.stamps().is_ok_and(|stamps| stamps == self.stamps)
    }

    /// Loads and checks a component's files: modes, dates, authority, common name (`name`), purpose
    /// and that key and certificate belong together.
    ///
    /// # Errors
    /// The first problem.
    pub fn load(files: &Files, role: Role, name: &str) -> Result<Self, Box<Problem>> {
        let (ca, ca_stamp) = certificates(&files.ca)?;
        let now = OffsetDateTime::now_utc();
        let mut roots = RootCertStore::empty();
        for certificate in ca {
            let said = read_facts(&files.ca, &certificate)?;
            in_time(&files.ca, &said, now)?;
            if !said.is_authority {
                return Err(Problem::invalid(
                    &files.ca,
                    format!("is no authority's certificate but one of {:?}", said.name),
                    "name the file daosCA.crt of the system's certificates as ca_cert",
                ));
            }
            roots.add(certificate).map_err(|error| {
                Problem::invalid(&files.ca, format!("cannot be used: {error}"), REMEDY)
            })?;
        }
        let roots = Arc::new(roots);

        let (chain, cert_stamp) = certificates(&files.cert)?;
        let (first, rest) = chain.split_first().ok_or_else(|| empty(&files.cert))?;
        let facts = read_facts(&files.cert, first)?;
        if facts.name != name {
            return Err(Problem::invalid(
                &files.cert,
                format!(
                    "is the certificate of {:?}, and {name:?} is wanted here",
                    facts.name
                ),
                format!(
                    "use the one of this component, or issue it: daos_server cert issue {role}"
                ),
            ));
        }
        in_time(&files.cert, &facts, now)?;
        let clock = UnixTime::now();
        tls::verify_as_client(first, rest, &roots, clock)
            .and_then(|()| match role {
                Role::Server => tls::verify_as_server(first, rest, &roots, clock),
                Role::Admin | Role::Agent => Ok(()),
            })
            .map_err(|error| {
                Problem::invalid(
                    &files.cert,
                    format!("is refused: {}", tls::refusal(&error)),
                    format!(
                        "use the certificate that the authority of {} signed, or issue one with it: daos_server cert \
                         issue {role}",
                        files.ca.display()
                    ),
                )
            })?;

        let (bytes, key_stamp) = secret::read(&files.key, role.key_mode(), REMEDY)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            Problem::invalid(&files.key, format!("holds no private key: {error}"), REMEDY)
        })?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), tls::provider()).map_err(
            |error| {
                let what = match error {
                    rustls::Error::InconsistentKeys(_) => {
                        format!(
                            "does not belong to the certificate {}",
                            files.cert.display()
                        )
                    }
                    other => format!("cannot be used: {other}"),
                };
                Problem::invalid(
                    &files.key,
                    what,
                    "use the two files that were issued together",
                )
            },
        )?;
        Ok(Self {
            roots,
            chain,
            key,
            facts,
            stamps: [ca_stamp, cert_stamp, key_stamp],
        })
    }

    /// What its certificate says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// Reads a PEM file of certificates, at least one.
pub(crate) fn certificates(
    path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, Stamp), Box<Problem>> {
    let (bytes, stamp) = secret::read(path, CERTIFICATE_MODE, REMEDY)?;
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Problem::invalid(path, format!("is no PEM file: {error}"), REMEDY))?;
    if found.is_empty() {
        return Err(empty(path));
    }
    Ok((found, stamp))
}

fn empty(path: &Path) -> Box<Problem> {
    Problem::invalid(path, "holds no certificate", REMEDY)
}

fn read_facts(path: &Path, certificate: &CertificateDer<'_>) -> Result<Facts, Box<Problem>> {
    facts(certificate).map_err(|error| {
        Problem::invalid(
            path,
            format!("holds a certificate that cannot be read: {error}"),
            REMEDY,
        )
    })
}

/// Whether a certificate is valid now.
pub(crate) fn in_time(path: &Path, facts: &Facts, now: OffsetDateTime) -> Result<(), Box<Problem>> {
    let say = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_else(|_| time.to_string());
    let (what, remedy) = if now > facts.not_after {
        (
            format!("has expired on {}", say(facts.not_after)),
            "issue a new one with `daos_server cert issue` (an authority with `daos_server cert init`)",
        )
    } else if now < facts.not_before {
        (
            format!("is not valid before {}", say(facts.not_before)),
            "compare the clock of this machine with the one it was made on",
        )
    } else {
        return Ok(());
    };
    Err(Problem::invalid(
        path,
        format!("{what}; it is {} now", say(now)),
        remedy,
    ))
}
