//! What each component may call.
//!
//! The table is the DAOS 2.8 control plane's for `ctl` and `mgmt`; our own services are the
//! administrator's. A method that is in no row is refused for everybody.

use super::Caller;
use super::incoming::Peer;
use daos_certs::Role;
use daos_proto::COMPONENT_HEADER;
use futures_util::future::Either;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};
use tracing::warn;

const ADMIN: &[Role] = &[Role::Admin];
const AGENT: &[Role] = &[Role::Agent];

/// Methods, and who may call them.
const METHODS: &[(&str, &[Role])] = &[
    ("/ctl.CtlSvc/FirmwareQuery", ADMIN),
    ("/ctl.CtlSvc/FirmwareUpdate", ADMIN),
    ("/ctl.CtlSvc/SetEngineLogMasks", ADMIN),
    ("/ctl.CtlSvc/StorageFormat", ADMIN),
    ("/ctl.CtlSvc/StorageScan", ADMIN),
    ("/daos_host.v1.BurnInSvc/Report", ADMIN),
    ("/daos_host.v1.BurnInSvc/Start", ADMIN),
    ("/daos_host.v1.BurnInSvc/Stop", ADMIN),
    ("/daos_host.v1.BurnInSvc/Watch", ADMIN),
    ("/daos_host.v1.FirmwareSvc/Query", ADMIN),
    ("/daos_host.v1.FirmwareSvc/Update", ADMIN),
    ("/daos_host.v1.HostSvc/FormatStorage", ADMIN),
    ("/daos_host.v1.HostSvc/NetworkScan", ADMIN),
    ("/daos_host.v1.HostSvc/OpenResponder", ADMIN),
    ("/daos_host.v1.HostSvc/PluginList", ADMIN),
    ("/daos_host.v1.HostSvc/PoolSpace", ADMIN),
    ("/daos_host.v1.HostSvc/ServerState", ADMIN),
    ("/daos_host.v1.HostSvc/Start", ADMIN),
    ("/daos_host.v1.HostSvc/Stop", ADMIN),
    ("/daos_host.v1.HostSvc/StorageScanDetail", ADMIN),
    ("/daos_host.v1.LayerSvc/ListLayers", ADMIN),
    ("/daos_host.v1.LayerSvc/SetLayers", ADMIN),
    ("/daos_host.v1.PluginSvc/Inspect", ADMIN),
    ("/daos_host.v1.PluginSvc/Reset", ADMIN),
    ("/mgmt.MgmtSvc/GetAttachInfo", AGENT),
    ("/mgmt.MgmtSvc/ListPools", ADMIN),
    ("/mgmt.MgmtSvc/PoolCreate", ADMIN),
    ("/mgmt.MgmtSvc/PoolDestroy", ADMIN),
    ("/mgmt.MgmtSvc/PoolQuery", ADMIN),
    ("/mgmt.MgmtSvc/SystemQuery", ADMIN),
];

/// Why a call is refused; none if it is not. `claimed` is the component that the call itself names.
fn refusal(caller: Caller, claimed: Option<&[u8]>, method: &str) -> Option<String> {
    let Caller::Component(role) = caller else {
        return None;
    };
    if let Some(claimed) = claimed
        && claimed != role.name().as_bytes()
    {
        let claimed = String::from_utf8_lossy(claimed);
        return Some(format!(
            "component mismatch (req: {claimed:?} != cert: {:?})",
            role.name()
        ));
    }
    let allowed = METHODS
        .iter()
        .any(|(name, roles)| *name == method && roles.contains(&role));
    (!allowed).then(|| format!("{role} does not have permission to call {method}"))
}

/// Refuses what a caller may not call, before anything of the call is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access;

impl<S> Layer<S> for Access {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner }
    }
}

/// A service behind [`Access`].
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    inner: S,
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
        match refusal(peer.caller, claimed, request.uri().path()) {
            None => Either::Right(self.inner.call(request)),
            Some(why) => {
                let from = peer.address.map(|at| at.to_string()).unwrap_or_default();
                warn!("call from {from} refused: {why}");
                let refused = Status::permission_denied(format!("access denied: {why}"));
                Either::Left(ready(Ok(refused.into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;

    /// Every method of every service that this server has.
    fn methods() -> BTreeSet<String> {
        let files = FileDescriptorSet::decode(daos_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut methods = BTreeSet::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    methods.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        methods
    }

    #[test]
    fn every_method_has_one_row() {
        let rows: BTreeSet<String> = METHODS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(rows.len(), METHODS.len(), "a method has two rows");
        assert_eq!(rows, methods());
    }

    #[test]
    fn every_component_may_call_what_its_row_says_and_nothing_else() {
        for method in methods() {
            let agents = method == "/mgmt.MgmtSvc/GetAttachInfo";
            for role in Role::ALL {
                let allowed = match role {
                    Role::Admin => !agents,
                    Role::Agent => agents,
                    Role::Server => false,
                };
                let refused = refusal(
                    Caller::Component(role),
                    Some(role.name().as_bytes()),
                    &method,
                );
                assert_eq!(refused.is_none(), allowed, "{role} calls {method}");
                if let Some(why) = refused {
                    assert!(why.contains(role.name()) && why.contains(&method), "{why}");
                }
            }
            assert_eq!(refusal(Caller::Anyone, None, &method), None);
        }
        for role in Role::ALL {
            assert!(refusal(Caller::Component(role), None, "/ctl.CtlSvc/Nonsense").is_some());
        }
    }

    #[test]
    fn a_call_must_not_claim_another_component_than_the_certificate_s() {
        let why = refusal(
            Caller::Component(Role::Agent),
            Some(b"admin"),
            "/mgmt.MgmtSvc/GetAttachInfo",
        );
        assert_eq!(
            why.as_deref(),
            Some("component mismatch (req: \"admin\" != cert: \"agent\")")
        );
        // Clients of the DAOS 2.8 control plane name themselves; others need not.
        let unnamed = refusal(
            Caller::Component(Role::Agent),
            None,
            "/mgmt.MgmtSvc/GetAttachInfo",
        );
        assert_eq!(unnamed, None);
    }
}
