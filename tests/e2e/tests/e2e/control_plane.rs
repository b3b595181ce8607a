//! The control plane as tools of the DAOS 2.8 control plane see it.

use crate::telemetry::{scrape, value};
use daos_e2e::{LIMIT, Port, Server, Site};
use daos_proto::ctl::ctl_svc_client::CtlSvcClient;
use daos_proto::ctl::{
    FormatNvmeReq, FormatScmReq, NetworkScanReq, RanksReq, ResponseStatus, StorageFormatReq,
};
use daos_proto::host::Fault;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use daos_proto::mgmt::{LeaderQueryReq, SystemQueryReq, SystemStartReq, SystemStopReq};
use daos_proto::{COMPONENT_HEADER, VERSION_HEADER};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

pub(crate) async fn channel(site: &Site) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", site.address()));
    let endpoint = endpoint.expect("an address").timeout(LIMIT);
    endpoint.connect().await.expect("a connection")
}

/// A request as a component of a version makes it.
pub(crate) fn of<T>(component: &str, version: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let headers = request.metadata_mut();
    headers.insert(COMPONENT_HEADER, component.parse().expect("a component"));
    headers.insert(VERSION_HEADER, version.parse().expect("a version"));
    request
}

pub(crate) fn admin<T>(message: T) -> Request<T> {
    of("admin", "2.8.0", message)
}

pub(crate) const SYS: &str = "daos_server-2.8.0";

pub(crate) fn number(status: &Status) -> i32 {
    Fault::from_status(status).map_or(0, |fault| fault.code)
}

pub(crate) fn waiting<'a>(site: &'a Site) -> Server<'a> {
    let mut server = site.start();
    server.wait_phase("maintenance");
    server
}

#[test]
fn callers_of_other_versions_are_refused() {
    let port = Port::reserve();
    let mut site = Site::with_file();
    site.add_config(&format!("telemetry_port: {}\n", port.number()));
    let server = waiting(&site);
    block_on(async {
        let mut mgmt = MgmtSvcClient::new(channel(&site).await);
        let query = || LeaderQueryReq {
            sys: SYS.to_owned(),
            ..LeaderQueryReq::default()
        };
        for (component, version, expected) in [
            ("admin", "2.8.0", 0),
            ("admin", "2.8.4", 0),
            ("admin", "2.6.0", 616),
            ("agent", "2.6.0", 0),
            ("agent", "2.4.0", 616),
        ] {
            let answer = mgmt.leader_query(of(component, version, query())).await;
            let told = answer.err().map_or(0, |status| number(&status));
            assert_eq!(told, expected, "{component} {version}");
        }
        let bogus = mgmt.leader_query(of("bogus", "2.8.0", query())).await;
        let bogus = bogus.expect_err("no component");
        assert_eq!(bogus.code(), Code::Unknown);
        assert!(
            bogus.message().contains("invalid component \"bogus\""),
            "{bogus}"
        );
        // Without headers the name of the system tells the version.
        mgmt.leader_query(query())
            .await
            .expect("the version is in the name");
        let bare = LeaderQueryReq {
            sys: "daos_server".to_owned(),
            ..LeaderQueryReq::default()
        };
        let refused = mgmt
            .leader_query(bare.clone())
            .await
            .expect_err("no version");
        assert_eq!(number(&refused), 617, "{refused}");
        mgmt.leader_query(admin(bare))
            .await
            .expect("headers have it");
        let other = LeaderQueryReq {
            sys: "other-2.8.0".to_owned(),
            ..LeaderQueryReq::default()
        };
        let refused = mgmt
            .leader_query(admin(other))
            .await
            .expect_err("another system");
        assert_eq!(number(&refused), 603, "{refused}");
    });
    let text = scrape(port.number());
    for (reason, count) in [("version", 4.0), ("system", 1.0)] {
        let labels = [
            "method=\"mgmt.MgmtSvc/LeaderQuery\"",
            &format!("reason=\"{reason}\""),
        ];
        let counted = value(&text, "daos_grpc_refused_calls_total", &labels);
        assert_eq!(counted, count, "{reason}");
    }
    server.stop();
}

#[test]
fn a_system_is_formatted_stopped_and_started_in_that_control_plane_s_terms() {
    let site = Site::with_file();
    let mut server = waiting(&site);
    let sys = || SYS.to_owned();
    block_on(async {
        let channel = channel(&site).await;
        let mut ctl = CtlSvcClient::new(channel.clone());
        let mut mgmt = MgmtSvcClient::new(channel);
        let query = || {
            admin(SystemQueryReq {
                sys: sys(),
                state_mask: 65_535,
                ..SystemQueryReq::default()
            })
        };
        // Before the format, as its tools expect it.
        let none = mgmt.system_query(query()).await.expect_err("no system yet");
        assert_eq!(none.code(), Code::Unknown);
        assert_eq!(
            none.message(),
            "system is uninitialized (storage format required?)"
        );
        let leader = admin(LeaderQueryReq {
            sys: sys(),
            ..LeaderQueryReq::default()
        });
        let leader = mgmt
            .leader_query(leader)
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(
            (leader.current_leader.as_str(), leader.replicas.len()),
            ("", 1)
        );

        let format = |reformat| {
            admin(StorageFormatReq {
                nvme: Some(FormatNvmeReq {}),
                scm: Some(FormatScmReq {}),
                reformat,
                replace: false,
            })
        };
        let nothing = ctl.storage_format(admin(StorageFormatReq::default())).await;
        assert!(nothing.is_err(), "{nothing:?}");
        let done = ctl
            .storage_format(format(false))
            .await
            .expect("a format")
            .into_inner();
        assert_eq!((done.mrets.len(), done.crets.len()), (1, 1), "{done:?}");
        for state in done
            .crets
            .iter()
            .map(|c| &c.state)
            .chain(done.mrets.iter().map(|m| &m.state))
        {
            let state = state.as_ref().expect("a state");
            assert_eq!(state.status(), ResponseStatus::CtlSuccess, "{done:?}");
        }
    });
    server.wait_phase("ready");
    block_on(async {
        let channel = channel(&site).await;
        let mut ctl = CtlSvcClient::new(channel.clone());
        let mut mgmt = MgmtSvcClient::new(channel);
        let again = StorageFormatReq {
            nvme: Some(FormatNvmeReq {}),
            scm: Some(FormatScmReq {}),
            reformat: true,
            replace: false,
        };
        let again = ctl.storage_format(admin(again)).await;
        assert!(
            again
                .as_ref()
                .map_or(true, |done| done.get_ref().mrets.is_empty()),
            "a running engine was formatted: {again:?}"
        );
        let query = |ranks: &str, mask| {
            admin(SystemQueryReq {
                sys: sys(),
                ranks: ranks.to_owned(),
                state_mask: mask,
                ..SystemQueryReq::default()
            })
        };
        let members = mgmt
            .system_query(query("0-2", 0))
            .await
            .expect("members")
            .into_inner();
        assert_eq!(
            (members.members.len(), members.absentranks.as_str()),
            (1, "1,2")
        );
        assert_eq!(members.members[0].state, "joined");
        // Stopped ones only: there are none.
        let stopped = mgmt.system_query(query("", 0x20)).await.expect("members");
        assert!(stopped.get_ref().members.is_empty());
        let leader = admin(LeaderQueryReq {
            sys: sys(),
            ..LeaderQueryReq::default()
        });
        let leader = mgmt
            .leader_query(leader)
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(vec![leader.current_leader], leader.replicas);

        let both = SystemStopReq {
            sys: sys(),
            ranks: "0".to_owned(),
            hosts: "localhost".to_owned(),
            ..SystemStopReq::default()
        };
        assert!(mgmt.system_stop(admin(both)).await.is_err());
        let stop = SystemStopReq {
            sys: sys(),
            ranks: "0,7".to_owned(),
            ..SystemStopReq::default()
        };
        let done = mgmt
            .system_stop(admin(stop))
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!((done.results.len(), done.absentranks.as_str()), (1, "7"));
        let row = &done.results[0];
        assert_eq!(
            (row.rank, row.errored, row.state.as_str()),
            (0, false, "stopped"),
            "{row:?}"
        );
        assert!(!row.addr.is_empty());
        let start = SystemStartReq {
            sys: sys(),
            ..SystemStartReq::default()
        };
        let done = mgmt
            .system_start(admin(start))
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(
            (done.results[0].errored, done.results[0].state.as_str()),
            (false, "joined"),
            "{done:?}"
        );

        // The same by the calls of a management service elsewhere.
        let ranks = |ranks: &str, force| {
            of(
                "server",
                "2.8.0",
                RanksReq {
                    ranks: ranks.to_owned(),
                    force,
                    check_mode: false,
                },
            )
        };
        assert!(ctl.stop_ranks(ranks("", false)).await.is_err());
        let prepared = ctl
            .prep_shutdown_ranks(ranks("0", false))
            .await
            .expect("an answer");
        assert_eq!(prepared.get_ref().results[0].state, "joined");
        let done = ctl
            .stop_ranks(ranks("0-9", true))
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(done.results.len(), 1);
        assert_eq!(done.results[0].state, "stopped", "{done:?}");
        let done = ctl
            .start_ranks(ranks("0", false))
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(done.results[0].state, "joined", "{done:?}");

        let scan = NetworkScanReq {
            provider: "all".to_owned(),
            ..NetworkScanReq::default()
        };
        let found = ctl
            .network_scan(admin(scan))
            .await
            .expect("an answer")
            .into_inner();
        assert!(found.numacount >= 1 && found.corespernuma >= 1, "{found:?}");
        assert!(
            found.interfaces.iter().all(|i| i.device != "lo"),
            "{found:?}"
        );
    });
    server.wait_phase("ready");
    server.stop();
}

#[test]
fn a_server_describes_itself_and_tells_its_health() {
    let site = Site::with_file();
    let mut server = waiting(&site);
    let health = |service: &'static str| {
        block_on(async {
            let mut client = HealthClient::new(channel(&site).await);
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let answer = client.check(request).await.expect("an answer");
            answer.into_inner().status()
        })
    };
    assert_eq!(health(""), ServingStatus::Serving);
    assert_eq!(health("mgmt.MgmtSvc"), ServingStatus::NotServing);
    server.format(&[]).expect(0);
    server.wait_phase("ready");
    daos_e2e::eventually("the management service serves", || {
        (health("mgmt.MgmtSvc") == ServingStatus::Serving).then_some(())
    });
    let services: Vec<String> = block_on(async {
        let mut client = ServerReflectionClient::new(channel(&site).await);
        let request = ServerReflectionRequest {
            message_request: Some(MessageRequest::ListServices(String::new())),
            ..ServerReflectionRequest::default()
        };
        let answer = client
            .server_reflection_info(tokio_stream_of(request))
            .await;
        let mut answers = answer.expect("an answer").into_inner();
        match answers
            .message()
            .await
            .expect("a message")
            .and_then(|m| m.message_response)
        {
            Some(MessageResponse::ListServicesResponse(list)) => list
                .service
                .into_iter()
                .map(|service| service.name)
                .collect(),
            other => panic!("no list of services: {other:?}"),
        }
    });
    for service in [
        "ctl.CtlSvc",
        "mgmt.MgmtSvc",
        "daos_host.v1.HostSvc",
        "daos_host.v1.PluginSvc",
    ] {
        assert!(services.iter().any(|name| name == service), "{services:?}");
    }
    server.stop();
}

/// A stream of one request.
fn tokio_stream_of<T>(request: T) -> impl tonic::codegen::tokio_stream::Stream<Item = T> {
    tonic::codegen::tokio_stream::once(request)
}

#[test]
fn a_format_while_engines_start_destroys_nothing() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    server.stop();
    let mut server = site.start();
    // As soon as anybody answers, and on.
    daos_e2e::eventually("the server answers", || site.state());
    for _ in 0..3 {
        let done = site.shell(&["storage", "format", "--force", "--reformat"]);
        assert_ne!(done.code, Some(0), "a format was carried out: {done}");
    }
    server.wait_phase("ready");
    let pools = site.shell(&["pool", "list"]).expect(0);
    assert!(pools.stdout.contains("Ready"), "{pools}");
    server.stop();
}

#[test]
fn engines_are_stopped_and_started_by_rank() {
    let site = Site::with_file();
    let mut server = waiting(&site);
    let leader = site.shell(&["system", "leader-query"]).expect(0);
    assert!(leader.stdout.starts_with("leader: none"), "{leader}");
    let early = site.shell(&["system", "stop", "-r", "0"]).expect(1);
    assert!(early.stderr.contains("system is uninitialized"), "{early}");
    server.make_ready();
    let leader = site
        .shell(&["system", "leader-query", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        leader["response"]["leader"],
        leader["response"]["replicas"][0]
    );
    let stopped = site.shell(&["system", "stop", "-r", "0"]).expect(0);
    assert!(stopped.stdout.contains("stopped"), "{stopped}");
    let started = site
        .shell(&["system", "start", "-r", "0-1", "--json"])
        .expect(1)
        .json();
    assert_eq!(
        started["response"]["ranks"][0]["state"], "joined",
        "{started:#}"
    );
    assert_eq!(started["response"]["absent"], "1");
    server.wait_phase("ready");
    server.stop();
}
