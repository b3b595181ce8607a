//! The program itself: killed without warning, restarted, and asked for everything it acknowledged.

#[path = "../common/mod.rs"]
mod common;
mod deaths;
mod starts;

use common::{Shape, Storage, container, runtime, value};
use daos_client::ObjectId;
use daos_drpc::methods::{host, mgmt, module, srv};
use daos_drpc::{Client, Module, Refusal, Reply, Request, Router, Server};
use daos_proto::host::EnginePools;
use daos_proto::mgmt::pool_property::Value;
use daos_proto::mgmt::{
    DaosResp, PoolCreateReq, PoolCreateResp, PoolDestroyReq, PoolDestroyResp, PoolProperty,
    PoolQueryReq, PoolQueryResp, SetRankReq,
};
use daos_proto::srv::NotifyReadyReq;
use daos_wire::EngineUri;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A running engine; killed when dropped.
struct Process {
    child: Child,
    uri: EngineUri,
}

impl Process {
    fn start(storage: &Storage) -> Self {
        Self::start_with(storage, Stdio::inherit())
    }

    fn start_with(storage: &Storage, stderr: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_daos_io_server"))
            .args(storage.arguments())
            .args(["--no-server", "--pool", common::LABEL])
            .env("D_LOG_MASK", "INFO")
            .env("D_LOG_FILE", storage.dir().join("engine.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the engine runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut uri = None;
        for line in lines {
            let line = line.expect("a line");
            if let Some(text) = line.strip_prefix("uri ") {
                uri = Some(text.parse().expect("a URI"));
                break;
            }
            assert!(
                line.starts_with("DAOS I/O server (v") && line.contains("started on rank 0"),
                "{line}"
            );
        }
        let Some(uri) = uri else {
            let status = child.wait();
            panic!("the engine did not start: {status:?}");
        };
        Self { child, uri }
    }

    fn signal(&mut self, signal: Signal) -> std::process::ExitStatus {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const OBJECT: ObjectId = ObjectId { hi: 0, lo: 77 };

/// Acknowledged writes: key, seed and length of the value.
type Acknowledged = Arc<Mutex<BTreeMap<u64, (u64, usize)>>>;

fn size_of(seed: u64) -> usize {
    [1, 64, 700, 4096, 5000, 40_000, 200_000, 1 << 20][seed as usize % 8]
}

/// Writes and overwrites until the engine is gone; notes what was acknowledged, and what may have
/// happened without an answer.
async fn load(uri: EngineUri, round: u64, acknowledged: Acknowledged, maybe: Acknowledged) {
    let mut options = common::fabric::client_options(&uri);
    options.deadline = Duration::from_secs(2);
    options.attempt = Duration::from_secs(2);
    let Ok(client) = daos_client::Client::connect(options).await else {
        return;
    };
    let Ok(pool) = client.pool(common::LABEL).await else {
        return;
    };
    let Ok(c) = pool.create_container(common::CONTAINER, "").await else {
        return;
    };
    for n in 0.. {
        let key = n * 7 % 41;
        let seed = round * 100_000 + n;
        let bytes = value(seed, size_of(seed));
        maybe.lock().unwrap().insert(key, (seed, bytes.len()));
        if c.put(OBJECT, &key.to_be_bytes(), b"a", &bytes)
            .await
            .is_err()
        {
            return;
        }
        acknowledged
            .lock()
            .unwrap()
            .insert(key, (seed, bytes.len()));
        maybe.lock().unwrap().remove(&key);
    }
}

#[test]
fn everything_acknowledged_survives_kill_9() {
    let storage = Storage::format(Shape {
        bdev_mib: 160,
        scm_mib: 128,
        ..Shape::default()
    });
    let rt = runtime();
    let acknowledged = Acknowledged::default();
    let mut total = 0;
    for round in 1..=5u64 {
        let mut process = Process::start(&storage);
        let maybe = Acknowledged::default();
        let writer = rt.spawn(load(
            process.uri.clone(),
            round,
            Arc::clone(&acknowledged),
            Arc::clone(&maybe),
        ));
        // A client takes its time to start, over libfabric more than half a second.
        let begun = std::time::Instant::now();
        let before = acknowledged.lock().unwrap().clone();
        while *acknowledged.lock().unwrap() == before {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "nothing is acknowledged"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(130 * round));
        let status = process.signal(Signal::SIGKILL);
        assert!(!status.success());
        rt.block_on(writer).unwrap();
        let process = Process::start(&storage);
        let expected = acknowledged.lock().unwrap().clone();
        let maybe = maybe.lock().unwrap().clone();
        assert!(!expected.is_empty());
        rt.block_on(async {
            let (_client, c) = container(&process.uri).await;
            for (key, (seed, len)) in &expected {
                let got = c.get(OBJECT, &key.to_be_bytes(), b"a").await.unwrap();
                let unanswered = maybe
                    .get(key)
                    .is_some_and(|(seed, len)| got == value(*seed, *len));
                assert!(
                    unanswered || got == value(*seed, *len),
                    "key {key} in round {round}"
                );
                if unanswered {
                    acknowledged.lock().unwrap().insert(*key, maybe[key]);
                }
            }
        });
        total += expected.len();
        drop(process);
    }
    println!("{total} acknowledged values read back after 5 kills");
}

#[test]
fn sigterm_ends_it_cleanly_and_the_next_start_replays_nothing() {
    let storage = Storage::format(Shape::default());
    let rt = runtime();
    let mut process = Process::start(&storage);
    rt.block_on(async {
        let (_client, c) = container(&process.uri).await;
        for n in 0..50u64 {
            c.put(OBJECT, &n.to_be_bytes(), b"a", &value(n, size_of(n)))
                .await
                .unwrap();
        }
    });
    let status = process.signal(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
    let log_path = storage.dir().join("engine.log");
    std::fs::remove_file(&log_path).unwrap();
    let process = Process::start(&storage);
    let log = std::fs::read_to_string(&log_path).unwrap();
    let recovered: Vec<&str> = log
        .lines()
        .filter(|l| l.contains("target recovered"))
        .collect();
    assert_eq!(recovered.len(), 2, "{log}");
    assert!(recovered.iter().all(|l| l.contains("replayed=0")), "{log}");
    rt.block_on(async {
        let (_client, c) = container(&process.uri).await;
        for n in 0..50u64 {
            assert_eq!(
                c.get(OBJECT, &n.to_be_bytes(), b"a").await.unwrap(),
                value(n, size_of(n))
            );
        }
    });
}

#[test]
fn exit_codes_and_last_lines_say_why_it_does_not_start() {
    let storage = Storage::format(Shape::default());
    let run = |extra: &[&str], without: &[&str]| {
        let arguments = storage.arguments();
        let arguments = arguments.iter().filter(|a| !without.contains(&a.as_str()));
        let output = Command::new(env!("CARGO_BIN_EXE_daos_io_server"))
            .args(arguments)
            .args(extra)
            .env_remove("D_PROVIDER")
            .env("D_LOG_MASK", "ERR")
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned();
        (output.status.code(), last)
    };
    let (code, last) = run(
        &["--no-server"],
        &["--provider", common::fabric::provider()],
    );
    assert_eq!(code, Some(2));
    assert!(last.contains("D_PROVIDER"), "{last}");
    let (code, last) = run(&["--no-server", "--bdev-plugin", "/nonexistent/x.so"], &[]);
    assert_eq!(code, Some(2));
    assert!(last.contains("/nonexistent/x.so"), "{last}");
    let fabric = common::fabric::instance().manifest().name.clone();
    let allowed = format!(r#"{{"scm-ram": {{}}, "{fabric}": {{}}}}"#);
    let (code, last) = run(&["--no-server", "--allow-plugins", &allowed], &[]);
    assert_eq!(code, Some(2));
    assert!(last.contains("bdev class `file`"), "{last}");
    // Nobody listens on daos_server.sock.
    let (code, last) = run(&[], &[]);
    assert_eq!(code, Some(1));
    assert!(last.contains("daos_server"), "{last}");
    std::fs::remove_file(storage.mount.join("superblock")).unwrap();
    let (code, last) = run(&["--no-server"], &[]);
    assert_eq!(code, Some(3));
    assert!(
        last.contains("superblock") && last.contains("storage format"),
        "{last}"
    );
}

#[test]
fn an_idle_engine_sleeps() {
    let storage = Storage::format(Shape::default());
    let rt = runtime();
    let process = Process::start(&storage);
    let (_client, c) = rt.block_on(container(&process.uri));
    rt.block_on(async {
        c.put(OBJECT, b"d", b"a", &value(1, 100_000)).await.unwrap();
        c.get(OBJECT, b"d", b"a").await.unwrap();
    });
    // Past the last commit; the client stays connected.
    std::thread::sleep(Duration::from_millis(500));
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.child.id())).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(3));
    let used = ticks() - before;
    println!(
        "idle: {used} ticks of 10 ms in 3 s with {} targets",
        storage.shape.targets
    );
    assert!(used <= 3, "{used} ticks of 10 ms in 3 s");
}

/// Stands in for daos_server: takes NotifyReady.
struct Daemon(tokio::sync::mpsc::UnboundedSender<NotifyReadyReq>);

impl Module for Daemon {
    fn id(&self) -> i32 {
        module::SRV
    }

    fn call(self: Arc<Self>, request: Request) -> Reply {
        Box::pin(async move {
            assert_eq!(request.method, srv::NOTIFY_READY);
            self.0
                .send(request.decode()?)
                .map_err(|e| Refusal::Failed(e.to_string()))?;
            Ok(Vec::new())
        })
    }
}

/// The calls of the daemon about pools, with what the protocol's numbers say of their outcomes.
async fn pools_over_drpc(socket: &std::path::Path, limit: Duration) {
    let mut client = Client::connect(socket, limit).await.unwrap();
    let mut create = PoolCreateReq {
        uuid: uuid::Uuid::from_u128(1).to_string(),
        properties: vec![PoolProperty {
            number: 1,
            value: Some(Value::Strval("tank".into())),
        }],
        tier_bytes: vec![4 << 20, 8 << 20],
        ..PoolCreateReq::default()
    };
    // Repeated, it is the same pool.
    for _ in 0..2 {
        let made: PoolCreateResp = client
            .request(module::MGMT, mgmt::POOL_CREATE, &create, limit)
            .await
            .unwrap();
        assert_eq!((made.status, made.svc_ldr), (0, 5));
        assert_eq!(
            (made.tgt_ranks, made.tier_bytes),
            (vec![5], vec![4 << 20, 8 << 20])
        );
    }
    for (change, status) in [
        ((2, "tank", 4 << 20), -1004), // label of another
        ((1, "tank", 8 << 20), -1004), // other properties
        ((2, "", 4 << 20), -1003),
        ((2, "x", 1 << 40), -1007),
    ] {
        let (id, label, scm) = change;
        create.uuid = uuid::Uuid::from_u128(id).to_string();
        create.properties[0].value = Some(Value::Strval(label.into()));
        create.tier_bytes[0] = scm;
        let refused: PoolCreateResp = client
            .request(module::MGMT, mgmt::POOL_CREATE, &create, limit)
            .await
            .unwrap();
        assert_eq!(refused.status, status, "{change:?}");
    }
    let listed: EnginePools = client
        .request(module::HOST, host::POOLS, &(), limit)
        .await
        .unwrap();
    assert_eq!(listed.pools.len(), 1);
    assert_eq!(listed.pools[0].label, "tank");
    let space = listed.space.unwrap();
    assert_eq!(space.scm_total - space.scm_free, 4 << 20);
    assert_eq!(space.bdev_total - space.bdev_free, 8 << 20);
    for (id, status) in [(1, 0), (2, -1005)] {
        let query = PoolQueryReq {
            id: uuid::Uuid::from_u128(id).to_string(),
            ..PoolQueryReq::default()
        };
        let found: PoolQueryResp = client
            .request(module::MGMT, mgmt::POOL_QUERY, &query, limit)
            .await
            .unwrap();
        assert_eq!(found.status, status);
        if status == 0 {
            let tiers: Vec<_> = found.tier_stats.iter().map(|t| (t.total, t.free)).collect();
            assert_eq!(tiers, [(4 << 20, 4 << 20), (8 << 20, 8 << 20)]);
            assert_eq!((found.label.as_str(), found.total_targets), ("tank", 2));
        }
    }
    for status in [0, -1005] {
        let destroy = PoolDestroyReq {
            id: uuid::Uuid::from_u128(1).to_string(),
            ..PoolDestroyReq::default()
        };
        let gone: PoolDestroyResp = client
            .request(module::MGMT, mgmt::POOL_DESTROY, &destroy, limit)
            .await
            .unwrap();
        assert_eq!(gone.status, status);
    }
}

#[test]
fn the_daemon_is_told_and_gives_the_rank() {
    let storage = Storage::format(Shape::default());
    let rt = runtime();
    let (sender, mut ready) = tokio::sync::mpsc::unbounded_channel();
    let server = {
        let _guard = rt.enter();
        let router = Router::new().with(Arc::new(Daemon(sender)));
        Server::bind(&storage.dir().join("daos_server.sock"), router).unwrap()
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let daemon = rt.spawn(server.serve(async {
        let _ = stopped.await;
    }));
    let mut child = Command::new(env!("CARGO_BIN_EXE_daos_io_server"))
        .args(storage.arguments())
        .env("D_LOG_MASK", "ERR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the engine runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let limit = Duration::from_secs(20);
    let socket = rt.block_on(async {
        let ready = tokio::time::timeout(limit, ready.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!((ready.ntgts, ready.instance_idx), (2, 0));
        assert_eq!(ready.uri.parse::<EngineUri>().unwrap().targets.len(), 2);
        let socket = std::path::PathBuf::from(&ready.drpc_listener_sock);
        let mut client = Client::connect(&socket, limit).await.unwrap();
        let early: Result<DaosResp, _> =
            client.request(module::MGMT, mgmt::SET_UP, &(), limit).await;
        assert!(early.is_err(), "SetUp before SetRank");
        let set = SetRankReq {
            rank: 5,
            map_version: 1,
            ..SetRankReq::default()
        };
        let mut client = Client::connect(&socket, limit).await.unwrap();
        for method in [mgmt::SET_RANK, mgmt::SET_UP, mgmt::PING_RANK] {
            let answer: DaosResp = client
                .request(module::MGMT, method, &set, limit)
                .await
                .unwrap();
            assert_eq!(answer.status, 0);
        }
        pools_over_drpc(&socket, limit).await;
        socket
    });
    let line = lines.next().expect("a line").unwrap();
    assert!(
        line.contains("started on rank 5") && line.contains("with 2 target xstream set(s)"),
        "{line}"
    );
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!socket.exists(), "the engine's socket is left behind");
    let _ = stop.send(());
    rt.block_on(daemon).unwrap().unwrap();
}
