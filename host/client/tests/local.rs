//! Clients that do their work on the caller's thread.

mod fake;

use daos_client::{Client, Container, Error, ObjectId, Options, Progress};
use fake::{FakeEngine, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

const OBJECT: ObjectId = ObjectId { hi: 4, lo: 2 };

async fn connect(engine: &FakeEngine) -> Container {
    let mut options = Options::uri(engine.uri.clone());
    options.interface = "lo".into();
    options.progress = Progress::Local;
    options.deadline = Duration::from_secs(20);
    let client = Client::connect(options).await.unwrap();
    client.container(fake::names::POOL, fake::names::CONTAINER)
}

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

/// Threads of clients in this process.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "daos-fabric")
        .count()
}

#[tokio::test]
async fn many_clients_share_a_thread() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let engine = FakeEngine::start(&Arc::new(Store::default()), 2);
            let mut tasks = Vec::new();
            for n in 0..20 {
                let container = connect(&engine).await;
                tasks.push(tokio::task::spawn_local(async move {
                    for size in [0, 1, 4096, 4097, 100_000, 1 << 20] {
                        let dkey = format!("{n}-{size}");
                        let dkey = dkey.as_bytes();
                        container.put(OBJECT, dkey, b"a", &value(size)).await?;
                        let got = container.get(OBJECT, dkey, b"a").await?;
                        assert!(got == value(size), "{size} bytes");
                    }
                    Ok::<(), Error>(())
                }));
            }
            assert_eq!(threads(), 0);
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_threads_may_call() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let engine = FakeEngine::start(&Arc::new(Store::default()), 1);
            let container = connect(&engine).await;
            let tasks: Vec<_> = (0..100usize)
                .map(|n| {
                    let container = container.clone();
                    tokio::spawn(async move {
                        let dkey = n.to_be_bytes();
                        container.put(OBJECT, &dkey, b"a", &value(n)).await?;
                        assert!(container.get(OBJECT, &dkey, b"a").await? == value(n));
                        Ok::<(), Error>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        })
        .await;
}

#[tokio::test]
async fn a_dead_engine_is_noticed_and_deadlines_are_kept() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let engine = FakeEngine::start(&Arc::new(Store::default()), 1);
            let mut options = Options::uri(engine.uri.clone());
            options.interface = "lo".into();
            options.progress = Progress::Local;
            options.deadline = Duration::from_secs(1);
            let client = Client::connect(options).await.unwrap();
            let container = client.container(fake::names::POOL, fake::names::CONTAINER);
            container.put(OBJECT, b"d", b"a", b"v").await.unwrap();
            drop(engine);
            let begun = Instant::now();
            let error = container.get(OBJECT, b"d", b"a").await.unwrap_err();
            assert!(matches!(error, Error::TimedOut { .. }), "{error}");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(15), "{took:?}");
        })
        .await;
}

#[tokio::test]
async fn an_idle_client_sleeps() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let engine = FakeEngine::start(&Arc::new(Store::default()), 1);
            let container = connect(&engine).await;
            container.put(OBJECT, b"d", b"a", b"v").await.unwrap();
            let polls = || {
                tokio::runtime::Handle::current()
                    .metrics()
                    .worker_park_count(0)
            };
            let before = polls();
            tokio::time::sleep(Duration::from_millis(300)).await;
            let parked = polls() - before;
            assert!(parked < 50, "the thread woke {parked} times");
        })
        .await;
}
