//! What a certificate says.

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// What a certificate says about itself, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Common name of the subject; empty without one.
    pub name: String,
    /// Common name of the issuer; empty without one.
    pub issuer: String,
    /// Start of its validity.
    pub not_before: OffsetDateTime,
    /// End of its validity.
    pub not_after: OffsetDateTime,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Whether it may sign certificates.
    pub is_authority: bool,
}

/// Reads a certificate.
///
/// # Errors
/// If it is none (the parser's words).
pub fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let time = |t: &x509_parser::time::ASN1Time| t.to_datetime();
    Ok(Facts {
        name: common_name(parsed.subject()),
        issuer: common_name(parsed.issuer()),
        not_before: time(&parsed.validity().not_before),
        not_after: time(&parsed.validity().not_after),
        serial: parsed.raw_serial_as_string(),
        is_authority: parsed.is_ca(),
    })
}

fn common_name(name: &X509Name<'_>) -> String {
    // More than one is nobody's in particular.
    let mut names = name.iter_common_name();
    match (names.next(), names.next()) {
        (Some(one), None) => one.as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}
