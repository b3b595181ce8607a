//! Certificates that nobody should have, and calls that no program of ours makes.

use crate::raw::Raw;
use daos_certs::{Authority, Files, Identity, Role, Validity, client_config, create};
use daos_e2e::Site;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// Issues files for a component in a directory of their own.
pub(super) fn issue(
    authority: &Authority,
    dir: &Path,
    role: Role,
    name: &str,
    hours: (i64, i64),
) -> Files {
    std::fs::create_dir_all(dir).expect("a directory");
    let now = OffsetDateTime::now_utc();
    let validity = Validity {
        from: now + time::Duration::hours(hours.0),
        to: now + time::Duration::hours(hours.1),
    };
    let files = Files::in_dir(dir, role);
    let (cert, key) = authority
        .issue(role, name, validity)
        .expect("random numbers");
    for (file, mode, content) in [
        (&files.ca, 0o644, authority.certificate()),
        (&files.cert, 0o644, &cert),
        (&files.key, 0o400, &key),
    ] {
        create(file, mode, content.as_bytes()).expect("a file");
    }
    files
}

pub(super) fn authority(certs: &Path) -> Authority {
    Authority::load(&certs.join("daosCA.crt"), &certs.join("daosCA.key")).expect("as made")
}

/// What a component of the system proves itself with.
pub(super) fn component(certs: &Path, role: Role) -> Arc<ClientConfig> {
    let identity = Identity::load(&Files::in_dir(certs, role), role, role.name()).expect("as made");
    client_config(&identity, "server").expect("as made")
}

pub(super) async fn channel(site: &Site, tls: Arc<ClientConfig>) -> Result<Channel, String> {
    let address = site.address();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    daos_certs::connect(endpoint, &address, Some(tls)).await
}

/// No message begins like this: whoever may call the method is told so, and nothing is done.
const NONSENSE: [u8; 12] = [0xff; 12];

/// Calls a method with a request that cannot be understood.
pub(super) async fn knock(
    channel: Channel,
    method: &str,
    claims: &str,
) -> Result<(), tonic::Status> {
    with(channel, method, claims, Raw(NONSENSE.to_vec())).await
}

/// Calls a method with an empty request.
pub(super) async fn call(
    channel: Channel,
    method: &str,
    claims: &str,
) -> Result<(), tonic::Status> {
    with(channel, method, claims, Raw(Vec::new())).await
}

async fn with(
    channel: Channel,
    method: &str,
    claims: &str,
    codec: Raw,
) -> Result<(), tonic::Status> {
    let mut client = Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let mut request = Request::new(());
    let claims = claims.parse().expect("a component");
    request
        .metadata_mut()
        .insert(daos_proto::COMPONENT_HEADER, claims);
    let path = PathAndQuery::try_from(method).expect("a path");
    client.unary(request, path, codec).await.map(|_| ())
}

/// Accepts every server, with the signatures that the real configuration knows.
#[derive(Debug)]
pub(super) struct Anyone(pub(super) Arc<ClientConfig>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.crypto_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.crypto_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.crypto_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
