use super::*;
use crate::telemetry::Calls;
use crate::transport::incoming;
use daos_certs::{Authority, Renewing, Validity, create};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
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
    counting(system).await.0
}

/// The same, with how long each of the calls that it has carried out was allowed to take.
async fn counting(system: Option<&System>) -> (SocketAddr, Arc<Mutex<Vec<Duration>>>) {
    let renewing = system.map(|s| Arc::new(Renewing::load(s.files(), "server").unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = incoming(listener, renewing, Calls::default());
    let (_, health) = tonic_health::server::health_reporter();
    let done = Arc::new(Mutex::new(Vec::new()));
    let note = {
        let done = Arc::clone(&done);
        move |request: Request<()>| {
            let within = request.metadata().get("grpc-timeout").unwrap();
            lock(&done).push(duration(within.to_str().unwrap()));
            Ok(request)
        }
    };
    let routes = Server::builder().add_service(InterceptedService::new(health, note));
    tokio::spawn(routes.serve_with_incoming(connections));
    (address, done)
}

/// What a `grpc-timeout` says.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap();
    match unit {
        "n" => Duration::from_nanos(number),
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        "S" => Duration::from_secs(number),
        other => panic!("{other}"),
    }
}

/// The way to a server, on which connections are counted, silenced and cut.
struct Door {
    address: SocketAddr,
    passed: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<Way>>>,
    accepting: JoinHandle<()>,
}

/// A connection through the door.
struct Way {
    through: JoinHandle<()>,
    /// Answers do not come out of it any more.
    mute: Arc<AtomicBool>,
}

/// Hands what the server says on, unless it is silenced.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mute: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if !mute.load(Ordering::SeqCst) && to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
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
                    let (near, _) = listener.accept().await.unwrap();
                    passed.fetch_add(1, Ordering::SeqCst);
                    let mute = Arc::new(AtomicBool::new(false));
                    let through = tokio::spawn({
                        let mute = Arc::clone(&mute);
                        async move {
                            let (mut from, back) = near.into_split();
                            let far = TcpStream::connect(to).await.unwrap();
                            let (said, mut to) = far.into_split();
                            // Ends with either side.
                            tokio::select! {
                                _ = tokio::io::copy(&mut from, &mut to) => {}
                                () = answers(said, back, &mute) => {}
                            }
                        }
                    });
                    lock(&open).push(Way { through, mute });
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

    /// Nothing comes out of the connections that there are any more, as from a server that hangs.
    fn mute(&self) {
        for way in &*lock(&self.open) {
            way.mute.store(true, Ordering::SeqCst);
        }
    }

    /// Ends all connections, as a server that is killed does.
    async fn cut(&self) {
        let open = std::mem::take(&mut *lock(&self.open));
        for way in open {
            way.through.abort();
            // Cancelled, which is what it shall be.
            let _ = way.through.await;
        }
    }

    /// Nobody listens there any more.
    async fn shut(self) {
        self.cut().await;
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

async fn check(peers: &Peers, at: SocketAddr) -> Result<(), Status> {
    check_within(peers, at, WITHIN).await
}

async fn check_within(peers: &Peers, at: SocketAddr, within: Duration) -> Result<(), Status> {
    let call = async |peer: Peer| {
        let request = HealthCheckRequest::default();
        HealthClient::new(peer).check(request).await.map(drop)
    };
    peers.ask(&at.to_string(), within, call).await
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waited = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waited).await;
    waited.unwrap_or_else(|_| panic!("{what}"));
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
    // Keeps the port from everybody else while nobody listens there.
    let place = TcpSocket::new_v4().unwrap();
    place.set_reuseaddr(true).unwrap();
    place.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = place.local_addr().unwrap();
    let door = Door::at(&at.to_string(), to).await;
    let peers = plain();
    check(&peers, at).await.unwrap();
    door.shut().await;
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
    let (to, done) = counting(None).await;
    let door = Door::to(to).await;
    let peers = plain();
    check(&peers, door.address).await.unwrap();
    door.mute();
    let short = Duration::from_millis(300);
    let begun = Instant::now();
    let late = check_within(&peers, door.address, short).await.unwrap_err();
    assert!(begun.elapsed() >= short, "{:?}", begun.elapsed());
    assert!(is_lost(&late) && is_late(&late), "{late:?}");
    assert_eq!((door.passed(), lock(&done).len()), (1, 2), "asked again");
    assert!(lock(&peers.0.kept).is_empty(), "it is not kept");
}

#[tokio::test]
async fn a_new_connection_that_stays_silent_is_not_kept() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let held = tokio::spawn({
        let accepted = Arc::clone(&accepted);
        async move {
            let mut held = Vec::new();
            loop {
                held.push(silent.accept().await.unwrap());
                accepted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let peers = plain();
    for turn in 1..3 {
        let short = Duration::from_millis(300);
        let late = check_within(&peers, at, short).await.unwrap_err();
        assert!(is_late(&late), "{late:?}");
        assert_eq!(accepted.load(Ordering::SeqCst), turn);
        assert!(lock(&peers.0.kept).is_empty(), "it is not kept");
    }
    held.abort();
}

#[tokio::test]
async fn what_is_lost_on_a_kept_connection_is_done_again_in_the_time_that_is_left() {
    let (to, done) = counting(None).await;
    let door = Door::to(to).await;
    let peers = plain();
    check(&peers, door.address).await.unwrap();
    door.mute();
    let pause = Duration::from_millis(300);
    let loss = async {
        until("the request has passed", || lock(&done).len() == 2).await;
        tokio::time::sleep(pause).await;
        door.cut().await;
    };
    let (answer, ()) = tokio::join!(check(&peers, door.address), loss);
    answer.unwrap();
    assert_eq!(door.passed(), 2);
    let done = lock(&done).clone();
    assert_eq!(done.len(), 3, "the first, and that one twice: {done:?}");
    assert!(done[2] <= WITHIN - pause, "{done:?}");
    assert!(done[2] > Duration::ZERO, "{done:?}");
}

#[tokio::test]
async fn a_late_call_leaves_a_newer_connection_alone() {
    let door = Door::to(server(None).await).await;
    let peers = plain();
    check(&peers, door.address).await.unwrap();
    door.mute();
    // Both are on the first connection; the one that ends first has it forgotten.
    let (patient, ()) = tokio::join!(
        check_within(&peers, door.address, Duration::from_millis(1500)),
        async {
            let hasty = check_within(&peers, door.address, Duration::from_millis(300)).await;
            assert!(is_late(&hasty.unwrap_err()));
            check(&peers, door.address).await.unwrap();
            assert_eq!(door.passed(), 2);
        }
    );
    assert!(is_late(&patient.unwrap_err()));
    check(&peers, door.address).await.unwrap();
    assert_eq!(door.passed(), 2, "the newer one is still there");
}

#[tokio::test]
async fn who_calls_at_the_same_time_has_the_same_connection_made() {
    let system = System::new();
    let door = Door::to(server(Some(&system)).await).await;
    for turn in 1..4 {
        let peers = system.peers();
        let at_once = (0..20).map(|_| check(&peers, door.address));
        for answer in futures_util::future::join_all(at_once).await {
            answer.unwrap();
        }
        assert_eq!(door.passed(), turn);
    }
}

#[tokio::test]
async fn who_waits_for_a_connection_hears_why_there_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let closing = tokio::spawn({
        let accepted = Arc::clone(&accepted);
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                // Long enough for all to wait for it.
                tokio::time::sleep(Duration::from_millis(300)).await;
                drop(stream);
            }
        }
    });
    let system = System::new();
    let peers = system.peers();
    for round in 1..3 {
        let at_once = (0..5).map(|_| check(&peers, at));
        for answer in futures_util::future::join_all(at_once).await {
            let refused = answer.unwrap_err();
            assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
            assert!(refused.message().contains(&at.to_string()), "{refused:?}");
        }
        // Who comes later tries again.
        assert_eq!(accepted.load(Ordering::SeqCst), round);
    }
    closing.abort();
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
