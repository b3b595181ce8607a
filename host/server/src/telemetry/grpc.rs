//! Counts calls of the control plane, by method.

use super::page::Page;
use crate::services::WRONG_SYSTEM;
use crate::transport::NO_COMPATIBILITY;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use daos_proto::host::Fault;
use daos_telemetry::Histogram;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};

/// What calls there were.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    methods: BTreeMap<String, Method>,
    /// Calls for which their method did nothing, by it and by the reason.
    refused: BTreeMap<(String, &'static str), u64>,
    /// Connections whose handshake failed.
    handshakes: u64,
}

struct Method {
    /// By status.
    codes: BTreeMap<&'static str, u64>,
    /// Seconds to the beginning of the answer.
    times: Histogram,
}

/// Serves a call and takes note of it.
pub(crate) async fn count(State(calls): State<Calls>, request: Request, next: Next) -> Response {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let began = Instant::now();
    let response = next.run(request).await;
    // One that fails says so in the head; one that succeeds, and a stream, in the trailers.
    let header = response.headers().get("grpc-status");
    let code = header.map_or(Code::Ok, |v| Code::from_bytes(v.as_bytes()));
    if code != Code::Ok
        && let Some(reason) = refusal(response.headers())
    {
        calls.refused(&method, reason);
    }
    // Whoever can connect can make names up: those that nobody serves are one.
    let method = match code {
        Code::Unimplemented => "unknown".to_owned(),
        _ => method,
    };
    let mut counts = calls.lock();
    let known = counts.methods.entry(method).or_insert_with(|| Method {
        codes: BTreeMap::new(),
        times: Histogram::seconds(),
    });
    *known.codes.entry(name(code)).or_default() += 1;
    known.times.observe(began.elapsed().as_secs_f64());
    response
}

/// Why a method refused its caller before it did anything else, if it did.
fn refusal(headers: &HeaderMap) -> Option<&'static str> {
    let fault = Fault::from_status(&Status::from_header_map(headers)?)?;
    match fault.code {
        WRONG_SYSTEM => Some("system"),
        NO_COMPATIBILITY => Some("version"),
        _ => None,
    }
}

/// Names of the codes, as Prometheus' users know them from elsewhere.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a call that was refused before its method did anything.
    pub(crate) fn refused(&self, method: &str, reason: &'static str) {
        let mut counts = self.lock();
        let key = (method.to_owned(), reason);
        *counts.refused.entry(key).or_default() += 1;
    }

    /// Takes note of a connection that was refused in its handshake.
    pub(crate) fn handshake_failed(&self) {
        self.lock().handshakes += 1;
    }

    pub(super) fn put(&self, page: &mut Page) {
        let counts = self.lock();
        for ((method, reason), count) in &counts.refused {
            let labels = vec![("method", method.clone()), ("reason", (*reason).to_owned())];
            let help =
                "Calls of the control plane that were refused before their method did anything";
            page.counter("grpc_refused_calls", help, labels, *count as f64);
        }
        let help = "Connections to the control plane whose TLS handshake failed";
        page.counter(
            "grpc_failed_handshakes",
            help,
            Vec::new(),
            counts.handshakes as f64,
        );
        for (method, calls) in &counts.methods {
            let labels = vec![("method", method.clone())];
            for (code, count) in &calls.codes {
                let mut labels = labels.clone();
                labels.push(("code", (*code).to_owned()));
                let help = "Calls of the control plane that were answered";
                page.counter("grpc_calls", help, labels, *count as f64);
            }
            let help = "Time to the beginning of the answer";
            page.seconds("grpc_call", help, labels, calls.times.clone());
        }
    }
}
