//! Arrays through the library, against an engine on the loopback.

mod fake;

use daos_client::{Array, Client, Error, ObjectId, Options, WireStatus};
use fake::{FakeEngine, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const OBJECT: ObjectId = ObjectId { hi: 4, lo: 2 };

async fn array(engine: &FakeEngine, record_size: u64) -> Array {
    let mut options = Options::uri(engine.uri.clone());
    options.interface = "lo".into();
    options.deadline = Duration::from_secs(20);
    let client = Client::connect(options).await.unwrap();
    let container = client.container(fake::names::POOL, fake::names::CONTAINER);
    container.array(OBJECT, b"d", b"a", record_size).unwrap()
}

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at + len) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_are_cut_where_parts_begin() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 2);
    let array = array(&engine, 1000).await;
    // 131 records in a chunk, 8 chunks in a part: 1,048,000 bytes.
    assert_eq!(array.part_records(), 1048);
    let data = value(3_000_000);
    array.write(500, &data).await.unwrap();
    let sent: u32 = store.changes.lock().unwrap().values().sum();
    assert_eq!(sent, 4, "500..1048, 1048..2096, 2096..3144, 3144..3500");
    assert!(array.read(500, 3000).await.unwrap() == data);
    let gets = store.gets.swap(0, Ordering::SeqCst);
    assert_eq!(gets, 4);
    // Reads that leave the array end where it ends, and ask for nothing behind.
    assert!(array.read(3000, u64::MAX / 2000).await.unwrap() == data[2_500_000..]);
    assert_eq!(store.gets.swap(0, Ordering::SeqCst), 2);
    assert_eq!(array.read(0, 500).await.unwrap(), vec![0; 500_000]);
    assert!(array.read(1 << 40, 10_000).await.unwrap().is_empty());
    assert!(array.read(7, 0).await.unwrap().is_empty());
    array.write(7, &[]).await.unwrap();
    // As one change, however large the range.
    store.changes.lock().unwrap().clear();
    array.punch(1000, u64::MAX).await.unwrap();
    assert_eq!(store.changes.lock().unwrap().len(), 1);
    assert_eq!(array.info().await.unwrap().records, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_parts_are_fetched_again_and_lost_replies_repeated() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let array = array(&engine, 1).await;
    let data = value(3 << 20);
    array.write(0, &data).await.unwrap();
    store.faults.damage_values.store(2, Ordering::SeqCst);
    assert!(array.read(0, 3 << 20).await.unwrap() == data);
    store.faults.damage_values.store(1, Ordering::SeqCst);
    assert!(array.read(5, 10).await.unwrap() == data[5..15]);
    store.faults.damage_values.store(100, Ordering::SeqCst);
    let error = array.read(0, 100_000).await.unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    store.faults.damage_values.store(0, Ordering::SeqCst);
    store.faults.claim_damage.store(1, Ordering::SeqCst);
    array.write(9, b"again").await.unwrap();
    assert_eq!(array.read(9, 5).await.unwrap(), b"again");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_array() {
    let store = Arc::new(Store::default());
    let engine = FakeEngine::start(&store, 1);
    let bytes = array(&engine, 1).await;
    let missing = bytes.read(0, 5).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    assert!(matches!(bytes.info().await, Err(Error::NotFound { .. })));
    bytes.punch(0, 5).await.unwrap();
    bytes.write(0, b"12345678").await.unwrap();
    let wide = array(&engine, 4).await;
    let error = wide.write(0, b"1234").await.unwrap_err();
    assert!(
        matches!(&error, Error::Engine { status, .. } if *status == WireStatus::KIND),
        "{error}"
    );
    for word in ["write records", "dkey \"d\"", "array stat"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = wide.write(0, b"12345").await.unwrap_err().to_string();
    assert!(
        error.contains("5 bytes are no whole number of records of 4 bytes"),
        "{error}"
    );
    let error = wide.write(u64::MAX, b"1234").await.unwrap_err().to_string();
    assert!(error.contains("2^63"), "{error}");
}
