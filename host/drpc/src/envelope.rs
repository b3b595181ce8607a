//! `drpc.Call` and `drpc.Response` on the side of a client.

use std::path::{Path, PathBuf};

use daos_proto::drpc::{Call, Response, Status};
use prost::Message;

use crate::Error;

/// Numbers calls and checks their answers.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) path: PathBuf,
    sequence: i64,
    /// Unset while a call is under way, and left so when it fails in a way after which the next
    /// packet could still belong to it.
    in_step: bool,
}

impl Envelope {
    pub(crate) fn new(path: &Path) -> Self {
        Envelope {
            path: path.to_owned(),
            sequence: 0,
            in_step: true,
        }
    }

    /// The next call, serialized.
    pub(crate) fn begin(
        &mut self,
        module: i32,
        method: i32,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        if !self.in_step {
            return Err(Error::Broken {
                path: self.path.clone(),
            });
        }
        self.in_step = false;
        self.sequence += 1;
        Ok(Call {
            module,
            method,
            sequence: self.sequence,
            body,
        }
        .encode_to_vec())
    }

    /// The body of the answer to the call begun last.
    pub(crate) fn end(
        &mut self,
        module: i32,
        method: i32,
        answer: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let response = Response::decode(answer).map_err(|source| Error::Decode {
            path: self.path.clone(),
            what: "response",
            source,
        })?;
        // A peer that cannot read the call does not know its sequence.
        let unread = response.status == Status::FailedUnmarshalCall as i32;
        if response.sequence != self.sequence && !(unread && response.sequence == 0) {
            return Err(Error::Sequence {
                path: self.path.clone(),
                wanted: self.sequence,
                got: response.sequence,
            });
        }
        self.in_step = true;
        if response.status != Status::Success as i32 {
            return Err(Error::Status {
                path: self.path.clone(),
                module,
                method,
                status: response.status,
            });
        }
        Ok(response.body)
    }

    /// Reads a body.
    pub(crate) fn body<M: Message + Default>(&self, body: &[u8]) -> Result<M, Error> {
        M::decode(body).map_err(|source| Error::Decode {
            path: self.path.clone(),
            what: "body of the response",
            source,
        })
    }
}
