//! From a call to the code that answers it.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use daos_proto::drpc::{Call, Response, Status};
use prost::Message;

use crate::Caller;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who calls.
    pub caller: Caller,
    /// Number of the method.
    pub method: i32,
    /// The serialized body; empty for methods that have none.
    pub body: Vec<u8>,
}

impl Request {
    /// The body as a message.
    ///
    /// # Errors
    /// [`Refusal::BadPayload`].
    pub fn decode<M: Message + Default>(&self) -> Result<M, Refusal> {
        M::decode(&*self.body).map_err(|error| Refusal::BadPayload(error.to_string()))
    }
}

/// Why a call gets a status instead of a body. Errors of the operation itself, which the protocol
/// knows, belong into the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The module has no such method.
    #[error("unknown method")]
    UnknownMethod,
    /// The body cannot be read.
    #[error("the body cannot be read: {0}")]
    BadPayload(String),
    /// The call failed; the text goes to the log of this side only.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    fn status(&self) -> Status {
        match self {
            Refusal::UnknownMethod => Status::UnknownMethod,
            Refusal::BadPayload(_) => Status::FailedUnmarshalPayload,
            Refusal::Failed(_) => Status::Failure,
        }
    }
}

/// The answer to come.
pub type Reply = Pin<Box<dyn Future<Output = Result<Vec<u8>, Refusal>> + Send>>;

/// Serializes the body of an answer.
///
/// # Errors
/// None; the type is that of a [`Reply`].
pub fn reply(message: &impl Message) -> Result<Vec<u8>, Refusal> {
    Ok(message.encode_to_vec())
}

/// A set of methods with a number.
///
/// Calls of one connection come one after the other, calls of several at the same time and from
/// several threads. A panic in a call becomes [`Status::Failure`].
pub trait Module: Send + Sync {
    /// Its number, see [`crate::methods::module`].
    fn id(&self) -> i32;

    /// Answers one call.
    fn call(self: Arc<Self>, request: Request) -> Reply;
}

/// Modules by number.
#[derive(Clone, Default)]
pub struct Router(HashMap<i32, Arc<dyn Module>>);

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Router {
    /// A router without modules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a module.
    ///
    /// # Panics
    /// If there is one of that number.
    #[must_use]
    pub fn with(mut self, module: Arc<dyn Module>) -> Self {
        let id = module.id();
        assert!(
            self.0.insert(id, module).is_none(),
            "two dRPC modules of number {id}"
        );
        self
    }

    /// The serialized response to a serialized call.
    pub(crate) async fn answer(&self, caller: Caller, call: &[u8]) -> Vec<u8> {
        let Ok(Call {
            module,
            method,
            sequence,
            body,
        }) = Call::decode(call)
        else {
            tracing::warn!(pid = caller.pid, "dRPC: a call that cannot be read");
            let status = Status::FailedUnmarshalCall.into();
            return Response {
                sequence: 0,
                status,
                body: Vec::new(),
            }
            .encode_to_vec();
        };
        let Some(target) = self.0.get(&module) else {
            tracing::warn!(pid = caller.pid, module, method, "dRPC: unknown module");
            let status = Status::UnknownModule.into();
            return Response {
                sequence,
                status,
                body: Vec::new(),
            }
            .encode_to_vec();
        };
        let target = target.clone();
        let result = caught(|| {
            target.call(Request {
                caller,
                method,
                body,
            })
        })
        .await;
        let (status, body) = match result {
            Ok(body) => (Status::Success, body),
            Err(refusal) => {
                tracing::warn!(pid = caller.pid, module, method, "dRPC: {refusal}");
                (refusal.status(), Vec::new())
            }
        };
        Response {
            sequence,
            status: status.into(),
            body,
        }
        .encode_to_vec()
    }
}

/// Makes and awaits a reply; a panic becomes a refusal.
async fn caught(make: impl FnOnce() -> Reply) -> Result<Vec<u8>, Refusal> {
    let panicked = || Refusal::Failed("the method panicked".to_owned());
    // Nothing of what the panic left behind is looked at again but what the module shares itself.
    let mut reply = catch_unwind(AssertUnwindSafe(make)).map_err(|_| panicked())?;
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| reply.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    })
    .await
}
