//! The two ends of a connection.
//!
//! TLS 1.3 only, both ends show certificates, no session is resumed: a certificate is looked at
//! each time, so that a new one counts from the next connection on.

use crate::error::certificate;
use crate::facts::facts;
use crate::identity::Identity;
use crate::role::Role;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::sync::{Arc, LazyLock};

/// Protocol inside TLS: gRPC is HTTP/2.
pub const ALPN: &[u8] = b"h2";

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}

/// The server's end: clients must show a certificate of the authority. What one may call is
/// decided by its role, see [`role_of`].
///
/// # Errors
/// None for an identity that was loaded, but for an authority that cannot verify anything.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::clone(identity.roots()),
        Arc::clone(provider()),
    )
    .build()
    .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The client's end: the server must show a certificate of the authority with the common name
/// `server_name`. Its host name does not count: certificates are a component's, not a host's.
///
/// # Errors
/// None for an identity that was loaded.
pub fn client_config(
    identity: &Identity,
    server_name: &str,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = Arc::new(ByName {
        roots: Arc::clone(identity.roots()),
        name: server_name.to_owned(),
    });
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The role of a peer by the first of its certificates, which the handshake has verified.
///
/// # Errors
/// If its name is no role's: the name. Servers may be called otherwise: `server_name`.
pub fn role_of(chain: &[CertificateDer<'_>], server_name: &str) -> Result<Role, String> {
    let name = chain
        .first()
        .and_then(|first| facts(first).ok())
        .map(|facts| facts.name)
        .unwrap_or_default();
    if name == server_name {
        return Ok(Role::Server);
    }
    match name.parse() {
        // Whoever is called "server" where servers have another name is none of them.
        Ok(Role::Server) | Err(_) => Err(name),
        Ok(role) => Ok(role),
    }
}

/// Verifies a server's certificate by authority, purpose, dates and common name.
#[derive(Debug)]
struct ByName {
    roots: Arc<RootCertStore>,
    name: String,
}

/// A certificate of another component than was expected.
#[derive(Debug, thiserror::Error)]
#[error("its common name is {found:?}, a server's is {expected:?} (server_name)")]
struct WrongName {
    found: String,
    expected: String,
}

impl ServerCertVerifier for ByName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = facts(end_entity)
            .map_err(|_| CertificateError::BadEncoding)?
            .name;
        verify_as_server(end_entity, intermediates, &self.roots, now)?;
        if found != self.name {
            let wrong = WrongName {
                found,
                expected: self.name.clone(),
            };
            return Err(CertificateError::Other(OtherError(Arc::new(wrong))).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whether the authority vouches for a certificate as a server's, now.
pub(crate) fn verify_as_server(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
}

/// Whether the authority vouches for a certificate as a client's, now.
pub(crate) fn verify_as_client(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &Arc<RootCertStore>,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider()))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    verifier
        .verify_client_cert(end_entity, intermediates, now)
        .map(|_| ())
}

/// Why a certificate of ours is refused, in words.
pub(crate) fn refusal(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => certificate(why),
        other => other.to_string(),
    }
}
