//! Values in the caller's memory: the engine reads and writes it, which saves a copy.
//!
//! The memory is the client's while a call lasts. It is registered for that call alone, so that nobody
//! reaches it once it is the caller's again.

use crate::block::{LentVec, Memory};
use crate::container::{check_key, stored, value_of};
use crate::{Container, Error, ObjectId};
use daos_wire::{Opcode, SINGLE_MAX, WireStatus, crc32c};
use std::sync::Arc;

/// Smallest value for which a caller's memory is registered instead of copied: that takes as long as
/// copying some ten thousand bytes.
const LEND_MIN: usize = 32 << 10;

impl Container {
    /// Stores a value as [`Container::put`] does, without copying a large one where the fabric allows
    /// that: the engine reads it from where it is. The client holds `value` until the call has ended,
    /// also if the future is dropped; [`Arc::get_mut`] works again then.
    ///
    /// # Errors
    /// As [`Container::put`].
    pub async fn put_shared(
        &self,
        object: ObjectId,
        dkey: &[u8],
        akey: &[u8],
        value: Arc<[u8]>,
    ) -> Result<(), Error> {
        let core = self.core();
        if value.len() < LEND_MIN || !core.pool.lends() {
            return self.put(object, dkey, akey, &value).await;
        }
        let call = self.put_call(object, dkey, akey, &value)?;
        let lease = core.lend(&call, Memory::Shared(value.clone()))?;
        let patience = &mut self.patience();
        let answered = core
            .call_with(&call, Some(lease), value.len(), patience)
            .await?;
        stored(&call, &answered)
    }

    /// Fetches a value into `room`, without copying a large one where the fabric allows that: the engine
    /// writes it to where it shall be. As [`Container::get_expecting`] with as many bytes as `room` has;
    /// what is returned is `room`, cut to the value, unless the value is larger, small or came back damaged
    /// at first: then it is another vector.
    ///
    /// # Errors
    /// As [`Container::get`]; `room` is gone then.
    pub async fn get_into(
        &self,
        object: ObjectId,
        dkey: &[u8],
        akey: &[u8],
        room: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let core = self.core();
        let len = room.len().min(SINGLE_MAX as usize);
        if len >= LEND_MIN && core.pool.lends() {
            let call = self.call(Opcode::Get, object, dkey, akey);
            check_key(&call, "the dkey", dkey)?;
            check_key(&call, "the akey", akey)?;
            let lease = core.lend(&call, Memory::Vec(LentVec::new(room)))?;
            let patience = &mut self.patience();
            let answered = core.call_with(&call, Some(lease), len, patience).await?;
            if answered.answer.status != WireStatus::NO_ROOM {
                let expected = answered.answer.checksum;
                let value = value_of(&call, answered, len)?;
                if crc32c(&value) == expected {
                    return Ok(value);
                }
            }
        }
        // The rest is rare enough to begin anew.
        self.get_expecting(object, dkey, akey, len).await
    }
}
