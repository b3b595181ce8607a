use super::*;
use crate::telemetry::Calls;
use crate::transport::incoming;
use daos_certs::{Authority, Renewing, Validity, create};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Server;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const WITHIN: Duration = Duration::from_secs(10);

/// Certificates of a system in a directory.
struct System {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl System {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(Validity::days(2)).unwrap();
        let system = Self { dir, authority };
        put(&system.files().ca, 0o644, system.authority.certificate());
        system.issue();
        system
    }

    fn files(&self) -> Files {
        Files::in_dir(self.dir.path(), Role::Server)
    }

    /// Gives the server other certificates.
    fn issue(&self) {
        let (cert, key) = self
            .authority
            .issue(Role::Server, "server", Validity::days(1))
            .unwrap();
        put(&self.files().cert, 0o644, &cert);
        put(&self.files().key, 0o400, &key);
    }

    fn peers(&self) -> Peers {
        let mut config = Config::default();
        let transport = &mut config.transport_config;
        let files = self.files();
        (transport.ca_cert, transport.cert, transport.key) = (files.ca, files.cert, files.key);
        Peers::new(&config)
    }
}

/// In place of what was there, as `daos_server cert issue --replace` does it.
fn put(file: &Path, mode: u32, content: &str) {
    let staged = file.with_extension("new");
    create(&staged, mode, content.as_bytes()).unwrap();
    std::fs::rename(staged, file).unwrap();
}

fn plain() -> Peers {
    let mut config = Config::default();
    config.transport_config.allow_insecure = true;
    Peers::new(&config)
}

/// A server that answers about its health, in plain text or with certificates.
async fn server(system: Option<&System>) -> SocketAddr {
    let renewing = system.map(|s| Arc::new(Renewing::load(s.files(), "server").unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = incoming(listener, renewing, Calls::default());
    let (_, health) = tonic_health::server::health_reporter();
    let routes = Server::builder().add_service(health);
    tokio::spawn(routes.serve_with_incoming(connections));
    address
}

/// The way to a server, on which connections are counted and cut.
struct Door {
    address: SocketAddr,
    passed: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepting: JoinHandle<()>,
}

impl Door {
    async fn at(address: &str, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn({
            let (passed, open) = (Arc::clone(&passed), Arc::clone(&open));
            async move {
                loop {
                    let (mut near, _) = listener.accept().await.unwrap();
                    passed.fetch_add(1, Ordering::SeqCst);
                    let through = tokio::spawn(async move {
                        let mut far = TcpStream::connect(to).await.unwrap();
                        // Ends with either side.
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    });
                    lock(&open).push(through);
                }
            }
        });
        Self {
            address,
            passed,
            open,
            accepting,
        }
    }

    async fn to(server: SocketAddr) -> Self {
        Self::at("127.0.0.1:0", server).await
    }

    fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    /// Ends all connections, as a server that is killed does.
    async fn cut(&self) {
        let open = std::mem::take(&mut *lock(&self.open));
        for through in open {
            through.abort();
            // Cancelled, which is what it shall be.
            let _ = through.await;
        }
    }

    /// Nobody listens there any more. Returns where that was.
    async fn shut(self) -> SocketAddr {
        self.accepting.abort();
        let _ = self.accepting.await;
        let open = std::mem::take(&mut *lock(&self.open));
        for through in open {
            through.abort();
            let _ = through.await;
        }
        self.address
    }
}

async fn check(peers: &Peers, at: SocketAddr) -> Result<(), Status> {
    let call = async |peer: Peer| {
        let request = HealthCheckRequest::default();
        HealthClient::new(peer).check(request).await.map(drop)
    };
    peers.ask(&at.to_string(), WITHIN, call).await
}

#[tokio::test]
async fn calls_share_a_connection() {
    let system = System::new();
    let door = Door::to(server(Some(&system)).await).await;
    let peers = system.peers();
    for _ in 0..20 {
        check(&peers, door.address).await.unwrap();
    }
    let copy = peers.clone();
    let at_once = (0..20).map(|_| check(&copy, door.address));
    for answer in futures_util::future::join_all(at_once).await {
        answer.unwrap();
    }
    assert_eq!(door.passed(), 1);
    // One that is for a purpose of its own is not among them.
    let own = peers.connect(&door.address.to_string(), WITHIN).await;
    own.unwrap();
    check(&peers, door.address).await.unwrap();
    assert_eq!(door.passed(), 2);
}

#[tokio::test]
async fn replaced_certificates_are_shown_from_the_next_call_on() {
    let system = System::new();
    let door = Door::to(server(Some(&system)).await).await;
    let peers = system.peers();
    check(&peers, door.address).await.unwrap();
    system.issue();
    check(&peers, door.address).await.unwrap();
    check(&peers, door.address).await.unwrap();
    assert_eq!(door.passed(), 2, "the new ones are shown");
    // What is no good disturbs nobody, and what is good again counts.
    put(&system.files().cert, 0o644, "half");
    check(&peers, door.address).await.unwrap();
    assert_eq!(door.passed(), 2);
    door.cut().await;
    check(&peers, door.address).await.unwrap();
    assert_eq!(door.passed(), 3, "with the last good ones");
    system.issue();
    check(&peers, door.address).await.unwrap();
    assert_eq!(door.passed(), 4);
    // A server that begins with files that are no good says which.
    put(&system.files().cert, 0o644, "half");
    let refused = check(&system.peers(), door.address).await.unwrap_err();
    assert!(refused.message().contains("server.crt"), "{refused}");
}

#[tokio::test]
async fn a_server_that_was_restarted_answers_the_next_call() {
    let door = Door::to(server(None).await).await;
    let peers = plain();
    for turn in 1..10 {
        check(&peers, door.address).await.unwrap();
        assert_eq!(door.passed(), turn);
        door.cut().await;
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_and_found_when_it_is_back() {
    let to = server(None).await;
    let door = Door::to(to).await;
    let peers = plain();
    check(&peers, door.address).await.unwrap();
    let at = door.shut().await;
    for _ in 0..3 {
        let gone = check(&peers, at).await.unwrap_err();
        assert_eq!(gone.code(), Code::Unavailable);
        let words = format!("failed to connect to {at}");
        assert!(gone.message().contains(&words), "{gone}");
    }
    let door = Door::at(&at.to_string(), to).await;
    check(&peers, at).await.unwrap();
    check(&peers, at).await.unwrap();
    assert_eq!(door.passed(), 1);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_once() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(silent.accept().await.unwrap());
        }
    });
    let peers = plain();
    let short = Duration::from_millis(200);
    for _ in 0..2 {
        let call = async |peer: Peer| {
            HealthClient::new(peer)
                .check(HealthCheckRequest::default())
                .await
        };
        let begun = Instant::now();
        let late = peers.ask(&at.to_string(), short, call).await.unwrap_err();
        assert!(is_lost(&late), "{late:?}");
        assert!(begun.elapsed() < CONNECT, "{:?}", begun.elapsed());
        assert!(lock(&peers.0.kept).is_empty(), "it is not kept");
    }
    held.abort();
}

#[tokio::test]
async fn what_a_server_refuses_costs_no_connection() {
    let door = Door::to(server(None).await).await;
    let peers = plain();
    for _ in 0..5 {
        let call = async |peer: Peer| {
            let service = "nobody".to_owned();
            let request = HealthCheckRequest { service };
            HealthClient::new(peer).check(request).await
        };
        let refused = peers.ask(&door.address.to_string(), WITHIN, call).await;
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(door.passed(), 1);
}
