//! What each method of the DAOS 2.8 control plane does here.

use crate::control_plane::{block_on, channel, of, waiting};
use daos_e2e::Site;
use daos_proto::{fault, methods};
use std::collections::BTreeSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

/// Those that do what they are named after. All others say that they do not, with the error of that protocol for it.
const SERVED: [&str; 27] = [
    "/ctl.CtlSvc/FirmwareQuery",
    "/ctl.CtlSvc/FirmwareUpdate",
    "/ctl.CtlSvc/NetworkScan",
    "/ctl.CtlSvc/PrepShutdownRanks",
    "/ctl.CtlSvc/ResetFormatRanks",
    "/ctl.CtlSvc/SetEngineLogMasks",
    // Tells each device that it is not supported, `smd.rs`.
    "/ctl.CtlSvc/SmdManage",
    "/ctl.CtlSvc/SmdQuery",
    "/ctl.CtlSvc/StartRanks",
    "/ctl.CtlSvc/StopRanks",
    "/ctl.CtlSvc/StorageFormat",
    "/ctl.CtlSvc/StorageScan",
    "/mgmt.MgmtSvc/ClusterEvent",
    "/mgmt.MgmtSvc/GetAttachInfo",
    "/mgmt.MgmtSvc/Join",
    "/mgmt.MgmtSvc/LeaderQuery",
    "/mgmt.MgmtSvc/ListPools",
    "/mgmt.MgmtSvc/PoolCreate",
    "/mgmt.MgmtSvc/PoolDestroy",
    "/mgmt.MgmtSvc/PoolGetProp",
    "/mgmt.MgmtSvc/PoolQuery",
    "/mgmt.MgmtSvc/PoolSetProp",
    "/mgmt.MgmtSvc/SystemErase",
    "/mgmt.MgmtSvc/SystemExclude",
    "/mgmt.MgmtSvc/SystemQuery",
    "/mgmt.MgmtSvc/SystemStart",
    "/mgmt.MgmtSvc/SystemStop",
];

/// `DER_NOTSUPPORTED`.
const NOT_SUPPORTED: i32 = -2037;

#[test]
fn each_does_what_it_is_for_or_says_that_it_does_not() {
    let site = Site::with_file();
    let server = waiting(&site);
    let mut known = BTreeSet::new();
    block_on(async {
        let channel = channel(&site).await;
        for method in methods::METHODS {
            known.insert(method.path);
            let mut client = Grpc::new(channel.clone());
            client.ready().await.expect("a connection");
            let path = PathAndQuery::try_from(method.path).expect("a path");
            let codec = ProstCodec::<(), ()>::default();
            let caller = method.callers[0];
            let answer = client.unary(of(caller, "2.8.0", ()), path, codec).await;
            let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
            let number = answer.as_ref().err().and_then(fault::status_number);
            let path = method.path;
            if path.contains("/FaultInject") {
                // As where it was built without them.
                assert_eq!(code, Code::Unimplemented, "{path}");
            } else if SERVED.contains(&path) {
                assert_ne!(code, Code::Unimplemented, "{path}");
                assert_ne!(number, Some(NOT_SUPPORTED), "{path}");
            } else {
                let told = (code, number);
                assert_eq!(told, (Code::Internal, Some(NOT_SUPPORTED)), "{path}");
                let text = answer.expect_err("an error").message().to_owned();
                let name = path.rsplit('/').next().unwrap_or_default();
                assert!(
                    text.starts_with("DER_NOTSUPPORTED(-2037): ") && text.contains(name),
                    "{path}: {text}"
                );
            }
        }
    });
    for path in SERVED {
        assert!(known.contains(path), "{path} is none of its methods");
    }
    // None of them has changed anything.
    let state = site.state().expect("the server answers");
    assert_eq!(state["phase"], "maintenance", "{state:#}");
    server.stop();
}
