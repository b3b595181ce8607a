//! Pools and containers of an engine, through the client library and dRPC-free handles.

mod common;

use common::{CONTAINER, POOL, Shape, Storage, client, container_of, runtime, value};
use daos_client::{Client, Error, ObjectId, Punch, Uuid, WireStatus};
use daos_engine::catalogue::{CatalogueError, NewPool};
use daos_engine::engine::Engine;

const OBJECT: ObjectId = ObjectId { hi: 1, lo: 2 };
const MIB: u64 = 1 << 20;

fn shape() -> Shape {
    Shape {
        targets: 3,
        helpers: 1,
        bdev_mib: 120,
        ..Shape::default()
    }
}

fn make_pool(
    engine: &Engine,
    id: u128,
    label: &str,
    scm: u64,
    bdev: u64,
) -> Result<(), CatalogueError> {
    let (answer, answered) = std::sync::mpsc::channel();
    let new = NewPool {
        id: Uuid::from_u128(id),
        label: label.into(),
        owner: String::new(),
        owner_group: String::new(),
        scm_bytes: scm,
        bdev_bytes: bdev,
    };
    let catalogue = engine.catalogue();
    catalogue.create_pool(new, Box::new(move |made| drop(answer.send(made))));
    answered.recv().unwrap().map(drop)
}

/// Bytes of a pool that are not free, on SCM and block device.
async fn used(client: &Client, pool: &str) -> (u64, u64) {
    let spaces = client.pool(pool).await.unwrap().space().await.unwrap();
    spaces.iter().fold((0, 0), |(scm, bdev), space| {
        (
            scm + space.scm_total - space.scm_free,
            bdev + space.bdev_total - space.bdev_free,
        )
    })
}

#[test]
fn names_are_the_same_on_all_targets_and_after_a_restart() {
    let storage = Storage::format(shape());
    let engine = Engine::start(&storage.options()).unwrap();
    make_pool(&engine, 1, "tank", 6 * MIB, 30 * MIB).unwrap();
    make_pool(&engine, 2, "lake", 6 * MIB, 30 * MIB).unwrap();
    let rt = runtime();
    rt.block_on(async {
        let client = client(engine.uri()).await;
        let several = client.only_pool().await.err().unwrap();
        assert!(
            several.to_string().contains("tank | lake")
                || several.to_string().contains("lake | tank"),
            "{several}"
        );
        let pool = client.pool("tank").await.unwrap();
        // More than fit into one reply.
        for n in 0..400u128 {
            pool.create_container(Uuid::from_u128(1000 + n), &format!("container-{n}"))
                .await
                .unwrap();
        }
        for n in [0, 7, 199, 399u128] {
            let found = pool.find_container(format!("container-{n}").as_str()).await;
            assert_eq!(found.unwrap().id, Uuid::from_u128(1000 + n));
        }
        let all = pool.containers().await.unwrap();
        assert_eq!(all.len(), 400);
        assert!(all.is_sorted_by_key(|entry| entry.id));
        assert!(
            client
                .pool("lake")
                .await
                .unwrap()
                .containers()
                .await
                .unwrap()
                .is_empty()
        );
        let missing = client.pool("sea").await.err().unwrap();
        assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    });
    engine.stop().unwrap();
    let engine = Engine::start(&storage.options()).unwrap();
    rt.block_on(async {
        let client = client(engine.uri()).await;
        let pool = client.pool("tank").await.unwrap();
        assert_eq!(pool.containers().await.unwrap().len(), 400);
        let container = pool.container("container-7").await.unwrap();
        container.put(OBJECT, b"d", b"a", b"v").await.unwrap();
    });
    engine.stop().unwrap();
}

#[test]
fn what_a_pool_uses_is_exact_and_bounded() {
    let storage = Storage::format(shape());
    let engine = Engine::start(&storage.options()).unwrap();
    make_pool(&engine, 1, "tank", 3 * MIB, 12 * MIB).unwrap();
    make_pool(&engine, 2, "lake", 6 * MIB, 60 * MIB).unwrap();
    let rt = runtime();
    let expected = rt.block_on(async {
        let client = client(engine.uri()).await;
        let tank = client.pool("tank").await.unwrap();
        let c = tank.create_container(CONTAINER, "c").await.unwrap();
        let other = client.pool("lake").await.unwrap();
        let other = other.create_container(CONTAINER, "c").await.unwrap();
        let mut stored = 0u64;
        let full = loop {
            let bytes = value(stored, 300_000);
            match c.put(OBJECT, &stored.to_be_bytes(), b"a", &bytes).await {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 60, "12 MiB");
        };
        assert!(
            matches!(&full, Error::Engine { status: WireStatus::NO_SPACE, detail, .. }
                if detail.contains("pool tank") && detail.contains("block-device")),
            "{full}"
        );
        // Whole units of 4 KiB.
        let (_, bdev) = used(&client, "tank").await;
        assert_eq!(bdev, stored * 303_104);
        for n in 0..60u64 {
            other
                .put(OBJECT, &n.to_be_bytes(), b"a", &value(n, 300_000))
                .await
                .unwrap();
        }
        assert_eq!(used(&client, "lake").await.1, 60 * 303_104);
        let before = used(&client, "tank").await;
        // Over and over the same place.
        for n in 0..50u64 {
            c.put(OBJECT, b"same", b"a", &value(n, 64)).await.unwrap();
        }
        let after = used(&client, "tank").await;
        assert!(
            after.0 > before.0 && after.0 - before.0 < 1000,
            "{before:?} {after:?}"
        );
        c.punch(OBJECT, Punch::Dkey(&0u64.to_be_bytes()))
            .await
            .unwrap();
        while used(&client, "tank").await.1 != (stored - 1) * 303_104 {
            // Until the index has it.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        (used(&client, "tank").await, used(&client, "lake").await)
    });
    engine.stop().unwrap();
    let engine = Engine::start(&storage.options()).unwrap();
    rt.block_on(async {
        let client = client(engine.uri()).await;
        let now = (used(&client, "tank").await, used(&client, "lake").await);
        assert_eq!(now, expected, "after a restart");
        let pool = client.pool("tank").await.unwrap();
        pool.destroy_container("c").await.unwrap();
        assert_eq!(used(&client, "tank").await, (0, 0));
        assert_eq!(used(&client, "lake").await, expected.1);
    });
    engine.stop().unwrap();
}

#[test]
fn nothing_is_written_behind_a_destruction() {
    let storage = Storage::format(shape());
    let engine = storage.start();
    let rt = runtime();
    rt.block_on(async {
        let client = client(engine.uri()).await;
        let pool = client.pool(common::LABEL).await.unwrap();
        let kept = container_of(&client, CONTAINER).await;
        kept.put(OBJECT, b"d", b"a", b"kept").await.unwrap();
        for round in 0..4u64 {
            let id = Uuid::from_u128(500);
            let doomed = pool.create_container(id, "doomed").await.unwrap();
            let mut writers = Vec::new();
            for who in 0..8u64 {
                let doomed = doomed.clone();
                writers.push(tokio::spawn(async move {
                    for n in 0u64.. {
                        let size = [100, 5000, 100_000][n as usize % 3];
                        let key = (who * 1000 + n % 50).to_be_bytes();
                        match doomed.put(OBJECT, &key, b"a", &value(n, size)).await {
                            Ok(()) => {}
                            Err(Error::Missing { .. }) => return n,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    unreachable!("it is destroyed")
                }));
            }
            tokio::time::sleep(std::time::Duration::from_millis(100 + 50 * round)).await;
            pool.destroy_container("doomed").await.unwrap();
            for writer in writers {
                writer.await.unwrap();
            }
            // Made again under the same UUID it is empty, and all that is used is what is kept.
            let again = pool.create_container(id, "doomed").await.unwrap();
            assert!(again.list_dkeys(OBJECT, 0).await.unwrap().is_empty());
            let (scm, bdev) = used(&client, common::LABEL).await;
            assert!(
                scm < 300 && bdev == 0,
                "{scm} bytes and {bdev} bytes are used"
            );
            pool.destroy_container(id).await.unwrap();
        }
        assert_eq!(kept.get(OBJECT, b"d", b"a").await.unwrap(), b"kept");
        let gone = client.container(POOL, Uuid::from_u128(500));
        let error = gone.get(OBJECT, b"d", b"a").await.unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    });
    engine.stop().unwrap();
}
