//! What can be wrong with a certificate, in words.

use rustls::{AlertDescription, CertificateError, InvalidMessage};
use std::error::Error as StdError;
use std::path::{Path, PathBuf};

/// What kind of problem a certificate file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such file.
    Missing,
    /// It cannot be read, or its mode lets others read or write it.
    Unreadable,
    /// It is no certificate or key, or one that must not be used.
    Invalid,
}

/// A certificate file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}; {remedy}", file.display())]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// What kind of problem it is.
    pub kind: Kind,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    pub(crate) fn new(
        file: &Path,
        kind: Kind,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            file: file.to_owned(),
            kind,
            what: what.into(),
            remedy: remedy.into(),
        })
    }

    pub(crate) fn invalid(
        file: &Path,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Box<Self> {
        Self::new(file, Kind::Invalid, what, remedy)
    }
}

/// Says in words why a TLS connection failed, if the error or one of its causes is of TLS.
///
/// `peer` is how the other end is called in the sentence ("the server at node1:10001").
#[must_use]
pub fn explain(error: &(dyn StdError + 'static), peer: &str) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(say(tls, peer));
        }
        // An I/O error hides what it wraps from `source`: it is its source's source.
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
            && let Some(tls) = inner.downcast_ref::<rustls::Error>()
        {
            return Some(say(tls, peer));
        }
        next = error.source();
    }
    None
}

fn say(error: &rustls::Error, peer: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => format!(
            "the certificate of {peer} is not accepted: {}",
            certificate(why)
        ),
        rustls::Error::NoCertificatesPresented => {
            format!("{peer} shows no certificate; every component needs one of the system's")
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => format!(
                "{peer} says that our certificate has expired or is not valid yet; compare the clocks, look with \
                 `daos_server cert show`"
            ),
            AlertDescription::UnknownCA | AlertDescription::DecryptError => format!(
                "{peer} does not accept our certificate: another authority signed it than the one that it trusts"
            ),
            AlertDescription::CertificateRequired => {
                format!("{peer} wants a certificate, and we showed none")
            }
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::UnsupportedCertificate => format!(
                "{peer} does not accept our certificate; look with `daos_server cert show`, and into its log"
            ),
            AlertDescription::ProtocolVersion => {
                format!("{peer} does not speak TLS 1.3, the only version that is spoken here")
            }
            other => format!("{peer} ended the handshake: {other:?}"),
        },
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => {
            format!("{peer} does not speak TLS")
        }
        rustls::Error::PeerIncompatible(why) => {
            format!("{peer} does not speak TLS 1.3 as it is spoken here: {why:?}")
        }
        other => format!("TLS with {peer} failed: {other}"),
    }
}

/// Why a certificate is refused, as the rest of a sentence about it.
pub(crate) fn certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, or the clock of this machine is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, or the clock of this machine is wrong".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "another authority signed it than the one in ca_cert".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not meant for this end of a connection (extended key usage)".to_owned()
        }
        CertificateError::Other(other) => other.to_string(),
        other => other.to_string(),
    }
}
