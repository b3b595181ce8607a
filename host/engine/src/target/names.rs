//! Requests about pools and containers, and the target's part in destroying them.

use super::Target;
use super::ops::Stage;
use crate::catalogue::{CatalogueError, Job, Missing, Snapshot};
use crate::index::key::pool_of;
use crate::storage::StorageError;
use daos_wire::{
    Entry, ListWriter, Opcode, PoolSpace, REPLY_HEADER, REPLY_MAX, Reply, Request, WireStatus,
    crc32c,
};
use std::collections::VecDeque;
use std::sync::Arc;
use uuid::Uuid;

/// Something that is being destroyed, as far as it concerns this target.
pub(super) struct Removal {
    prefix: Vec<u8>,
    incarnation: u64,
    /// Nothing is left; the change with this sequence must settle before its space is free.
    settles: Option<u64>,
}

/// What the target knows and does for the catalogue.
#[derive(Default)]
pub(super) struct Removals(VecDeque<Removal>);

impl Removals {
    /// Whether a commit would move something on.
    pub(super) fn want_commit(&self) -> bool {
        !self.0.is_empty()
    }
}

/// What a request about names asks for; owned, since the message is where the reply goes.
pub(super) struct Question {
    opcode: Opcode,
    pool: Uuid,
    container: Uuid,
    text: Vec<u8>,
    limit: u32,
}

impl Question {
    /// The question of a request, if it is one about names.
    pub(super) fn of(request: &Request<'_>) -> Option<Self> {
        let asks = matches!(
            request.opcode,
            Opcode::ContCreate
                | Opcode::ContDestroy
                | Opcode::ContList
                | Opcode::ContQuery
                | Opcode::PoolQuery
                | Opcode::PoolList
                | Opcode::PoolFind
        );
        asks.then(|| Self {
            opcode: request.opcode,
            pool: request.pool,
            container: request.container,
            text: request.dkey.to_vec(),
            limit: request.limit,
        })
    }
}

impl Target {
    /// Takes note of new pools, and does some of what the catalogue wants. Whether anything happened.
    pub(super) fn serve_catalogue(&mut self) -> bool {
        let mut busy = false;
        if let Some(now) = self.desk.changed() {
            self.storage.set_quotas(now.quotas(self.desk.capacity()));
        }
        while let Some(job) = self.desk.job() {
            busy = true;
            match job {
                Job::Remove {
                    prefix,
                    incarnation,
                } => self.removals.0.push_back(Removal {
                    prefix,
                    incarnation,
                    settles: None,
                }),
                Job::Usage { pool, answer } => answer(self.number, self.storage.used_by(pool)),
            }
        }
        while let Some(done) = self.desk.done() {
            busy = true;
            let status = match done.result {
                Ok(_) => WireStatus::OK,
                Err(error) => {
                    self.refuse_catalogue(done.index, &error);
                    continue;
                }
            };
            let reply = self.ops[done.index as usize].reply(status);
            self.answer(done.index, &reply);
        }
        busy | self.remove_piece()
    }

    /// Does one piece of the oldest destruction. Whether anything happened.
    fn remove_piece(&mut self) -> bool {
        if self.failure().is_some() {
            return false;
        }
        let Some(first) = self.removals.0.front_mut() else {
            return false;
        };
        if let Some(sequence) = first.settles {
            let committed = self.storage.waiting() == 0 && !self.committing;
            if !committed && !self.storage.is_settled(sequence) {
                return false;
            }
            self.desk.removed(first.incarnation);
            self.removals.0.pop_front();
            return true;
        }
        match self.storage.punch_piece(&first.prefix) {
            Ok(true) => true,
            Ok(false) => {
                first.settles = Some(self.storage.last_sequence());
                true
            }
            // The next commit makes room.
            Err(StorageError::LogFull) => false,
            Err(error) => {
                self.fail(format!(
                    "a container or pool could not be destroyed: {error}"
                ));
                false
            }
        }
    }

    /// Whether a request may use the container that it names; if not, it is refused.
    pub(super) fn admit(&mut self, index: u32, pool: Uuid, container: Uuid) -> bool {
        match self.desk.admit(pool, container) {
            Ok(incarnation) => {
                self.ops[index as usize].incarnation = incarnation;
                true
            }
            Err(missing) => {
                self.refuse_missing(index, &missing);
                false
            }
        }
    }

    /// Whether the container of a request that waited meanwhile is still the one it was admitted to.
    pub(super) fn is_still_admitted(&mut self, index: u32) -> bool {
        let op = &self.ops[index as usize];
        let pool = pool_of(&op.key);
        let container = pool_of(&op.key[16..]);
        self.desk.admit(pool, container) == Ok(op.incarnation)
    }

    /// Refuses a request whose container went away while it waited.
    pub(super) fn refuse_gone(&mut self, index: u32) {
        let text = "the container was destroyed while the request was under way";
        self.refuse(index, WireStatus::NOT_FOUND, text);
    }

    fn refuse_missing(&mut self, index: u32, missing: &Missing) {
        self.refuse(index, WireStatus::NOT_FOUND, &missing.to_string());
    }

    fn refuse_catalogue(&mut self, index: u32, error: &CatalogueError) {
        self.refuse(index, error.wire_status(), &error.to_string());
    }

    /// Answers a question about names, or hands a change in.
    pub(super) fn on_question(&mut self, index: u32, question: &Question) {
        let now = self.desk.snapshot();
        let found = match question.opcode {
            Opcode::ContCreate => return self.create_container(index, question, &now),
            Opcode::ContDestroy => {
                if let Err(missing) = now.pool(question.pool) {
                    return self.refuse_missing(index, &missing);
                }
                self.ops[index as usize].stage = Stage::Catalogue;
                return self
                    .desk
                    .destroy_container(index, question.pool, question.container);
            }
            Opcode::ContList => match now.pool(question.pool) {
                Err(missing) => return self.refuse_missing(index, &missing),
                Ok(_) => {
                    let all = now.containers(question.pool).map(|c| c.entry());
                    return self.list_entries(index, question, all);
                }
            },
            Opcode::PoolList => {
                return self.list_entries(index, question, now.pools().map(|pool| pool.entry()));
            }
            Opcode::ContQuery => match label(question.container, &question.text) {
                None => now.container(question.pool, question.container),
                Some(label) => now.container_of_label(question.pool, label),
            }
            .map(|container| container.entry().encode()),
            Opcode::PoolFind => match label(question.pool, &question.text) {
                None => now.pool(question.pool),
                Some(label) => now.pool_of_label(label),
            }
            .map(|pool| pool.entry().encode()),
            _ => now.pool(question.pool).map(|pool| {
                let quota = self.desk.capacity().quota(pool);
                let used = self.storage.used_by(question.pool);
                let unit = u64::from(self.device.share().unit);
                let space = PoolSpace {
                    scm_total: quota.scm_bytes,
                    scm_free: quota.scm_bytes.saturating_sub(used.scm_bytes),
                    bdev_total: quota.units * unit,
                    bdev_free: quota.units.saturating_sub(used.units) * unit,
                };
                space.encode().to_vec()
            }),
        };
        match found {
            Ok(bytes) => {
                let reply = Reply {
                    count: 1,
                    checksum: crc32c(&bytes),
                    inline: &bytes,
                    ..self.ops[index as usize].reply(WireStatus::OK)
                };
                self.answer(index, &reply);
            }
            Err(missing) => self.refuse_missing(index, &missing),
        }
    }

    fn create_container(&mut self, index: u32, question: &Question, now: &Arc<Snapshot>) {
        if let Err(missing) = now.pool(question.pool) {
            return self.refuse_missing(index, &missing);
        }
        let Ok(label) = String::from_utf8(question.text.clone()) else {
            return self.refuse(index, WireStatus::INVALID, "the label is no text");
        };
        self.ops[index as usize].stage = Stage::Catalogue;
        self.desk
            .create_container(index, question.pool, question.container, label);
    }

    /// Lists the entries behind the UUID in the question, as many as fit.
    fn list_entries(
        &mut self,
        index: u32,
        question: &Question,
        entries: impl Iterator<Item = Entry>,
    ) {
        let op = &mut self.ops[index as usize];
        let Some(message) = &mut op.message else {
            return;
        };
        let room = &mut message.bytes_mut()[REPLY_HEADER..REPLY_MAX];
        let mut writer = ListWriter::new(room);
        let (mut count, mut more) = (0, false);
        let after = (!question.text.is_empty()).then(|| pool_of(&question.text));
        for entry in entries.filter(|entry| after.is_none_or(|after| entry.id > after)) {
            if (question.limit > 0 && count == question.limit) || !writer.push(&entry.encode()) {
                more = true;
                break;
            }
            count += 1;
        }
        let (used, count) = writer.finish();
        let reply = Reply {
            more,
            count,
            checksum: crc32c(&room[..used]),
            ..op.reply(WireStatus::OK)
        };
        self.answer_in_place(index, &reply, used);
    }
}

/// The label of a question that names nothing by its UUID.
fn label(id: Uuid, text: &[u8]) -> Option<&str> {
    // A text that is no label matches none.
    id.is_nil()
        .then(|| std::str::from_utf8(text).unwrap_or_default())
}
