//! How each method of the DAOS 2.8 control plane is answered here.

use crate::control_plane::{block_on, channel, of, waiting};
use daos_e2e::Site;
use daos_proto::{fault, methods};
use std::collections::BTreeSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

/// Those that have code of their own here, and what that answers to an empty request of a server that waits for its format: the status
/// and words of the message. What they do is for the other tests. All others say that they do nothing, with the error of that protocol
/// for it.
const SERVED: [(&str, Code, &str); 27] = [
    ("/ctl.CtlSvc/FirmwareQuery", Code::Ok, ""),
    (
        "/ctl.CtlSvc/FirmwareUpdate",
        Code::Unknown,
        "no memory module of that kind",
    ),
    ("/ctl.CtlSvc/NetworkScan", Code::Ok, ""),
    ("/ctl.CtlSvc/PrepShutdownRanks", Code::Unknown, NO_RANKS),
    ("/ctl.CtlSvc/ResetFormatRanks", Code::Unknown, NO_RANKS),
    ("/ctl.CtlSvc/SetEngineLogMasks", Code::Ok, ""),
    // Tells each device that it is not supported, `smd.rs`.
    (
        "/ctl.CtlSvc/SmdManage",
        Code::Unknown,
        "nil operation in request",
    ),
    (
        "/ctl.CtlSvc/SmdQuery",
        Code::Internal,
        "no engine of this host is ready",
    ),
    ("/ctl.CtlSvc/StartRanks", Code::Unknown, NO_RANKS),
    ("/ctl.CtlSvc/StopRanks", Code::Unknown, NO_RANKS),
    (
        "/ctl.CtlSvc/StorageFormat",
        Code::Unknown,
        "nothing to format",
    ),
    (
        "/ctl.CtlSvc/StorageScan",
        Code::InvalidArgument,
        "nil nvme request",
    ),
    ("/mgmt.MgmtSvc/ClusterEvent", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/GetAttachInfo", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/Join", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/LeaderQuery", Code::Ok, ""),
    ("/mgmt.MgmtSvc/ListPools", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/PoolCreate", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/PoolDestroy", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/PoolGetProp", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/PoolQuery", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/PoolSetProp", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/SystemErase", Code::Unknown, NO_SYSTEM),
    (
        "/mgmt.MgmtSvc/SystemExclude",
        Code::Unknown,
        "no ranks or hosts specified",
    ),
    ("/mgmt.MgmtSvc/SystemQuery", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/SystemStart", Code::Unknown, NO_SYSTEM),
    ("/mgmt.MgmtSvc/SystemStop", Code::Unknown, NO_SYSTEM),
];

const NO_RANKS: &str = "no ranks specified in request";
const NO_SYSTEM: &str = "system is uninitialized (storage format required?)";

/// `DER_NOTSUPPORTED`.
const NOT_SUPPORTED: i32 = -2037;

#[test]
fn each_is_answered_by_code_of_its_own_or_says_that_it_is_not_served() {
    let site = Site::with_file();
    let server = waiting(&site);
    let (mut known, mut wrong) = (BTreeSet::new(), Vec::new());
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
            } else if let Some((_, expected, words)) = SERVED.iter().find(|row| row.0 == path) {
                let text = answer.as_ref().map_or_else(Status::message, |_| "");
                if code != *expected || !text.contains(words) || text.is_empty() != words.is_empty()
                {
                    wrong.push(format!("{path}: {code:?} {text:?}"));
                }
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
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (path, ..) in SERVED {
        assert!(known.contains(path), "{path} is none of its methods");
    }
    // None of them has changed anything.
    let state = site.state().expect("the server answers");
    assert_eq!(state["phase"], "maintenance", "{state:#}");
    server.stop();
}
