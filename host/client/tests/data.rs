//! The library against an engine on the loopback.

mod fake;

use daos_client::{Client, Container, Error, Name, ObjectId, Options, Punch, Uuid, WireStatus};
use fake::control::Control;
use fake::names::{CONTAINER, POOL};
use fake::{FakeEngine, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const OBJECT: ObjectId = ObjectId { hi: 4, lo: 2 };

async fn connect(engine: &FakeEngine) -> Client {
    let mut options = Options::uri(engine.uri.clone());
    options.interface = "lo".into();
    options.deadline = Duration::from_secs(20);
    Client::connect(options).await.unwrap()
}

fn container(client: &Client) -> Container {
    client.container(POOL, CONTAINER)
}

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

/// Sizes around every limit: empty, inline, one more, buffer classes, the largest.
const SIZES: [usize; 10] = [
    0,
    1,
    4095,
    4096,
    4097,
    8192,
    8193,
    100_000,
    (1 << 20) - 1,
    1 << 20,
];

#[tokio::test(flavor = "multi_thread")]
async fn values_of_all_sizes_come_back() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 3);
    let client = connect(&engine).await;
    assert_eq!(client.targets(), 3);
    let container = container(&client);
    for size in SIZES {
        let dkey = format!("dkey-{size}");
        let value = value(size);
        let put = container.put(OBJECT, dkey.as_bytes(), b"a", &value);
        put.await.unwrap();
    }
    for size in SIZES {
        let dkey = format!("dkey-{size}");
        let got = container.get(OBJECT, dkey.as_bytes(), b"a").await.unwrap();
        assert!(got == value(size), "{size} bytes");
        let got = container
            .get_expecting(OBJECT, dkey.as_bytes(), b"a", size)
            .await
            .unwrap();
        assert!(got == value(size), "{size} bytes, expected");
        // Room that is too small, and room that is not needed.
        for expected in [5000, 1 << 20] {
            let got = container.get_expecting(OBJECT, dkey.as_bytes(), b"a", expected);
            assert!(
                got.await.unwrap() == value(size),
                "{size} bytes into {expected}"
            );
        }
    }
    // Values lie where the protocol says, under their names.
    assert_eq!(store.values.lock().unwrap().len(), SIZES.len());
    assert!(
        store
            .changes
            .lock()
            .unwrap()
            .values()
            .all(|count| *count == 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expected_size_saves_a_round_trip() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let client = connect(&engine).await;
    let container = container(&client);
    container
        .put(OBJECT, b"d", b"a", &value(9000))
        .await
        .unwrap();
    container
        .get_expecting(OBJECT, b"d", b"a", 9000)
        .await
        .unwrap();
    assert_eq!(store.gets.load(Ordering::SeqCst), 1);
    container.get(OBJECT, b"d", b"a").await.unwrap();
    assert_eq!(store.gets.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_are_under_way_at_once() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 2);
    let client = connect(&engine).await;
    let tasks: Vec<_> = (0..600usize)
        .map(|n| {
            let container = container(&client);
            tokio::spawn(async move {
                let dkey = format!("d{n}");
                let size = [10, 5000, 60_000][n % 3];
                container
                    .put(OBJECT, dkey.as_bytes(), b"a", &value(size))
                    .await?;
                let got = container.get(OBJECT, dkey.as_bytes(), b"a").await?;
                assert!(got == value(size));
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_and_punching() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 3);
    let client = connect(&engine).await;
    let container = container(&client);
    let mut dkeys: Vec<Vec<u8>> = (0..40).map(|n| format!("d{n}").into_bytes()).collect();
    dkeys.push(vec![0xff; 4096]);
    for dkey in &dkeys {
        for akey in [&b"x"[..], b"y"] {
            container.put(OBJECT, dkey, akey, b"v").await.unwrap();
        }
    }
    dkeys.sort();
    // Pages that end because the message is full (4096-byte key), and pages of 3 keys.
    for page in [0, 3] {
        store.faults.page.store(page, Ordering::SeqCst);
        let some = container.list_dkeys(OBJECT, 7).await.unwrap();
        assert_eq!(some, dkeys[..7]);
        if page == 3 {
            container
                .punch(OBJECT, Punch::Dkey(&dkeys[40]))
                .await
                .unwrap();
            assert_eq!(container.list_dkeys(OBJECT, 0).await.unwrap(), dkeys[..40]);
        }
    }
    assert_eq!(
        container.list_akeys(OBJECT, b"d1", 0).await.unwrap(),
        [b"x", b"y"]
    );
    assert_eq!(
        container.list_akeys(OBJECT, b"d1", 1).await.unwrap(),
        [b"x"]
    );
    container
        .punch(OBJECT, Punch::Akey(b"d1", b"x"))
        .await
        .unwrap();
    assert!(matches!(
        container.get(OBJECT, b"d1", b"x").await,
        Err(Error::NotFound { .. })
    ));
    assert_eq!(
        container.list_akeys(OBJECT, b"d1", 0).await.unwrap(),
        [b"y"]
    );
    container.punch(OBJECT, Punch::Object).await.unwrap();
    assert!(container.list_dkeys(OBJECT, 0).await.unwrap().is_empty());
    assert!(
        container
            .list_akeys(OBJECT, b"d1", 0)
            .await
            .unwrap()
            .is_empty()
    );
    // A second time there is nothing, which is no error.
    container.punch(OBJECT, Punch::Object).await.unwrap();
    let targets = client.query().await.unwrap();
    assert_eq!(targets.len(), 3);
    assert!(
        targets
            .iter()
            .all(|t| t.total == 1 << 30 && t.free == 1 << 29)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_damaged_on_its_way_back_is_asked_for_again_and_then_refused() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let client = connect(&engine).await;
    let container = container(&client);
    for size in [100, 50_000] {
        container
            .put(OBJECT, b"d", b"a", &value(size))
            .await
            .unwrap();
        store.faults.damage_values.store(2, Ordering::SeqCst);
        let got = container.get_expecting(OBJECT, b"d", b"a", size).await;
        assert!(got.unwrap() == value(size), "the third answer is right");
        store.faults.damage_values.store(3, Ordering::SeqCst);
        match container.get_expecting(OBJECT, b"d", b"a", size).await {
            Err(Error::Checksum {
                bytes,
                attempts,
                found,
                expected,
                ..
            }) => {
                assert_eq!((bytes, attempts), (size, 3));
                assert_ne!(found, expected);
            }
            other => panic!("{size} bytes: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_pass_are_waited_out() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let client = connect(&engine).await;
    let container = container(&client);
    store.faults.busy.store(3, Ordering::SeqCst);
    container.put(OBJECT, b"d", b"a", b"v").await.unwrap();
    assert_eq!(
        store.changes.lock().unwrap().len(),
        4,
        "each its own request"
    );
    store.faults.claim_damage.store(2, Ordering::SeqCst);
    container
        .put(OBJECT, b"d", b"a", &value(9999))
        .await
        .unwrap();
    store.faults.claim_damage.store(9, Ordering::SeqCst);
    match container.put(OBJECT, b"d", b"a", b"v").await {
        Err(Error::Engine { status, .. }) => assert_eq!(status, WireStatus::DAMAGED),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_out_of_range_never_leave() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let client = connect(&engine).await;
    let container = container(&client);
    let long = vec![1; 4097];
    let large = vec![1; (1 << 20) + 1];
    for (dkey, akey, value) in [
        (&b""[..], &b"a"[..], &b"v"[..]),
        (&long, b"a", b"v"),
        (b"d", b"", b"v"),
        (b"d", &long, b"v"),
        (b"d", b"a", &large),
    ] {
        let put = container.put(OBJECT, dkey, akey, value).await;
        assert!(matches!(put, Err(Error::Size { .. })), "{put:?}");
    }
    assert!(matches!(
        container.get(OBJECT, b"", b"a").await,
        Err(Error::Size { .. })
    ));
    assert!(store.changes.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_asked_for_under_the_same_sequence() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let mut options = Options::uri(engine.uri.clone());
    options.interface = "lo".into();
    options.attempt = Duration::from_millis(300);
    let client = Client::connect(options).await.unwrap();
    let container = container(&client);
    for size in [10, 70_000] {
        store.changes.lock().unwrap().clear();
        store.faults.swallow_replies.store(2, Ordering::SeqCst);
        container
            .put(OBJECT, b"d", b"a", &value(size))
            .await
            .unwrap();
        let changes: Vec<_> = store.changes.lock().unwrap().values().copied().collect();
        assert_eq!(changes, [3], "one sequence, three times");
        assert!(container.get(OBJECT, b"d", b"a").await.unwrap() == value(size));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_at_the_deadline() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let mut options = Options::uri(engine.uri.clone());
    options.interface = "lo".into();
    options.deadline = Duration::from_millis(700);
    let client = Client::connect(options).await.unwrap();
    let container = container(&client);
    store.faults.frozen.store(true, Ordering::SeqCst);
    for size in [10, 50_000] {
        let start = Instant::now();
        match container.put(OBJECT, b"d", b"a", &value(size)).await {
            Err(Error::TimedOut { last, after, .. }) => {
                assert!(last.contains("no answer"), "{last}");
                assert!(after >= Duration::from_millis(600), "{after:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    // What was given up does no harm afterwards.
    store.faults.frozen.store(false, Ordering::SeqCst);
    container
        .put(OBJECT, b"d", b"a", &value(60_000))
        .await
        .unwrap();
    assert!(container.get(OBJECT, b"d", b"a").await.unwrap() == value(60_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_nonsense_is_named_in_the_timeout() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let mut options = Options::uri(engine.uri.clone());
    options.interface = "lo".into();
    options.deadline = Duration::from_millis(500);
    let client = Client::connect(options).await.unwrap();
    store.faults.garbage.store(true, Ordering::SeqCst);
    let error = container(&client)
        .get(OBJECT, b"d", b"a")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("magic number"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_outlive_a_restart_of_the_engine() {
    let store = Arc::new(Store::default());
    let control = Control::start().await;
    let engine = FakeEngine::start(&store, 2);
    control.set(Some(&engine.uri));
    let mut options = Options::access_point(&control.access_point);
    options.interface = "lo".into();
    let client = Client::connect(options).await.unwrap();
    let write = |prefix: &'static str| {
        (0..32usize)
            .map(|n| {
                let container = container(&client);
                tokio::spawn(async move {
                    let dkey = format!("{prefix}{n}");
                    let size = [100, 20_000][n % 2];
                    container
                        .put(OBJECT, dkey.as_bytes(), b"a", &value(size))
                        .await
                })
            })
            .collect::<Vec<_>>()
    };
    for task in write("before") {
        task.await.unwrap().unwrap();
    }
    // The engine takes the requests, and dies before it reads them.
    store.faults.frozen.store(true, Ordering::SeqCst);
    let in_flight = write("during");
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(engine);
    control.set(None);
    let down = Instant::now();
    tokio::time::sleep(Duration::from_millis(600)).await;
    store.faults.frozen.store(false, Ordering::SeqCst);
    let engine = FakeEngine::start(&store, 2);
    control.set(Some(&engine.uri));
    for task in in_flight {
        task.await.unwrap().unwrap();
    }
    // Noticed by asking, not by waiting for the attempt to end (10 s).
    assert!(
        down.elapsed() < Duration::from_secs(5),
        "{:?}",
        down.elapsed()
    );
    let container = container(&client);
    for prefix in ["before", "during"] {
        for n in 0..32usize {
            let dkey = format!("{prefix}{n}");
            let got = container.get(OBJECT, dkey.as_bytes(), b"a").await.unwrap();
            assert!(got == value([100, 20_000][n % 2]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_notices_a_restart_at_the_next_call() {
    let store = Arc::new(Store::default());
    let control = Control::start().await;
    let engine = FakeEngine::start(&store, 1);
    control.set(Some(&engine.uri));
    let client = Client::connect(Options::access_point(&control.access_point))
        .await
        .unwrap();
    let container = container(&client);
    container.put(OBJECT, b"d", b"a", b"v").await.unwrap();
    drop(engine);
    let engine = FakeEngine::start(&store, 1);
    control.set(Some(&engine.uri));
    assert_eq!(container.get(OBJECT, b"d", b"a").await.unwrap(), b"v");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_engine_is_left_in_peace() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let client = connect(&engine).await;
    let before = store.queries.load(Ordering::SeqCst);
    store.faults.frozen.store(true, Ordering::SeqCst);
    let (own, own_store) = (container(&client), store.clone());
    let put = tokio::spawn(async move { own.put(OBJECT, b"d", b"a", &value(5000)).await });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    own_store.faults.frozen.store(false, Ordering::SeqCst);
    put.await.unwrap().unwrap();
    let changes: Vec<_> = store.changes.lock().unwrap().values().copied().collect();
    assert_eq!(changes, [1], "not sent again");
    let queries = store.queries.load(Ordering::SeqCst) - before;
    assert!((1..=4).contains(&queries), "{queries} queries in 1.5 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_says_what_is_missing() {
    let control = Control::start().await;
    let error = |result: Result<Client, Error>| match result {
        Ok(_) => panic!("connected"),
        Err(error) => error.to_string(),
    };
    let options = Options::access_point(&control.access_point);
    let text = error(Client::connect(options.clone()).await);
    assert!(
        text.contains("no engine serves") && text.contains(&control.access_point),
        "{text}"
    );
    // An engine that is gone.
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    control.set(Some(&engine.uri));
    drop(engine);
    let mut impatient = options.clone();
    impatient.deadline = Duration::from_millis(300);
    let text = error(Client::connect(impatient).await);
    assert!(
        text.contains("unreachable") && text.contains("--interface"),
        "{text}"
    );
    // Targets in the wrong order: data would go to the wrong place.
    let mut uri = FakeEngine::start(&store, 2);
    uri.uri.targets.reverse();
    control.set(Some(&uri.uri));
    let text = error(Client::connect(options).await);
    assert!(text.contains("target 1 of 2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_calls_do_no_harm() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let client = connect(&engine).await;
    let container = container(&client);
    container
        .put(OBJECT, b"d", b"a", &value(300_000))
        .await
        .unwrap();
    for n in 0..50u64 {
        let get = container.get_expecting(OBJECT, b"d", b"a", 300_000);
        // Some end in time, some do not.
        if let Ok(done) = tokio::time::timeout(Duration::from_micros(40 * n), get).await {
            assert!(done.unwrap() == value(300_000));
        }
    }
    assert!(container.get(OBJECT, b"d", b"a").await.unwrap() == value(300_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_an_error_of_its_own() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 2);
    let client = connect(&engine).await;
    for (pool, word) in [(Uuid::from_u128(99), "pool"), (POOL, "container")] {
        let absent = client.container(pool, Uuid::from_u128(98));
        let failures = [
            absent.put(OBJECT, b"d", b"a", b"v").await.unwrap_err(),
            absent
                .put(OBJECT, b"d", b"a", &value(9000))
                .await
                .unwrap_err(),
            absent.get(OBJECT, b"d", b"a").await.unwrap_err(),
            // These take a missing value for success, not a missing container.
            absent.punch(OBJECT, Punch::Object).await.unwrap_err(),
            absent.punch(OBJECT, Punch::Dkey(b"d")).await.unwrap_err(),
            absent.list_dkeys(OBJECT, 0).await.unwrap_err(),
            absent.list_akeys(OBJECT, b"d", 0).await.unwrap_err(),
        ];
        for error in failures {
            assert!(
                matches!(&error, Error::Missing { detail, .. } if detail.contains(word)),
                "{error}"
            );
        }
    }
    assert!(store.values.lock().unwrap().is_empty());
    let pool = client.only_pool().await.unwrap();
    assert_eq!((pool.id(), pool.label()), (POOL, "tank"));
    assert_eq!(client.pool("tank").await.unwrap().id(), POOL);
    let text = POOL.to_string();
    assert_eq!(Name::from(text.as_str()), Name::Id(POOL));
    assert_eq!(client.pool(text.as_str()).await.unwrap().label(), "tank");
    let id = Uuid::from_u128(5);
    for _ in 0..2 {
        pool.create_container(id, "again").await.unwrap();
    }
    let exists = pool.create_container(Uuid::from_u128(6), "again").await;
    assert!(matches!(
        exists,
        Err(Error::Engine {
            status: WireStatus::EXISTS,
            ..
        })
    ));
    let container = pool.container("again").await.unwrap();
    assert_eq!(container.uuid(), id);
    container.put(OBJECT, b"d", b"a", b"v").await.unwrap();
    pool.destroy_container(id).await.unwrap();
    let gone = pool.destroy_container(id).await.unwrap_err();
    assert!(matches!(gone, Error::Missing { .. }), "{gone}");
}
