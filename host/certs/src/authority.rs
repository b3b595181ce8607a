//! Making certificates.

use crate::error::Problem;
use crate::role::Role;
use crate::secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use std::path::Path;
use time::{Duration, OffsetDateTime};

/// How far before now a certificate begins to be valid, since clocks of nodes differ.
const HEAD_START: Duration = Duration::hours(1);

/// When a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// First moment.
    pub from: OffsetDateTime,
    /// Last moment.
    pub to: OffsetDateTime,
}

impl Validity {
    /// From now (an hour earlier, since clocks differ) for so many days.
    #[must_use]
    pub fn days(days: u32) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            from: now - HEAD_START,
            to: now + Duration::days(days.into()),
        }
    }
}

/// The authority of a system: signs the certificates of its components.
///
/// Keys are ECDSA on P-256. Subjects are `O=DAOS, CN=...` as in the DAOS 2.8 control plane.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    key: String,
}

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(validity: Validity) -> Result<Self, rcgen::Error> {
        let mut params = params("DAOS CA", validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        Ok(Self {
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority in these two PEM files; the key's must not be wider than 0400.
    ///
    /// # Errors
    /// If one is missing, unreadable, too widely readable, or not what it should be.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Box<Problem>> {
        const REMEDY: &str = "name the directory that `daos_server cert init` wrote with --ca-dir";
        let text = |path: &Path, widest| {
            let (bytes, _) = secret::read(path, widest, REMEDY)?;
            String::from_utf8(bytes).map_err(|_| Problem::invalid(path, "is no PEM file", REMEDY))
        };
        let certificate_pem = text(certificate, secret::CERTIFICATE_MODE)?;
        let key_pem = text(key, 0o400)?;
        let pair = KeyPair::from_pem(&key_pem).map_err(|error| {
            Problem::invalid(key, format!("holds no private key: {error}"), REMEDY)
        })?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, pair).map_err(|error| {
            Problem::invalid(
                certificate,
                format!("holds no authority's certificate: {error}"),
                REMEDY,
            )
        })?;
        Ok(Self {
            issuer,
            certificate: certificate_pem,
            key: key_pem,
        })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, PEM: whoever has it can be anyone in the system.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A certificate for a component and its private key, both PEM. `name` is its common name, a
    /// role's unless the system calls its servers otherwise (`server_name`).
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn issue(
        &self,
        role: Role,
        name: &str,
        validity: Validity,
    ) -> Result<(String, String), rcgen::Error> {
        let mut params = params(name, validity);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = match role {
            // Servers call each other.
            Role::Server => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Role::Admin | Role::Agent => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn params(name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "DAOS");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = validity.from;
    params.not_after = validity.to;
    params
}
