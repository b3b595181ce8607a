//! Pools and containers of the fake engine: there are some, and everything else is refused.

use super::Store;
use daos_client::{Entry, EntryState, Uuid};
use daos_wire::{ListWriter, Opcode, PoolSpace, Request, WireStatus};

/// A pool that exists, with the label "tank".
pub const POOL: Uuid = Uuid::from_u128(0x4f3c1b6e_0000_4000_8000_000000000001);
/// A container of it, with the label "box".
pub const CONTAINER: Uuid = Uuid::from_u128(0x4f3c1b6e_0000_4000_8000_000000000002);

/// What exists.
pub struct Names {
    pub pools: Vec<Entry>,
    /// With their pool.
    pub containers: Vec<(Uuid, Entry)>,
}

fn entry(id: Uuid, label: &str) -> Entry {
    Entry {
        id,
        state: EntryState::Live,
        created_ms: 1_700_000_000_000,
        scm_bytes: 1 << 20,
        bdev_bytes: 1 << 30,
        label: label.into(),
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            pools: vec![entry(POOL, "tank")],
            containers: vec![(POOL, entry(CONTAINER, "box"))],
        }
    }
}

/// What a reply says: status, whether there is more, how many entries, and its inline part.
pub(super) type Said = (WireStatus, bool, u32, Vec<u8>);

fn missing(what: &str) -> Said {
    (WireStatus::NOT_FOUND, false, 0, what.as_bytes().to_vec())
}

fn one(bytes: Vec<u8>) -> Said {
    (WireStatus::OK, false, 1, bytes)
}

impl Names {
    fn is(entry: &Entry, id: Uuid, label: &[u8]) -> bool {
        if id.is_nil() {
            entry.label.as_bytes() == label
        } else {
            entry.id == id
        }
    }

    /// What is wrong with the names in a request for data.
    pub(super) fn refusal(&self, request: &Request<'_>) -> Option<Said> {
        if !self.pools.iter().any(|pool| pool.id == request.pool) {
            return Some(missing("pool of the fake does not exist"));
        }
        let exists = |(pool, c): &(Uuid, Entry)| (*pool, c.id) == (request.pool, request.container);
        (!self.containers.iter().any(exists))
            .then(|| missing("container of the fake does not exist"))
    }

    /// Answers a request about names; two entries at a time.
    pub(super) fn answer(&mut self, request: &Request<'_>, store: &Store) -> Said {
        let list = |all: Vec<&Entry>| {
            let mut all: Vec<&Entry> = all
                .into_iter()
                .filter(|e| request.dkey.is_empty() || e.id.as_bytes()[..] > *request.dkey)
                .collect();
            all.sort_by_key(|e| e.id);
            let mut buffer = vec![0; 4096];
            let mut writer = ListWriter::new(&mut buffer);
            for entry in all.iter().take(2) {
                assert!(writer.push(&entry.encode()));
            }
            let (used, count) = writer.finish();
            buffer.truncate(used);
            (WireStatus::OK, all.len() > 2, count, buffer)
        };
        match request.opcode {
            Opcode::PoolList => return list(self.pools.iter().collect()),
            Opcode::PoolFind => {
                let found = self
                    .pools
                    .iter()
                    .find(|p| Self::is(p, request.pool, request.dkey));
                return found.map_or_else(|| missing("no such pool"), |p| one(p.encode()));
            }
            _ => {}
        }
        if !self.pools.iter().any(|pool| pool.id == request.pool) {
            return missing("no such pool");
        }
        let found = self.containers.iter().position(|(pool, c)| {
            *pool == request.pool && Self::is(c, request.container, request.dkey)
        });
        match request.opcode {
            Opcode::PoolQuery => one(PoolSpace {
                scm_total: 1000,
                scm_free: 600,
                bdev_total: 1 << 30,
                bdev_free: 1 << 29,
            }
            .encode()
            .to_vec()),
            Opcode::ContList => list(self.containers.iter().map(|(_, c)| c).collect()),
            Opcode::ContQuery => match found {
                Some(at) => one(self.containers[at].1.encode()),
                None => missing("no such container"),
            },
            Opcode::ContCreate => {
                let label = std::str::from_utf8(request.dkey).unwrap();
                let same = |c: &Entry| c.id == request.container && c.label == label;
                let taken = |c: &Entry| !label.is_empty() && c.label == label;
                match self.containers.iter().find(|(_, c)| same(c) || taken(c)) {
                    Some((_, c)) if same(c) => one(Vec::new()),
                    Some(_) => (WireStatus::EXISTS, false, 0, b"the label is taken".to_vec()),
                    None => {
                        let new = entry(request.container, label);
                        self.containers.push((request.pool, new));
                        one(Vec::new())
                    }
                }
            }
            Opcode::ContDestroy => match found {
                Some(at) => {
                    self.containers.remove(at);
                    let mut values = store.values.lock().unwrap();
                    values.retain(|name, _| name.1 != request.container);
                    one(Vec::new())
                }
                None => missing("no such container"),
            },
            other => panic!("{other:?} is not about names"),
        }
    }
}
