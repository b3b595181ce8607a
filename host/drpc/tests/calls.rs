//! Calls over real sockets in a temporary directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use daos_drpc::methods::{mgmt, module, srv};
use daos_drpc::{
    BlockingClient, Client, Error, Limits, Listener, Module, Refusal, Reply, Request, Router,
    Server, Status, reply,
};
use daos_proto::mgmt::{DaosResp, SetRankReq};
use daos_proto::srv::NotifyReadyReq;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(10);
/// Methods that only the test knows.
const ECHO: i32 = 900;
const PANIC: i32 = 901;
const PANIC_LATER: i32 = 902;
const SLOW: i32 = 903;
const FAIL: i32 = 904;
const WHO: i32 = 905;

#[derive(Default)]
struct Engine {
    calls: AtomicU32,
}

impl Module for Engine {
    fn id(&self) -> i32 {
        module::MGMT
    }

    fn call(self: Arc<Self>, request: Request) -> Reply {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(request.method != PANIC, "as asked for");
        Box::pin(async move {
            match request.method {
                mgmt::SET_RANK => {
                    let rank: SetRankReq = request.decode()?;
                    reply(&DaosResp {
                        status: if rank.rank == 7 { -1012 } else { 0 },
                    })
                }
                ECHO => Ok(request.body),
                SLOW => {
                    sleep(Duration::from_millis(300)).await;
                    Ok(b"slow".to_vec())
                }
                FAIL => Err(Refusal::Failed("as asked for".into())),
                WHO => Ok(request.caller.pid.to_le_bytes().to_vec()),
                PANIC_LATER => panic!("as asked for"),
                _ => Err(Refusal::UnknownMethod),
            }
        })
    }
}

struct Running {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
    _dir: TempDir,
}

impl Running {
    fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let listener = Listener::bind(&path, 0o600).unwrap();
        let router = Router::new().with(Arc::new(Engine::default()));
        let server = Server::new(listener, router, limits);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Running {
            path,
            stop: Some(stop),
            task,
            _dir: dir,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.path, SOON).await.unwrap()
    }

    async fn stop(mut self) {
        self.stop.take();
        (&mut self.task).await.unwrap().unwrap();
        assert!(!self.path.exists(), "the socket is removed");
    }
}

fn status_of(result: Result<Vec<u8>, Error>) -> Option<Status> {
    result.unwrap_err().status()
}

/// A server that is a thread with a raw socket, for answers that a [`Server`] would never give.
fn odd_server(
    path: &Path,
    answer: impl FnOnce(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> thread::JoinHandle<()> {
    use nix::sys::socket::*;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &UnixAddr::new(path).unwrap(),
    )
    .unwrap();
    listen(&socket, Backlog::new(1).unwrap()).unwrap();
    thread::spawn(move || {
        let connection = rustix::net::accept(&socket).unwrap();
        let mut packet = vec![0; daos_drpc::frame::MAX_PACKET];
        let (length, _) =
            rustix::net::recv(&connection, &mut *packet, rustix::net::RecvFlags::empty()).unwrap();
        for packet in answer(&packet[..length]) {
            rustix::net::send(&connection, &packet, rustix::net::SendFlags::NOSIGNAL).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
    })
}

/// One packet with `response` in it.
fn packet(response: &daos_proto::drpc::Response) -> Vec<u8> {
    let mut packet = Vec::new();
    let message = prost::Message::encode_to_vec(response);
    assert!(daos_drpc::frame::Packets::new(&message).next_into(&mut packet));
    packet
}

#[tokio::test]
async fn messages_and_statuses() {
    let server = Running::start(Limits::default());
    let mut client = server.client().await;
    let request = SetRankReq {
        rank: 0,
        map_version: 1,
        daos_version: 0,
    };
    let answer: DaosResp = client
        .request(module::MGMT, mgmt::SET_RANK, &request, SOON)
        .await
        .unwrap();
    assert_eq!(answer.status, 0);
    let request = SetRankReq { rank: 7, ..request };
    let answer: DaosResp = client
        .request(module::MGMT, mgmt::SET_RANK, &request, SOON)
        .await
        .unwrap();
    assert_eq!(answer.status, -1012);

    // Refusals leave the connection usable.
    let mut call = async |module, method, body: &[u8]| {
        status_of(client.call(module, method, body.to_vec(), SOON).await)
    };
    assert_eq!(
        call(module::SECURITY, 401, b"").await,
        Some(Status::UnknownModule)
    );
    assert_eq!(
        call(module::MGMT, srv::NOTIFY_READY, b"").await,
        Some(Status::UnknownMethod)
    );
    let bad = call(module::MGMT, mgmt::SET_RANK, &[0xff]).await;
    assert_eq!(bad, Some(Status::FailedUnmarshalPayload));
    assert_eq!(call(module::MGMT, FAIL, b"").await, Some(Status::Failure));
    assert_eq!(call(module::MGMT, PANIC, b"").await, Some(Status::Failure));
    assert_eq!(
        call(module::MGMT, PANIC_LATER, b"").await,
        Some(Status::Failure)
    );
    let who = client
        .call(module::MGMT, WHO, Vec::new(), SOON)
        .await
        .unwrap();
    assert_eq!(who, std::process::id().to_le_bytes());
    server.stop().await;
}

#[tokio::test]
async fn large_messages_go_both_ways() {
    let server = Running::start(Limits::default());
    let mut client = server.client().await;
    for size in [0, 1, 131_000, 131_048, 131_049, 1 << 20, 9 << 20] {
        let body: Vec<u8> = (0..size).map(|n| (n * 7) as u8).collect();
        let echo = client
            .call(module::MGMT, ECHO, body.clone(), SOON)
            .await
            .unwrap();
        assert!(echo == body, "{size} bytes");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_blocking_client_in_a_thread() {
    let server = Running::start(Limits::default());
    let path = server.path.clone();
    let calls = tokio::task::spawn_blocking(move || {
        let mut client = BlockingClient::connect(&path, SOON).unwrap();
        let ready = NotifyReadyReq {
            uri: "tcp://a".into(),
            ..Default::default()
        };
        let body = prost::Message::encode_to_vec(&ready);
        let echo: NotifyReadyReq = client.request(module::MGMT, ECHO, &ready, SOON).unwrap();
        assert_eq!(echo, ready);
        assert_eq!(
            client.call(module::MGMT, ECHO, body.clone(), SOON).unwrap(),
            body
        );
        let big = vec![3; 3 << 20];
        assert!(client.call(module::MGMT, ECHO, big.clone(), SOON).unwrap() == big);
        assert_eq!(
            status_of(client.call(9, 1, Vec::new(), SOON)),
            Some(Status::UnknownModule)
        );
        let error = client
            .call(module::MGMT, SLOW, Vec::new(), Duration::from_millis(20))
            .unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        // The late answer must not be taken for that of the next call.
        let error = client.call(module::MGMT, ECHO, body, SOON).unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{error}");
    });
    calls.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn deadlines_hold_and_break_the_connection() {
    let server = Running::start(Limits::default());
    let mut client = server.client().await;
    let begun = Instant::now();
    let error = client
        .call(module::MGMT, SLOW, Vec::new(), Duration::from_millis(20))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(250));
    let error = client
        .call(module::MGMT, ECHO, Vec::new(), SOON)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn connections_are_served_at_the_same_time_and_limited() {
    let server = Running::start(Limits {
        connections: 2,
        ..Limits::default()
    });
    let mut one = server.client().await;
    let mut two = server.client().await;
    one.call(module::MGMT, ECHO, Vec::new(), SOON)
        .await
        .unwrap();
    let begun = Instant::now();
    let (a, b) = tokio::join!(
        one.call(module::MGMT, SLOW, Vec::new(), SOON),
        two.call(module::MGMT, SLOW, Vec::new(), SOON)
    );
    assert!(a.is_ok() && b.is_ok() && begun.elapsed() < Duration::from_millis(550));
    // A third one waits until there is room.
    let mut three = server.client().await;
    let soon = Duration::from_millis(100);
    let error = three
        .call(module::MGMT, ECHO, Vec::new(), soon)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    drop(one);
    let mut four = server.client().await;
    drop(three);
    four.call(module::MGMT, ECHO, Vec::new(), SOON)
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn calls_under_way_end_before_the_server_does() {
    let mut server = Running::start(Limits::default());
    let mut client = server.client().await;
    let mut idle = server.client().await;
    idle.call(module::MGMT, ECHO, Vec::new(), SOON)
        .await
        .unwrap();
    let slow = tokio::spawn(async move { client.call(module::MGMT, SLOW, Vec::new(), SOON).await });
    sleep(Duration::from_millis(50)).await;
    server.stop.take();
    assert_eq!(slow.await.unwrap().unwrap(), b"slow");
    let error = idle
        .call(module::MGMT, ECHO, Vec::new(), SOON)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn grace_is_limited() {
    let grace = Duration::from_millis(30);
    let server = Running::start(Limits {
        grace,
        ..Limits::default()
    });
    let mut client = server.client().await;
    let slow = tokio::spawn(async move { client.call(module::MGMT, SLOW, Vec::new(), SOON).await });
    sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_millis(200));
    assert!(matches!(slow.await.unwrap(), Err(Error::Closed { .. })));
}

#[tokio::test]
async fn a_peer_out_of_step_loses_its_connection_only() {
    use nix::sys::socket::*;
    let transfer = Duration::from_millis(100);
    let server = Running::start(Limits {
        transfer,
        ..Limits::default()
    });
    let mut good = server.client().await;
    let stalled = {
        let mut packet = [0; 25];
        (packet[0], packet[8], packet[20]) = (2, 1, 2);
        packet.to_vec()
    };
    for bytes in [b"junk".to_vec(), vec![0xff; 40], stalled] {
        let peer = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&peer);
        connect(fd, &UnixAddr::new(&server.path).unwrap()).unwrap();
        assert_eq!(
            send(fd, &bytes, MsgFlags::MSG_NOSIGNAL).unwrap(),
            bytes.len()
        );
        let closed = tokio::task::spawn_blocking(move || {
            let mut buffer = [0; 64];
            recv(
                std::os::fd::AsRawFd::as_raw_fd(&peer),
                &mut buffer,
                MsgFlags::empty(),
            )
        });
        assert!(matches!(
            closed.await.unwrap(),
            Ok(0) | Err(nix::errno::Errno::ECONNRESET)
        ));
    }
    good.call(module::MGMT, ECHO, Vec::new(), SOON)
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_stays() {
    let transfer = Duration::from_millis(50);
    let server = Running::start(Limits {
        transfer,
        ..Limits::default()
    });
    let mut client = server.client().await;
    for _ in 0..3 {
        client
            .call(module::MGMT, ECHO, Vec::new(), SOON)
            .await
            .unwrap();
        sleep(Duration::from_millis(120)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_cannot_be_read_is_answered() {
    use nix::sys::socket::*;
    let server = Running::start(Limits::default());
    let peer = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&peer);
    connect(fd, &UnixAddr::new(&server.path).unwrap()).unwrap();
    let mut packet = Vec::new();
    assert!(daos_drpc::frame::Packets::new(&[0xff; 3]).next_into(&mut packet));
    send(fd, &packet, MsgFlags::MSG_NOSIGNAL).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 64];
        let length = recv(
            std::os::fd::AsRawFd::as_raw_fd(&peer),
            &mut buffer,
            MsgFlags::empty(),
        );
        buffer[..length.unwrap()].to_vec()
    });
    // Sequence 0 is an absent field; status 5.
    assert_eq!(answer.await.unwrap()[24..], [0x10, 5]);
    server.stop().await;
}

#[test]
fn answers_out_of_step_are_refused() {
    use daos_proto::drpc::Response;
    let dir = tempfile::tempdir().unwrap();
    let call = |name: &str, packets: Vec<Vec<u8>>| {
        let path = dir.path().join(name);
        let server = odd_server(&path, move |_| packets);
        let mut client = BlockingClient::connect(&path, SOON).unwrap();
        let error = client.call(2, 202, Vec::new(), SOON).unwrap_err();
        let after = client.call(2, 202, Vec::new(), SOON).unwrap_err();
        server.join().unwrap();
        (error, after)
    };
    let (error, after) = call(
        "seq",
        vec![packet(&Response {
            sequence: 2,
            ..Default::default()
        })],
    );
    assert!(
        matches!(
            error,
            Error::Sequence {
                wanted: 1,
                got: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(after, Error::Broken { .. }), "{after}");
    let (error, _) = call("junk", vec![vec![1, 2, 3]]);
    assert!(
        error.to_string().contains("framing of before 2.8"),
        "{error}"
    );
    let mut cut = packet(&Response {
        sequence: 1,
        status: 0,
        body: vec![9; 50],
    });
    cut[24] = 0xff;
    let (error, _) = call("proto", vec![cut]);
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    let (error, _) = call("close", vec![]);
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    // A status that a later version may add is an error, and no reason to give up the connection.
    let path = dir.path().join("later");
    let _server = odd_server(&path, |_| {
        vec![packet(&Response {
            sequence: 1,
            status: 77,
            body: Vec::new(),
        })]
    });
    let mut client = BlockingClient::connect(&path, SOON).unwrap();
    let text = client
        .call(2, 202, Vec::new(), SOON)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("2/202") && text.contains("unknown status 77"),
        "{text}"
    );
}

#[tokio::test]
async fn no_server_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nobody.sock");
    let error = Client::connect(&path, SOON).await.unwrap_err();
    assert!(error.to_string().contains("nobody.sock"), "{error}");
    assert!(BlockingClient::connect(&path, SOON).is_err());
}
