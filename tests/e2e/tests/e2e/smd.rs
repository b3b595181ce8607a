//! Devices and pools of engines as tools of the DAOS 2.8 control plane ask for them.

use crate::control_plane::{admin, block_on, channel, number};
use daos_e2e::{Bdev, Site};
use daos_proto::NO_RANK;
use daos_proto::ctl::ctl_svc_client::CtlSvcClient;
use daos_proto::ctl::smd_manage_req::Op;
use daos_proto::ctl::{
    DevReplaceReq, LedManageReq, NvmeDevState, SetFaultyReq, SmdManageReq, SmdQueryReq,
};

#[test]
fn engines_tell_their_devices_and_pools() {
    let site = Site::new();
    site.add_engine(Bdev::Files(vec![site.path("b0"), site.path("b1")]), 2);
    let mut server = site.start();
    server.wait_phase("maintenance");
    let query = |change: fn(&mut SmdQueryReq)| {
        let mut request = SmdQueryReq {
            rank: NO_RANK,
            ..SmdQueryReq::default()
        };
        change(&mut request);
        admin(request)
    };
    block_on(async {
        let mut ctl = CtlSvcClient::new(channel(&site).await);
        let early = ctl.smd_query(query(|_| {})).await.expect_err("no engine");
        assert_eq!(number(&early), 611, "{early}");
    });
    let early = site.shell(&["storage", "query", "list-devices"]).expect(1);
    assert!(
        early.stderr.contains("no engine of this host is ready"),
        "{early}"
    );
    server.make_ready();
    block_on(async {
        let mut ctl = CtlSvcClient::new(channel(&site).await);
        let told = ctl.smd_query(query(|_| {})).await.expect("an answer");
        for device in &told.get_ref().ranks[0].devices {
            assert!(device.usable_bytes > 0 && device.usable_bytes < device.total_bytes);
            assert_eq!(device.usable_bytes, device.avail_bytes);
        }
    });
    site.ensure_pool();
    let label = std::fs::read_to_string(site.scm(0).join("superblock")).expect("a superblock");
    block_on(async {
        let mut ctl = CtlSvcClient::new(channel(&site).await);
        let told = ctl
            .smd_query(query(|_| {}))
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(
            (told.status, told.ranks.len()),
            (0, 2),
            "devices, and pools"
        );
        let devices = &told.ranks[0].devices;
        assert_eq!(devices.len(), 2);
        for (n, device) in devices.iter().enumerate() {
            assert!(
                label.contains(&device.uuid),
                "{} is no label of {label}",
                device.uuid
            );
            assert_eq!(device.tgt_ids, [n as i32]);
            assert_eq!(device.total_bytes, 256 << 20);
            // One pool has it all.
            assert_eq!((device.avail_bytes, device.usable_bytes), (0, 0));
            let controller = device.ctrlr.as_ref().expect("a controller");
            assert_eq!(controller.dev_state(), NvmeDevState::Normal);
            assert!(
                controller.pci_addr.ends_with(&format!("/b{n}")),
                "{controller:?}"
            );
            assert!(controller.health_stats.is_none());
        }
        assert_eq!(told.ranks[1].pools.len(), 1);
        assert_eq!(told.ranks[1].pools[0].tgt_ids, [0, 1]);
        let only = ctl
            .smd_query(query(|r| r.omit_pools = true))
            .await
            .expect("an answer");
        assert_eq!(only.get_ref().ranks.len(), 1);
        let other = ctl
            .smd_query(query(|r| r.rank = 7))
            .await
            .expect("an answer");
        assert!(other.get_ref().ranks.is_empty());
        let none = ctl
            .smd_query(query(|r| r.uuid = "x".to_owned()))
            .await
            .expect("an answer");
        assert!(
            none.get_ref()
                .ranks
                .iter()
                .all(|r| r.devices.is_empty() && r.pools.is_empty())
        );

        // No backend has these functions: each device is told so.
        let uuid = devices[0].uuid.clone();
        let manage = |op| admin(SmdManageReq { op });
        for op in [
            Op::Faulty(SetFaultyReq { uuid: uuid.clone() }),
            Op::Led(LedManageReq {
                ids: uuid.clone(),
                ..LedManageReq::default()
            }),
            Op::Replace(DevReplaceReq {
                old_dev_uuid: uuid.clone(),
                new_dev_uuid: uuid.clone(),
            }),
        ] {
            let told = ctl
                .smd_manage(manage(Some(op)))
                .await
                .expect("results")
                .into_inner();
            let results = &told.ranks[0].results;
            assert_eq!((results.len(), results[0].status), (1, -2037));
            assert_eq!(
                results[0].device.as_ref().map(|d| d.uuid.as_str()),
                Some(uuid.as_str())
            );
        }
        let all = Op::Led(LedManageReq::default());
        let told = ctl
            .smd_manage(manage(Some(all)))
            .await
            .expect("results")
            .into_inner();
        assert_eq!(told.ranks[0].results.len(), 2);
        for op in [
            None,
            Some(Op::Faulty(SetFaultyReq::default())),
            Some(Op::Faulty(SetFaultyReq {
                uuid: "x".to_owned(),
            })),
            Some(Op::Led(LedManageReq {
                ids: format!("{uuid},y"),
                ..LedManageReq::default()
            })),
        ] {
            let refused = ctl.smd_manage(manage(op.clone())).await;
            let status = refused.expect_err("an id that nobody has");
            assert_eq!(number(&status), 0, "{op:?}: {status}");
        }
    });
    let json = site
        .shell(&["--json", "storage", "query", "list-devices", "--health"])
        .expect(0)
        .json();
    let rows = json["response"]["hosts"][site.address()].clone();
    assert_eq!(rows[1]["targets"][0], 1, "{json:#}");
    assert!(
        rows[0]["address"]
            .as_str()
            .is_some_and(|a| a.ends_with("/b0"))
    );
    let health = site.shell(&["storage", "query", "device-health"]).expect(0);
    assert!(
        health.stdout.contains("UUID") || health.stdout.contains("no device"),
        "{health}"
    );
    let pools = site
        .shell(&["storage", "query", "list-pools", "-r", "0"])
        .expect(0);
    assert!(pools.stdout.contains("0-1"), "{pools}");
    server.stop();
}
