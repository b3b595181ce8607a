//! The catalogue without targets: what it keeps, what it refuses, and what a killed process leaves.

use super::*;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

const POOL: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const CONT: Uuid = Uuid::from_u128(3);
const MIB: u64 = 1 << 20;
const CAPACITY: Capacity = Capacity {
    targets: 2,
    scm_bytes: 8 * MIB,
    units: 1024,
    unit: 4096,
};

/// A catalogue with the desks of its targets; the file stays when it is dropped, as after a crash.
struct Rig {
    catalogue: Catalogue,
    desks: Vec<Desk>,
    path: PathBuf,
}

impl Rig {
    fn open(path: PathBuf, is_new: bool) -> Self {
        let mut opening = Opening::open(&path, b"me", is_new, CAPACITY).unwrap();
        let desks = (0..CAPACITY.targets)
            .map(|_| opening.desk(Wake::new().unwrap()))
            .collect();
        Self {
            catalogue: opening.start().unwrap(),
            desks,
            path,
        }
    }

    fn new() -> (Self, tempfile::TempDir) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        (Self::open(dir.path().join("catalogue"), true), dir)
    }

    fn reopen(self) -> Self {
        let Self {
            catalogue,
            desks,
            path,
        } = self;
        drop((catalogue, desks));
        Self::open(path, false)
    }

    fn handle(&self) -> &Handle {
        self.catalogue.handle()
    }

    fn pool(&self, id: Uuid, label: &str, scm: u64, bdev: u64) -> Result<Pool, CatalogueError> {
        let new = NewPool {
            id,
            label: label.into(),
            owner: "me@".into(),
            owner_group: String::new(),
            scm_bytes: scm,
            bdev_bytes: bdev,
        };
        wait(|answer| self.handle().create_pool(new, answer))
    }

    fn cont(&self, pool: Uuid, id: Uuid, label: &str) -> Result<Container, CatalogueError> {
        wait(|answer| {
            self.handle()
                .create_container(pool, id, label.into(), answer);
        })
    }

    /// The next job of a target, which comes soon.
    fn job(&self, target: usize) -> (Vec<u8>, u64) {
        for _ in 0..2000 {
            match self.desks[target].job() {
                Some(Job::Remove {
                    prefix,
                    incarnation,
                }) => return (prefix, incarnation),
                Some(Job::Usage { .. }) => panic!("nobody asked"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("target {target} got no job");
    }

    /// Every target removes its part of what is destroyed next.
    fn remove_everywhere(&self, prefix: &[u8]) {
        for (target, desk) in self.desks.iter().enumerate() {
            let (found, incarnation) = self.job(target);
            assert_eq!(found, prefix);
            desk.removed(incarnation);
        }
    }
}

fn wait<T: Send + 'static>(ask: impl FnOnce(Answer<T>)) -> Result<T, CatalogueError> {
    let answered = begin(ask);
    answered.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn begin<T: Send + 'static>(ask: impl FnOnce(Answer<T>)) -> Receiver<Result<T, CatalogueError>> {
    let (answer, answered) = channel();
    ask(Box::new(move |result| drop(answer.send(result))));
    answered
}

#[test]
fn pools_and_containers_come_back_and_repetitions_succeed() {
    let (rig, _dir) = Rig::new();
    let pool = rig.pool(POOL, "tank", 4 * MIB + 1, 4 * MIB + 8191).unwrap();
    assert_eq!((pool.scm_bytes, pool.bdev_bytes), (4 * MIB, 4 * MIB));
    assert_eq!(
        rig.pool(POOL, "tank", 4 * MIB + 1, 4 * MIB),
        Ok(pool.clone())
    );
    let cont = rig.cont(POOL, CONT, "box").unwrap();
    assert_eq!(rig.cont(POOL, CONT, "box"), Ok(cont.clone()));
    rig.cont(POOL, OTHER, "").unwrap();
    rig.cont(POOL, POOL, "").unwrap();
    for (error, words) in [
        (
            rig.pool(POOL, "tank", 2 * MIB, 0).unwrap_err(),
            "exists with label tank",
        ),
        (
            rig.pool(OTHER, "tank", 2 * MIB, 0).unwrap_err(),
            "belongs to pool",
        ),
        (rig.pool(OTHER, "a b", 2 * MIB, 0).unwrap_err(), "letters"),
        (
            rig.pool(OTHER, "x", MIB, 0).unwrap_err(),
            "needs 2097152 bytes of SCM",
        ),
        (
            rig.pool(OTHER, "x", 2 * MIB, 4096).unwrap_err(),
            "bytes of block device",
        ),
        (
            rig.pool(OTHER, "x", 13 * MIB, 0).unwrap_err(),
            "12582912 are there",
        ),
        (
            rig.pool(OTHER, "x", 2 * MIB, 5 * MIB).unwrap_err(),
            "of 8388608 bytes for pools, 4194304 belong",
        ),
        (
            rig.cont(OTHER, CONT, "").unwrap_err(),
            "daos_shell pool create",
        ),
        (
            rig.cont(POOL, CONT, "").unwrap_err(),
            "exists with label box",
        ),
        (
            rig.cont(POOL, Uuid::from_u128(9), "box").unwrap_err(),
            "belongs to container",
        ),
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
    let before = rig.handle().snapshot();
    let rig = rig.reopen();
    let after = rig.handle().snapshot();
    assert!(after.pools().eq(before.pools()));
    assert!(after.containers(POOL).eq(before.containers(POOL)));
    assert_eq!(after.container(POOL, CONT), Ok(&cont));
    assert_eq!(after.container_of_label(POOL, "box"), Ok(&cont));
    assert_eq!(after.pool_of_label("tank"), Ok(&pool));
    let missing = after.container(POOL, Uuid::from_u128(77)).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("daos container create --pool tank"),
        "{missing}"
    );
    let quota = &after.quotas(CAPACITY)[&POOL];
    assert_eq!((quota.scm_bytes, quota.units), (2 * MIB, 512));
}

#[test]
fn a_destruction_ends_when_every_target_is_done() {
    let (mut rig, _dir) = Rig::new();
    rig.pool(POOL, "tank", 4 * MIB, 0).unwrap();
    rig.cont(POOL, CONT, "box").unwrap();
    let old = rig.desks[0].admit(POOL, CONT).unwrap();
    let refused = wait(|answer| rig.handle().destroy_pool(POOL, false, answer)).unwrap_err();
    assert!(refused.to_string().contains("--recursive"), "{refused}");

    rig.desks[0].destroy_container(5, POOL, CONT);
    let (prefix, first) = rig.job(0);
    assert_eq!(prefix, key_prefix(Some(CONT)));
    let missing = rig.desks[0].admit(POOL, CONT).unwrap_err();
    assert!(matches!(missing, Missing::DyingContainer(..)), "{missing}");
    let busy = rig.cont(POOL, CONT, "box").unwrap_err();
    assert!(matches!(busy, CatalogueError::Destroying(_)), "{busy}");
    // Asking again waits for the same.
    rig.desks[1].destroy_container(6, POOL, CONT);
    rig.desks[0].removed(first);
    assert!(rig.desks[0].done().is_none());
    let (_, second) = rig.job(1);
    rig.desks[1].removed(second);
    // The thread answers in order: once it has answered this, it has answered those.
    rig.cont(POOL, OTHER, "").unwrap();
    assert_eq!(rig.desks[0].done().unwrap().index, 5);
    assert_eq!(rig.desks[1].done().unwrap().index, 6);
    assert!(matches!(
        rig.desks[0].admit(POOL, CONT),
        Err(Missing::Container(..))
    ));
    rig.cont(POOL, CONT, "box").unwrap();
    assert_ne!(rig.desks[0].admit(POOL, CONT).unwrap(), old, "told apart");

    let ended = begin(|answer| rig.handle().destroy_pool(POOL, true, answer));
    rig.remove_everywhere(&key_prefix(None));
    ended
        .recv_timeout(Duration::from_secs(20))
        .unwrap()
        .unwrap();
    let after = rig.handle().snapshot();
    assert_eq!(after.pools().count() + after.containers(POOL).count(), 0);
    assert_eq!(after.promised(), (0, 0));
}

fn key_prefix(container: Option<Uuid>) -> Vec<u8> {
    crate::index::key::prefix(POOL, container)
}

#[test]
fn a_process_that_dies_in_a_destruction_leaves_one_that_is_completed() {
    for step in 0..4 {
        let (rig, dir) = Rig::new();
        rig.pool(POOL, "tank", 4 * MIB, 0).unwrap();
        rig.pool(OTHER, "spare", 4 * MIB, 0).unwrap();
        rig.cont(POOL, CONT, "box").unwrap();
        rig.cont(OTHER, CONT, "box").unwrap();
        let begun = begin(|answer| rig.handle().destroy_pool(POOL, true, answer));
        // Dies once it is marked, after none, one, or all targets, and after its end.
        let (_, incarnation) = rig.job(0);
        rig.job(1);
        for target in 0..step.min(2) {
            rig.desks[target].removed(incarnation);
        }
        if step == 3 {
            begun
                .recv_timeout(Duration::from_secs(20))
                .unwrap()
                .unwrap();
        }
        let copy = dir.path().join("copy");
        // A copy of the file is what the death leaves, whatever the thread does next.
        std::fs::copy(&rig.path, &copy).unwrap();
        drop(rig);
        let rig = Rig::open(copy, false);
        let found = rig.handle().snapshot();
        let gone = !found.pools.contains_key(&POOL);
        assert!(found.pool(POOL).is_err(), "invisible whatever happens");
        assert!(step < 3 || gone);
        if !gone {
            assert_eq!(found.promised().0, 8 * MIB, "not free before it is");
            rig.remove_everywhere(&key_prefix(None));
            // Waits for the thread.
            while rig.handle().snapshot().pools.contains_key(&POOL) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let rig = rig.reopen();
        let found = rig.handle().snapshot();
        assert_eq!(found.pools().count(), 1);
        assert_eq!(found.containers(POOL).count(), 0);
        found.container(OTHER, CONT).unwrap();
        rig.pool(POOL, "tank", 4 * MIB, 0).unwrap();
    }
}

#[test]
fn a_damaged_entry_a_foreign_file_and_a_lost_one_are_errors() {
    let (rig, dir) = Rig::new();
    rig.pool(POOL, "tank", 4 * MIB, 0).unwrap();
    let path = rig.path.clone();
    drop(rig);
    let open = |identity: &[u8], is_new| Opening::open(&path, identity, is_new, CAPACITY).map(drop);
    assert!(
        matches!(open(b"you", false), Err(CatalogueError::Corrupt(text)) if text.contains("another"))
    );
    let mut bytes = std::fs::read(&path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - 4)
        .filter(|at| &bytes[*at..at + 4] == b"tank")
        .collect();
    for at in &places {
        bytes[*at] = b'b';
    }
    assert!(!places.is_empty());
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        open(b"me", false),
        Err(CatalogueError::Corrupt(_))
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(
        matches!(open(b"me", false), Err(CatalogueError::Corrupt(text)) if text.contains("gone"))
    );
    drop(dir);
}

#[test]
fn labels_of_pools_change_for_good() {
    let (rig, _dir) = Rig::new();
    let label = |rig: &Rig, id, label: &str| {
        wait(|answer| rig.handle().label_pool(id, label.to_owned(), answer))
    };
    let tank = rig.pool(POOL, "tank", 2 * MIB, 0).unwrap();
    rig.pool(OTHER, "other", 2 * MIB, 0).unwrap();
    rig.cont(POOL, CONT, "box").unwrap();
    label(&rig, POOL, "pond").unwrap();
    label(&rig, POOL, "pond").unwrap();
    let error = |result: Result<(), CatalogueError>| result.unwrap_err().to_string();
    assert!(error(label(&rig, POOL, "other")).contains("belongs to pool"));
    assert!(error(label(&rig, POOL, "a b")).contains("letters"));
    assert!(error(label(&rig, CONT, "x")).contains("does not exist"));
    let rig = rig.reopen();
    let now = rig.handle().snapshot();
    let pond = Pool {
        label: "pond".into(),
        ..tank
    };
    assert_eq!(now.pool_of_label("pond"), Ok(&pond));
    assert_eq!(pond.owner, "me@");
    assert!(now.pool_of_label("tank").is_err());
    assert!(now.container_of_label(POOL, "box").is_ok());
    // The former label is free.
    label(&rig, OTHER, "tank").unwrap();
}

#[test]
fn pools_of_before_they_had_owners_are_read() {
    let text = r#"{"id":"00000000-0000-0000-0000-000000000001","label":"tank","scm_bytes":1,"bdev_bytes":0,
        "created_ms":5,"state":"live","incarnation":1}"#;
    let pool: Pool = serde_json::from_str(text).unwrap();
    assert_eq!((pool.id, pool.owner.as_str()), (POOL, ""));
}
