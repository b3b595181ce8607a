//! Both ends of connections, without a network: who is let in, and what is said to who is not.

use crate::site::Site;
use daos_certs::{Identity, Role, Validity, client_config, explain, role_of, server_config};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, ServerConfig, ServerConnection};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// What became of each end.
struct Ended {
    client: Result<(), rustls::Error>,
    server: Result<Role, String>,
}

/// Lets the two ends talk until neither has anything to say.
fn shake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Ended {
    let name = ServerName::try_from("node1").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let (mut client_end, mut server_end) = (Ok(()), Ok(()));
    for _ in 0..20 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut left = wire.as_slice();
        while !left.is_empty() && server_end.is_ok() {
            server.read_tls(&mut left).unwrap();
            server_end = server.process_new_packets().map(|_| ());
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut left = wire.as_slice();
        while !left.is_empty() && client_end.is_ok() {
            client.read_tls(&mut left).unwrap();
            client_end = client.process_new_packets().map(|_| ());
        }
    }
    if server_end.is_ok() && client_end.is_ok() {
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(server.alpn_protocol(), Some(daos_certs::ALPN));
        assert!(!server.is_handshaking());
    }
    Ended {
        client: client_end,
        server: server_end
            .map_err(|error| explain(&error, "the client").unwrap())
            .and_then(|()| role_of(server.peer_certificates().unwrap_or_default(), "server")),
    }
}

/// What the client is told.
fn told(ended: &Ended) -> String {
    explain(ended.client.as_ref().unwrap_err(), "the server").unwrap()
}

fn server(site: &Site) -> Arc<ServerConfig> {
    server_config(&site.identity(Role::Server)).unwrap()
}

#[test]
fn every_component_gets_in_as_what_it_is() {
    let site = Site::new();
    let server = server(&site);
    for role in Role::ALL {
        let client = client_config(&site.identity(role), "server").unwrap();
        let ended = shake(client, Arc::clone(&server));
        assert_eq!(ended.client, Ok(()));
        assert_eq!(ended.server, Ok(role));
    }
}

#[test]
fn a_name_that_is_no_component_has_no_role() {
    let site = Site::new();
    let files = site.issue_as(Role::Admin, "mallory", Validity::days(1));
    let client = Identity::load(&files, Role::Admin, "mallory").unwrap();
    let ended = shake(client_config(&client, "server").unwrap(), server(&site));
    assert_eq!(ended.server, Err("mallory".to_owned()));
}

#[test]
fn where_servers_have_another_name_server_is_nobody() {
    let site = Site::new();
    let files = site.issue(Role::Server, Validity::days(1));
    let chain = [CertificateDer::from_pem_file(&files.cert).unwrap()];
    assert_eq!(role_of(&chain, "server"), Ok(Role::Server));
    assert_eq!(role_of(&chain, "tank"), Err("server".to_owned()));
}

#[test]
fn another_authority_s_client_is_refused_by_name() {
    let (site, other) = (Site::new(), Site::new());
    // Trusts the server's authority, and shows a certificate of another one.
    let mut files = other.issue(Role::Admin, Validity::days(1));
    let identity = Identity::load(&files, Role::Admin, "admin").unwrap();
    files.ca = site.path().join("daosCA.crt");
    assert!(Identity::load(&files, Role::Admin, "admin").is_err());
    let ended = shake(client_config(&identity, "server").unwrap(), server(&site));
    assert!(told(&ended).contains("another authority signed it"));
}

#[test]
fn certificates_that_run_out_between_start_and_connection_are_refused() {
    // Loaded while valid, used when it is not: what a long-running component does.
    let site = Site::new();
    let client = client_config(&site.identity(Role::Admin), "server").unwrap();
    let now = OffsetDateTime::now_utc();
    let soon = Validity {
        from: now - Duration::HOUR,
        to: now + 5 * Duration::SECOND,
    };
    let files = site.issue(Role::Server, soon);
    let identity = Identity::load(&files, Role::Server, "server").unwrap();
    let server = server_config(&identity).unwrap();
    // Dates of certificates are whole seconds.
    let rest = soon.to + Duration::SECOND - OffsetDateTime::now_utc();
    std::thread::sleep(rest.try_into().unwrap_or_default());
    let said = told(&shake(client, server));
    assert!(said.contains("has expired"), "{said}");
}

#[test]
fn a_server_must_be_called_server_and_be_made_for_it() {
    let site = Site::new();
    let client = client_config(&site.identity(Role::Admin), "server").unwrap();
    let files = site.issue_as(Role::Server, "tank", Validity::days(1));
    let named = Identity::load(&files, Role::Server, "tank").unwrap();
    let said = told(&shake(Arc::clone(&client), server_config(&named).unwrap()));
    assert!(
        said.contains("\"tank\"") && said.contains("server_name"),
        "{said}"
    );
    // An administrator's certificate does not make a server.
    let admin = site.identity(Role::Admin);
    let said = told(&shake(client, server_config(&admin).unwrap()));
    assert!(said.contains("not meant for this end"), "{said}");
}

#[test]
fn who_shows_no_certificate_is_not_let_in() {
    let site = Site::new();
    let mut bare = (*client_config(&site.identity(Role::Admin), "server").unwrap()).clone();
    bare.client_auth_cert_resolver = Arc::new(NoCertificate);
    let ended = shake(Arc::new(bare), server(&site));
    assert!(
        ended
            .server
            .as_ref()
            .unwrap_err()
            .contains("shows no certificate"),
        "{:?}",
        ended.server
    );
    assert!(told(&ended).contains("wants a certificate"));
}

/// A client that never shows a certificate.
#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn plain_text_is_named_for_what_it_is() {
    let site = Site::new();
    let client = client_config(&site.identity(Role::Admin), "server").unwrap();
    let name = ServerName::try_from("node1").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    // What a server without TLS answers to a handshake: HTTP/2's own frames.
    let mut http2 = &b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"[..];
    client.read_tls(&mut http2).unwrap();
    let error = client.process_new_packets().unwrap_err();
    let said = explain(&error, "the server").unwrap();
    assert_eq!(said, "the server does not speak TLS");
}
