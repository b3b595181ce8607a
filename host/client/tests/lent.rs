//! Values in the caller's memory.

mod fake;

use daos_client::{Client, Container, Error, ObjectId, Options};
use fake::names::{CONTAINER, POOL};
use fake::{FakeEngine, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const OBJECT: ObjectId = ObjectId { hi: 4, lo: 2 };

async fn connect(engine: &FakeEngine) -> Container {
    let mut options = Options::uri(engine.uri.clone());
    options.interface = "lo".into();
    options.attempt = Duration::from_millis(300);
    let client = Client::connect(options).await.unwrap();
    client.container(POOL, CONTAINER)
}

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

/// Sizes around every limit: inline, copied, lent, the largest.
const SIZES: [usize; 8] = [0, 1, 4096, 4097, 32_767, 32_768, 100_000, 1 << 20];

#[tokio::test(flavor = "multi_thread")]
async fn lent_memory_is_read_and_written_in_place_and_comes_back() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let container = connect(&engine).await;
    for size in SIZES {
        let mut content: Arc<[u8]> = value(size).into();
        let put = container.put_shared(OBJECT, b"d", b"a", content.clone());
        put.await.unwrap();
        assert!(Arc::get_mut(&mut content).is_some(), "{size} bytes: held");
        // Room that is too small, that fits, and that is larger.
        for room in [size / 2, size, size + 40_000] {
            let room = vec![7; room];
            let (place, len) = (room.as_ptr(), room.len());
            let got = container.get_into(OBJECT, b"d", b"a", room).await.unwrap();
            assert!(got == value(size), "{size} bytes into {len}");
            if size > 50_000 && len >= size {
                assert_eq!(got.as_ptr(), place, "{size} bytes into {len}: copied");
            }
        }
    }
    assert!(matches!(
        container
            .get_into(OBJECT, b"x", b"a", vec![0; 60_000])
            .await,
        Err(Error::NotFound { .. })
    ));
    let large = vec![1; (1 << 20) + 1].into();
    assert!(matches!(
        container.put_shared(OBJECT, b"d", b"a", large).await,
        Err(Error::Size { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn lent_memory_outlives_faults_and_abandoned_calls() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let container = connect(&engine).await;
    let mut content: Arc<[u8]> = value(70_000).into();
    let put = || container.put_shared(OBJECT, b"d", b"a", content.clone());
    // Lost replies, damage on the way there, refusals; then damage on the way back.
    store.faults.swallow_replies.store(1, Ordering::SeqCst);
    put().await.unwrap();
    store.faults.claim_damage.store(2, Ordering::SeqCst);
    store.faults.busy.store(1, Ordering::SeqCst);
    put().await.unwrap();
    let get = || container.get_into(OBJECT, b"d", b"a", vec![0; 70_000]);
    store.faults.damage_values.store(1, Ordering::SeqCst);
    store.faults.busy.store(1, Ordering::SeqCst);
    assert!(get().await.unwrap() == value(70_000));
    // Given up while the engine has the request: it answers later, and reaches nothing any more.
    store.faults.frozen.store(true, Ordering::SeqCst);
    let soon = Duration::from_millis(50);
    assert!(tokio::time::timeout(soon, get()).await.is_err());
    assert!(tokio::time::timeout(soon, put()).await.is_err());
    // An attempt that ends without an answer names the room anew.
    let late = tokio::time::timeout(Duration::from_secs(20), async {
        let (got, ()) = tokio::join!(get(), async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            store.faults.frozen.store(false, Ordering::SeqCst);
        });
        got
    });
    assert!(late.await.unwrap().unwrap() == value(70_000));
    let freed = async {
        while Arc::get_mut(&mut content).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, freed)
        .await
        .expect("given back");
}
