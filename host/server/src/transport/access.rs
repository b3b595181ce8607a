//! What each component may call, and what is called in vain.
//!
//! The table is the DAOS 2.8 control plane's for `ctl` and `mgmt` ([`methods`]); our own services are the
//! administrator's, but for one that servers of a system have for each other. A method that is in neither is refused for everybody.

use super::Caller;
use super::incoming::Peer;
use super::version;
use crate::telemetry::Calls;
use daos_certs::Role;
use daos_proto::{COMPONENT_HEADER, fault, methods};
use futures_util::future::Either;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};
use tracing::warn;

/// Services that tell nothing but what there is and whether it works: anybody with a certificate may ask them.
const OPEN: [&str; 2] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
];

/// Methods that only builds with fault injection have: they are refused as unknown, as there.
const FAULTS: &str = "/mgmt.MgmtSvc/FaultInject";

/// Whether a component may call a method.
fn may_call(role: Role, method: &str) -> bool {
    methods::callers(method).contains(&role.name())
        || OPEN.iter().any(|service| method.starts_with(service))
}

/// The answer to a method of that control plane for which this server has no function.
fn unsupported(method: &str) -> Option<Status> {
    let known = methods::find(method).is_some() && !method.starts_with(FAULTS);
    (known && !methods::is_served(method)).then(|| {
        fault::daos_status(
            fault::NOT_SUPPORTED,
            &format!("this server does not support {method}"),
        )
    })
}

/// Why a call is refused, in a word and in a sentence; none if it is not. `claimed` is the component that the call
/// itself names.
fn refusal(caller: Caller, claimed: Option<&[u8]>, method: &str) -> Option<(&'static str, String)> {
    let Caller::Component(role) = caller else {
        return None;
    };
    if let Some(claimed) = claimed
        && claimed != role.name().as_bytes()
    {
        let claimed = String::from_utf8_lossy(claimed);
        let why = format!(
            "component mismatch (req: {claimed:?} != cert: {:?})",
            role.name()
        );
        return Some(("component", why));
    }
    (!may_call(role, method)).then(|| {
        let why = format!("{role} does not have permission to call {method}");
        ("role", why)
    })
}

/// The method as it is counted: whoever can connect can make names up, so those that nobody knows are one.
fn counted(method: &str) -> &str {
    if methods::find(method).is_some() || methods::is_served(method) {
        method.trim_start_matches('/')
    } else {
        "unknown"
    }
}

/// Refuses what a caller may not call, before anything of the call is read.
#[derive(Clone)]
pub(crate) struct Access {
    /// Where it is counted.
    pub(crate) calls: Calls,
}

impl<S> Layer<S> for Access {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        let calls = self.calls.clone();
        Guarded { inner, calls }
    }
}

/// A service behind [`Access`].
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    calls: Calls,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Self::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Every connection has one; a request without is nobody's.
        let Some(peer) = request.extensions().get::<Peer>() else {
            let refused = Status::internal("the caller is not known");
            return Either::Left(ready(Ok(refused.into_http())));
        };
        let claimed = request.headers().get(COMPONENT_HEADER);
        let claimed = claimed.map(|value| value.as_bytes());
        let method = request.uri().path();
        let refused = match refusal(peer.caller, claimed, method) {
            Some((reason, why)) => {
                let from = peer.address.map(|at| at.to_string()).unwrap_or_default();
                warn!("call from {from} refused: {why}");
                let status = Status::permission_denied(format!("access denied: {why}"));
                Some((reason, status))
            }
            None => match version::of_headers(request.headers(), method) {
                Err(status) => Some(("version", status)),
                Ok(()) => unsupported(method).map(|status| ("unsupported", status)),
            },
        };
        match refused {
            None => Either::Right(self.inner.call(request)),
            Some((reason, refused)) => {
                self.calls.refused(counted(method), reason);
                Either::Left(ready(Ok(refused.into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method that can be called, those of our own services among them.
    fn all() -> impl Iterator<Item = &'static str> {
        let known = methods::METHODS.iter().map(|method| method.path);
        known.chain(methods::SERVED.iter().copied())
    }

    #[test]
    fn every_component_may_call_what_its_row_says_and_nothing_else() {
        for method in all() {
            for role in Role::ALL {
                let allowed = methods::callers(method).contains(&role.name());
                let refused = refusal(
                    Caller::Component(role),
                    Some(role.name().as_bytes()),
                    method,
                );
                assert_eq!(refused.is_none(), allowed, "{role} calls {method}");
                if let Some((reason, why)) = refused {
                    assert_eq!(reason, "role");
                    assert!(why.contains(role.name()) && why.contains(method), "{why}");
                }
            }
            assert_eq!(refusal(Caller::Anyone, None, method), None);
        }
        // A few by name, so that not everything hangs on the table.
        for (role, method, allowed) in [
            (Role::Admin, "/daos_host.v1.HostSvc/Stop", true),
            (Role::Agent, "/daos_host.v1.HostSvc/Stop", false),
            (Role::Server, "/daos_host.v1.HostSvc/Stop", false),
            (Role::Server, "/daos_host.v1.EngineSvc/CallEngine", true),
            (Role::Admin, "/daos_host.v1.EngineSvc/CallEngine", false),
            (Role::Agent, "/daos_host.v1.EngineSvc/CallEngine", false),
            (Role::Agent, "/mgmt.MgmtSvc/GetAttachInfo", true),
            (Role::Admin, "/mgmt.MgmtSvc/GetAttachInfo", false),
            (Role::Server, "/mgmt.MgmtSvc/Join", true),
            (Role::Admin, "/mgmt.MgmtSvc/Join", false),
            (Role::Server, "/ctl.CtlSvc/StopRanks", true),
            (Role::Admin, "/ctl.CtlSvc/StopRanks", false),
            (Role::Agent, "/grpc.health.v1.Health/Check", true),
            (Role::Admin, "/ctl.CtlSvc/Nonsense", false),
            (Role::Admin, "/daos_host.v1.HostSvc/Nonsense", false),
            (Role::Admin, "/RaftTransport/RequestVote", false),
        ] {
            assert_eq!(may_call(role, method), allowed, "{role} calls {method}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_as_that_control_plane_tells_it() {
        for method in all() {
            let told = unsupported(method);
            let served = methods::is_served(method) || method.starts_with(FAULTS);
            assert_eq!(told.is_none(), served, "{method}");
            if let Some(told) = told {
                assert_eq!(fault::status_number(&told), Some(fault::NOT_SUPPORTED));
                assert!(
                    told.message().starts_with("DER_NOTSUPPORTED(-2037)"),
                    "{told}"
                );
            }
        }
        assert!(unsupported("/x.Y/Z").is_none());
    }

    #[test]
    fn names_that_are_made_up_are_counted_as_one() {
        for (method, name) in [
            ("/mgmt.MgmtSvc/SystemDrain", "mgmt.MgmtSvc/SystemDrain"),
            ("/daos_host.v1.HostSvc/Stop", "daos_host.v1.HostSvc/Stop"),
            ("/daos_host.v1.HostSvc/Made.Up", "unknown"),
            ("/x.Y/Z", "unknown"),
        ] {
            assert_eq!(counted(method), name);
        }
    }

    #[test]
    fn a_call_must_not_claim_another_component_than_the_certificate_s() {
        let why = refusal(
            Caller::Component(Role::Agent),
            Some(b"admin"),
            "/mgmt.MgmtSvc/GetAttachInfo",
        );
        let mismatch = "component mismatch (req: \"admin\" != cert: \"agent\")";
        assert_eq!(why, Some(("component", mismatch.to_owned())));
        // Clients of the DAOS 2.8 control plane name themselves; others need not.
        let unnamed = refusal(
            Caller::Component(Role::Agent),
            None,
            "/mgmt.MgmtSvc/GetAttachInfo",
        );
        assert_eq!(unnamed, None);
    }
}
