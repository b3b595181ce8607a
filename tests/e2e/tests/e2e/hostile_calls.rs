//! Calls of whoever can connect: bytes that make no sense, messages that are too large, connections that stop in the
//! middle. The server answers each, or closes the connection, and is there for the next one.

use crate::control_plane::{admin, block_on, channel};
use crate::raw::Raw;
use daos_e2e::{LIMIT, Site};
use daos_proto::methods;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};

/// Bytes from a number (xorshift), so that a failure can be had again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.next() % 200;
        let small = self.next() & 1 == 0;
        // Small ones look like tags and lengths, and get further.
        let byte = |n: u64| if small { (n % 40) as u8 } else { n as u8 };
        (0..len).map(|_| byte(self.next() >> 11)).collect()
    }
}

async fn call(client: &mut Grpc<tonic::transport::Channel>, path: &str, bytes: Vec<u8>) -> Status {
    client.ready().await.expect("a connection");
    let path = PathAndQuery::try_from(path).expect("a path");
    let answer = tokio::time::timeout(LIMIT, client.unary(admin(()), path, Raw(bytes)));
    match answer.await.expect("an answer in time") {
        Ok(_) => Status::ok(""),
        Err(status) => status,
    }
}

/// Methods that may be called with anything before the format: they change nothing then.
fn harmless() -> impl Iterator<Item = &'static str> {
    let all = methods::SERVED.iter().copied();
    // Of these, bytes that happen to make sense would do what they say.
    all.filter(|path| !path.ends_with("HostSvc/Stop") && !path.ends_with("/StorageFormat"))
        .filter(|path| !path.ends_with("/FormatStorage") && !path.contains("Svc/Start"))
}

#[test]
fn bytes_that_make_no_sense_are_refused_and_forgotten() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.map_or(1, |d| d.as_nanos() as u64) | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    block_on(async {
        let mut client = Grpc::new(channel(&site).await);
        for path in methods::SERVED.iter().copied() {
            // Begun and never ended: a length beyond the end, a tag of no type, a number without its last byte.
            for bytes in [&[0x0a, 0xff][..], &[0x0f], &[0x80; 11], &[0x0a, 0x05, 0x61]] {
                let status = call(&mut client, path, bytes.to_vec()).await;
                assert_ne!(status.code(), Code::Ok, "{path} took {bytes:?}");
            }
        }
        for path in harmless() {
            for _ in 0..8 {
                let status = call(&mut client, path, random.bytes()).await;
                let lost = matches!(status.code(), Code::Unavailable | Code::Cancelled);
                assert!(!lost, "{path}, seed {seed}: {status}");
            }
        }
        // Larger than the protocol allows: refused before it is understood.
        let status = call(
            &mut client,
            "/mgmt.MgmtSvc/SystemQuery",
            vec![0x0a; 5 << 20],
        )
        .await;
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
        // A text that is as large as it may be.
        let mut large = vec![0x12, 0x80, 0x80, 0x80, 0x01];
        large.resize((2 << 20) + 5, b'7');
        let status = call(&mut client, "/mgmt.MgmtSvc/SystemQuery", large).await;
        assert_ne!(status.code(), Code::Ok);
    });
    // Frames that are cut, of no type, of a stream that nobody opened, and no frames at all.
    const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for rest in [
        &b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\xff\xff\xff\x01\x05\x00\x00\x00\x01"[..],
        b"\x00\x00\x05\x00\x01\x00\x00\x00\x63hello",
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4096],
    ] {
        let mut stream = TcpStream::connect(site.address()).expect("a connection");
        stream.write_all(GREETING).expect("a greeting");
        // Refused in the middle is fine.
        let _ = stream.write_all(rest);
    }
    server.wait_phase("maintenance");
    assert!(!server.log().contains("panicked"), "seed {seed}");
    server.make_ready();
    server.stop();
}
