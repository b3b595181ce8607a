//! What a system does not do: requests about its members that make no sense, and hosts that do not answer.

use crate::control_plane::{SYS, admin, block_on, channel, of};
use crate::membership::states;
use daos_e2e::{Finished, Site};
use daos_proto::NO_RANK;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use daos_proto::mgmt::{
    GetAttachInfoReq, JoinReq, ListPoolsReq, SystemEraseReq, SystemExcludeReq, SystemQueryReq,
    SystemStopReq,
};
use daos_proto::shared::ras_event::{EngineStateEventInfo, Value as Event};
use daos_proto::shared::{ClusterEventReq, RasEvent};
use tonic::Code;

#[test]
fn what_makes_no_sense_is_refused() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let join = |change: fn(&mut JoinReq)| {
        let mut request = JoinReq {
            sys: SYS.to_owned(),
            uuid: "4f3c1b6e-0000-4000-8000-000000000001".to_owned(),
            rank: NO_RANK,
            uri: format!("{}://01", site.provider()),
            nctxs: 2,
            addr: "0.0.0.0:10001".to_owned(),
            srv_fault_domain: "/elsewhere".to_owned(),
            ..JoinReq::default()
        };
        change(&mut request);
        of("server", "2.8.0", request)
    };
    let uninitialized = "system is uninitialized (storage format required?)";
    block_on(async {
        let mut mgmt = MgmtSvcClient::new(channel(&site).await);
        let sys = || SYS.to_owned();
        for answer in [
            mgmt.join(join(|_| {})).await.err(),
            mgmt.get_attach_info(of(
                "agent",
                "2.8.0",
                GetAttachInfoReq {
                    sys: sys(),
                    ..Default::default()
                },
            ))
            .await
            .err(),
            mgmt.list_pools(admin(ListPoolsReq { sys: sys() }))
                .await
                .err(),
            mgmt.system_erase(admin(SystemEraseReq { sys: sys() }))
                .await
                .err(),
            mgmt.system_stop(admin(SystemStopReq {
                sys: sys(),
                ..Default::default()
            }))
            .await
            .err(),
        ] {
            let status = answer.expect("there is no system yet");
            assert_eq!(
                (status.code(), status.message()),
                (Code::Unknown, uninitialized)
            );
        }
    });
    let early = site.daos(&["container", "list"]).expect(1);
    assert!(early.stderr.contains("storage format"), "{early}");
    server.make_ready();
    block_on(async {
        let mut mgmt = MgmtSvcClient::new(channel(&site).await);
        type Change = fn(&mut JoinReq);
        for (change, words) in [
            ((|r| r.addr.clear()) as Change, "missing port in address"),
            (|r| r.uuid = "x".to_owned(), "uuid \"x\""),
            (
                |r| r.uuid = "00000000-0000-0000-0000-000000000000".to_owned(),
                "nil",
            ),
            (|r| r.srv_fault_domain.clear(), "no path"),
            (|r| r.srv_fault_domain = "/a/b/c".to_owned(), "layers"),
            (|r| r.uri = "verbs://01".to_owned(), "verbs"),
            (|r| r.rank = 0, "rank 0 is engine"),
            (|r| r.check_mode = true, "checker mode"),
            (|r| r.uri = "x".repeat(5000), "bytes"),
            (|r| r.sys = "other-2.8.0".to_owned(), "other"),
        ] {
            let status = mgmt.join(join(change)).await.expect_err(words);
            assert!(status.message().contains(words), "{words}: {status}");
        }
        let joined = mgmt.join(join(|_| {})).await.expect("a rank").into_inner();
        assert_eq!((joined.rank, joined.status), (1, 0));
        let query = SystemQueryReq {
            sys: SYS.to_owned(),
            ranks: "1".to_owned(),
            ..SystemQueryReq::default()
        };
        let told = mgmt.system_query(admin(query)).await.expect("members");
        // From where it called.
        assert_eq!(told.get_ref().members[0].addr, "127.0.0.1:10001");
        assert!(told.get_ref().data_version >= 2);
        // A death from before it joined again is none.
        let died = |incarnation| {
            let state = EngineStateEventInfo {
                errored: true,
                error: "it died".to_owned(),
                ..EngineStateEventInfo::default()
            };
            let event = RasEvent {
                id: 2,
                rank: 1,
                incarnation,
                value: Some(Event::EngineStateInfo(state)),
                ..RasEvent::default()
            };
            of(
                "server",
                "2.8.0",
                ClusterEventReq {
                    sequence: 9,
                    event: Some(event),
                },
            )
        };
        mgmt.join(join(|r| r.incarnation = 5)).await.expect("again");
        mgmt.cluster_event(died(4)).await.expect("an answer");
        assert_eq!(states(&site), ["joined", "joined"]);
        let told = mgmt.cluster_event(died(5)).await.expect("an answer");
        assert_eq!(told.get_ref().sequence, 9);
        assert_eq!(states(&site), ["joined", "errored"]);
        let none = SystemExcludeReq {
            sys: SYS.to_owned(),
            ..SystemExcludeReq::default()
        };
        assert!(mgmt.system_exclude(admin(none)).await.is_err());
    });
    server.stop();
}

#[test]
fn hosts_that_do_not_answer_are_skipped_in_questions_about_the_system() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let ask = |list: &str, args: &[&str]| -> Finished {
        site.run("daos_shell", &[&["-i", "-l", list], args].concat())
    };
    let list = format!("127.0.0.1:9,{}", site.address());
    for args in [
        &["pool", "create", "tank", "--size", "50%"][..],
        &["pool", "list"],
        &["pool", "query", "tank"],
        &["network", "ping", "0", "-n", "2", "-S", "64"],
        &["system", "query", "--members"],
        &["pool", "destroy", "tank", "-f"],
    ] {
        ask(&list, args).expect(0);
    }
    let nobody = ask("127.0.0.1:[9-10]", &["pool", "list"]).expect(1);
    assert!(nobody.stderr.contains("127.0.0.1:[9-10]: "), "{nobody}");
    let json = ask("127.0.0.1:9", &["--json", "pool", "list"])
        .expect(1)
        .json();
    let error = json["error"].as_str().unwrap_or_default();
    assert!(error.contains("127.0.0.1:9"), "{json:#}");
    server.stop();
}
