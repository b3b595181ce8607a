//! The client's end of a connection as a gRPC channel.

use crate::error::explain;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

/// Connects to the control plane of a host, `host:port`, over TLS if there is a configuration for it
/// and else in plain text. `endpoint` must have the scheme `http`; its time for connecting includes
/// the handshake.
///
/// # Errors
/// Why it could not be reached, or why one end does not accept the other, in words.
pub async fn connect(
    endpoint: Endpoint,
    host: &str,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Channel, String> {
    let connected = match tls {
        None => endpoint.connect().await,
        Some(config) => {
            let connector = TlsConnector::from(config);
            let secured = tower::service_fn(move |to: Uri| secure(connector.clone(), to));
            endpoint.connect_with_connector(secured).await
        }
    };
    connected.map_err(|error| {
        let peer = format!("the server at {host}");
        explain(&error, &peer).unwrap_or_else(|| {
            format!(
                "failed to connect to {host}: {}; check that daos_server runs there and listens on that port",
                root_cause(&error)
            )
        })
    })
}

async fn secure(
    connector: TlsConnector,
    to: Uri,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let authority = to
        .authority()
        .ok_or_else(|| io::Error::other("the address names no host"))?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    // Not verified, see `client_config`; only there so that it can be told what was dialled. Names
    // that TLS cannot carry are dialled all the same.
    let name = ServerName::try_from(host.to_owned())
        .unwrap_or(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4]))));
    connector.connect(name, stream).await.map(TokioIo::new)
}

/// Whether a host that does not understand plain text speaks TLS, for the sentence that says so: it is greeted in plain
/// HTTP/2, which TLS answers with an alert. Within two seconds.
pub async fn speaks_tls(host: &str) -> bool {
    /// How HTTP/2 begins (RFC 9113, section 3.4).
    const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// Content type of an alert (RFC 8446, section 5.1); HTTP/2's first byte is the length of its settings.
    const ALERT: u8 = 21;
    let greet = async {
        let mut stream = TcpStream::connect(host).await?;
        stream.write_all(GREETING).await?;
        stream.read_u8().await
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), greet).await;
    matches!(answer, Ok(Ok(ALERT)))
}

/// The innermost cause, which is the one that says something ("Connection refused").
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
