//! Arrays.

use crate::call::Call;
use crate::container::{Container, Fetched, check_key, senseless};
use crate::{Error, ObjectId};
use daos_wire::{ArrayRange, INLINE_MAX, Opcode, RECORD_SIZE_MAX, SINGLE_MAX, chunk_records};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Parts of a transfer under way at once.
const DEPTH: usize = 8;

/// What an engine knows of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayInfo {
    /// Bytes per record.
    pub record_size: u64,
    /// Number of the record behind the last one.
    pub records: u64,
}

/// An array: records of a fixed size under a dkey and an akey, numbered from 0. Cheap to clone.
///
/// Records that nobody wrote, or that were punched, read as zeros; an array ends with the last
/// record that was written and not punched. The first write makes the array and says how large its
/// records are: 1 byte to [`RECORD_SIZE_MAX`]. From then on, until the akey is punched or the array
/// has no record left, requests that mean another size, or a single value, are refused.
///
/// What a call transfers is cut into parts of at most 1 MiB, several of which are under way at once.
/// Each part has the client's deadline for itself and is atomic for itself: it is written as a whole
/// or not at all, and a read sees all or nothing of it. Writes that begin at a multiple of
/// [`Array::part_records`] make the fewest parts.
#[derive(Clone)]
pub struct Array {
    container: Container,
    object: ObjectId,
    dkey: Vec<u8>,
    akey: Vec<u8>,
    record_size: u64,
}

impl Container {
    /// An array with records of `record_size` bytes. Nothing is asked of the engine.
    ///
    /// # Errors
    /// [`Error::Size`] and [`Error::Records`] for keys and records of a size that no engine stores.
    pub fn array(
        &self,
        object: ObjectId,
        dkey: &[u8],
        akey: &[u8],
        record_size: u64,
    ) -> Result<Array, Error> {
        let call = self.call(Opcode::ArrayQuery, object, dkey, akey);
        check_key(&call, "the dkey", dkey)?;
        check_key(&call, "the akey", akey)?;
        if !(1..=RECORD_SIZE_MAX).contains(&record_size) {
            return Err(Error::Records {
                operation: call.operation(),
                cause: format!("records have 1 to {RECORD_SIZE_MAX} bytes, not {record_size}"),
            });
        }
        Ok(Array {
            container: self.clone(),
            object,
            dkey: dkey.to_vec(),
            akey: akey.to_vec(),
            record_size,
        })
    }

    /// An array that exists, and what the engine knows of it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing was written there; otherwise see [`Error`].
    pub async fn open_array(
        &self,
        object: ObjectId,
        dkey: &[u8],
        akey: &[u8],
    ) -> Result<(Array, ArrayInfo), Error> {
        let mut array = self.array(object, dkey, akey, 1)?;
        let info = array.info().await?;
        array.record_size = info.record_size;
        Ok((array, info))
    }
}

impl Array {
    /// Bytes per record.
    pub fn record_size(&self) -> u64 {
        self.record_size
    }

    /// Most records that one part of a transfer has.
    pub fn part_records(&self) -> u64 {
        let chunk = chunk_records(self.record_size);
        // A chunk is at most 128 KiB.
        SINGLE_MAX / (chunk * self.record_size) * chunk
    }

    fn call(&self, opcode: Opcode, array: ArrayRange) -> Call<'_> {
        let (dkey, akey) = (&self.dkey, &self.akey);
        Call {
            array,
            ..self.container.call(opcode, self.object, dkey, akey)
        }
    }

    /// Cuts a range where parts begin and end.
    fn parts(&self, range: ArrayRange) -> impl Iterator<Item = ArrayRange> + use<> {
        let most = self.part_records();
        let end = range.offset + range.count;
        let mut at = range.offset;
        std::iter::from_fn(move || {
            let next = ((at / most + 1) * most).min(end);
            let part = ArrayRange {
                offset: at,
                count: next - at,
                ..range
            };
            at = next;
            (part.count > 0).then_some(part)
        })
    }

    /// The records of a range that may exist.
    fn existing(&self, offset: u64, count: u64) -> ArrayRange {
        let rest = ArrayRange::from(offset, self.record_size);
        ArrayRange {
            count: count.min(rest.count),
            ..rest
        }
    }

    /// The records of a range, if an array may have them.
    fn range(&self, offset: u64, count: u64) -> Result<ArrayRange, Error> {
        let range = ArrayRange {
            offset,
            count,
            record_size: self.record_size,
        };
        if count == 0 || range.is_valid() {
            return Ok(range);
        }
        Err(Error::Records {
            operation: self.call(Opcode::ArrayPut, range).operation(),
            cause: format!(
                "{count} records of {} bytes from record {offset} on end behind the last byte that an array may have (2^63)",
                self.record_size
            ),
        })
    }

    /// Writes records from record `offset` on; when this returns they are durable. `data` is a whole
    /// number of records.
    ///
    /// # Errors
    /// [`Error::Records`] for a range that no array has; [`Error::Engine`] with status `KIND` if
    /// something else is stored there; otherwise see [`Error`]. After an error any of the parts (see
    /// [`Array`]) may have been written.
    pub async fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let len = data.len() as u64;
        let range = self.range(offset, len / self.record_size)?;
        if !len.is_multiple_of(self.record_size) {
            return Err(Error::Records {
                operation: self.call(Opcode::ArrayPut, range).operation(),
                cause: format!(
                    "{len} bytes are no whole number of records of {} bytes",
                    self.record_size
                ),
            });
        }
        stream::iter(self.parts(range))
            .map(|part| {
                let at = ((part.offset - offset) * self.record_size) as usize;
                let bytes = (part.count * self.record_size) as usize;
                self.write_part(part, &data[at..at + bytes])
            })
            .buffer_unordered(DEPTH)
            .try_collect::<()>()
            .await
    }

    async fn write_part(&self, part: ArrayRange, value: &[u8]) -> Result<(), Error> {
        let mut call = self.call(Opcode::ArrayPut, part);
        call.value = value;
        let room = room(value.len());
        let mut patience = self.container.patience();
        let answered = self
            .container
            .core()
            .call(&call, room, &mut patience)
            .await?;
        if answered.answer.status.is_ok() {
            return Ok(());
        }
        let cause = answered.answer.status.to_string();
        Err(senseless(&call, &answered, cause))
    }

    /// Reads up to `count` records from record `offset` on; fewer if the array ends before. What
    /// nobody wrote is zeros.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no array; [`Error::Engine`] with status `KIND` if something
    /// else is stored there, with `CORRUPT` if a medium damaged it; [`Error::Checksum`] if it came
    /// back damaged three times; otherwise see [`Error`].
    pub async fn read(&self, offset: u64, count: u64) -> Result<Vec<u8>, Error> {
        let mut range = self.existing(offset, count);
        if range.count > self.part_records() {
            // Nobody waits for parts behind the end, and memory is taken for what there is.
            let info = self.info().await?;
            range.count = range.count.min(info.records.saturating_sub(offset));
        }
        let mut out = Vec::new();
        let mut parts = stream::iter(self.parts(range))
            .map(|part| async move { Ok::<_, Error>((part, self.read_part(part).await?)) })
            .buffered(DEPTH);
        while let Some((part, bytes)) = parts.try_next().await? {
            let at = ((part.offset - offset) * self.record_size) as usize;
            if !bytes.is_empty() {
                // A part that was short while a later one is not: the array has grown meanwhile.
                out.resize(at, 0);
                out.extend_from_slice(&bytes);
            }
        }
        Ok(out)
    }

    async fn read_part(&self, part: ArrayRange) -> Result<Vec<u8>, Error> {
        let call = self.call(Opcode::ArrayGet, part);
        let wanted = (part.count * self.record_size) as usize; // at most 1 MiB
        let mut patience = self.container.patience();
        match self
            .container
            .fetch(&call, room(wanted), &mut patience)
            .await?
        {
            Fetched::Value(bytes)
                if bytes.len() <= wanted
                    && (bytes.len() as u64).is_multiple_of(self.record_size) =>
            {
                Ok(bytes)
            }
            Fetched::Value(bytes) => Err(Error::Protocol {
                operation: call.operation(),
                target: 0,
                cause: format!("{} bytes are no answer to {wanted}", bytes.len()),
            }),
            Fetched::NoRoom(answered) => {
                let cause = format!("no room in {wanted} bytes for as many");
                Err(senseless(&call, &answered, cause))
            }
        }
    }

    /// Removes `count` records from record `offset` on, as one change; they read as zeros then, or,
    /// if they were the last ones, the array is shorter. Punching what is not there is no error. A
    /// count that leaves the array means: all that follow.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn punch(&self, offset: u64, count: u64) -> Result<(), Error> {
        let range = self.existing(offset, count);
        if range.count == 0 {
            return Ok(());
        }
        let call = self.call(Opcode::ArrayPunch, range);
        self.container.punch_one(&call).await
    }

    /// Asks the engine what it knows of the array.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none; otherwise see [`Error`].
    pub async fn info(&self) -> Result<ArrayInfo, Error> {
        let call = self.call(Opcode::ArrayQuery, ArrayRange::default());
        let mut patience = self.container.patience();
        let answered = self.container.core().call(&call, 0, &mut patience).await?;
        let info = ArrayInfo {
            record_size: u64::from(answered.answer.count),
            records: answered.answer.total,
        };
        if !answered.answer.status.is_ok() || !(1..=RECORD_SIZE_MAX).contains(&info.record_size) {
            let cause = format!("records of {} bytes", info.record_size);
            return Err(senseless(&call, &answered, cause));
        }
        Ok(info)
    }
}

/// Bytes of memory that a transfer needs beside its messages.
fn room(bytes: usize) -> usize {
    if bytes > INLINE_MAX { bytes } else { 0 }
}
