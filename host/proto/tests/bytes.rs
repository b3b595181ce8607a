//! Messages against bytes put together by hand, after recorded calls and replies of the DAOS 2.8
//! control plane.

use daos_proto::{ctl, drpc, mgmt, srv};
use proptest::prelude::*;
use prost::Message;

/// A message written field by field.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw_varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
    fn num(self, field: u64, value: u64) -> Self {
        self.raw_varint(field << 3).raw_varint(value)
    }
    fn bytes(self, field: u64, value: &[u8]) -> Self {
        let mut this = self
            .raw_varint(field << 3 | 2)
            .raw_varint(value.len() as u64);
        this.0.extend_from_slice(value);
        this
    }
    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }
    fn msg(self, field: u64, value: Bytes) -> Self {
        self.bytes(field, &value.0)
    }
}

fn bytes() -> Bytes {
    Bytes::default()
}

fn same<M: Message + Default + PartialEq + std::fmt::Debug>(message: M, wire: Bytes) {
    assert_eq!(message.encode_to_vec(), wire.0);
    assert_eq!(M::decode(&*wire.0).unwrap(), message);
}

#[test]
fn set_rank_call_is_the_recorded_one() {
    // Rank 0 is an absent field; the whole call is 11 bytes.
    let body = mgmt::SetRankReq {
        rank: 0,
        map_version: 1,
        daos_version: 0,
    }
    .encode_to_vec();
    assert_eq!(body, [0x10, 0x01]);
    let call = drpc::Call {
        module: 2,
        method: 202,
        sequence: 1,
        body,
    };
    assert_eq!(
        call.encode_to_vec(),
        [
            0x08, 0x02, 0x10, 0xca, 0x01, 0x18, 0x01, 0x22, 0x02, 0x10, 0x01
        ]
    );
}

#[test]
fn responses_and_statuses() {
    same(
        drpc::Response {
            sequence: 7,
            status: drpc::Status::UnknownMethod.into(),
            body: vec![1],
        },
        bytes().num(1, 7).num(2, 4).bytes(3, &[1]),
    );
    let statuses: Vec<_> = (0..9)
        .map(|n| drpc::Status::try_from(n).map(|status| status.as_str_name()))
        .collect();
    assert_eq!(statuses[5], Ok("FAILED_UNMARSHAL_CALL"));
    assert_eq!(statuses[6], Ok("FAILED_UNMARSHAL_PAYLOAD"));
    assert_eq!(statuses[7], Ok("FAILED_MARSHAL"));
    assert!(statuses[8].is_err());
    // An engine without a rank yet answers with a negative code: ten bytes of varint.
    same(
        mgmt::DaosResp { status: -1012 },
        bytes().num(1, -1012i64 as u64),
    );
}

#[test]
fn errors_of_devices_are_ten_byte_varints() {
    let state = ctl::ResponseState {
        status: ctl::ResponseStatus::CtlErrNvme.into(),
        error: "x".into(),
        info: String::new(),
    };
    let wire = state.encode_to_vec();
    assert_eq!(
        wire,
        [
            0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x12, 0x01, b'x'
        ]
    );
    assert_eq!(state.status().as_str_name(), "CTL_ERR_NVME");
}

#[test]
fn format_reply_without_hugepages() {
    let info = "NVMe format skipped on instance 0, use of hugepages disabled in config";
    let mount = |path: &str, index| ctl::ScmMountResult {
        mntpoint: path.into(),
        state: Some(ctl::ResponseState::default()),
        instanceidx: index,
    };
    same(
        ctl::StorageFormatResp {
            crets: vec![ctl::NvmeControllerResult {
                pci_addr: "<nil>".into(),
                state: Some(ctl::ResponseState {
                    info: info.into(),
                    ..Default::default()
                }),
                role_bits: 0,
            }],
            mrets: vec![mount("/mnt0", 0), mount("/mnt1", 1)],
        },
        bytes()
            .msg(1, bytes().text(1, "<nil>").msg(2, bytes().text(3, info)))
            .msg(2, bytes().text(1, "/mnt0").msg(2, bytes()))
            .msg(2, bytes().text(1, "/mnt1").msg(2, bytes()).num(3, 1)),
    );
}

#[test]
fn scan_request_and_reply_with_usage() {
    same(
        ctl::StorageScanReq {
            nvme: Some(ctl::ScanNvmeReq {
                health: true,
                meta: true,
                ..Default::default()
            }),
            scm: Some(ctl::ScanScmReq { usage: true }),
        },
        bytes()
            .msg(1, bytes().num(1, 1).num(2, 1))
            .msg(2, bytes().num(1, 1)),
    );
    let total = 4_294_967_296;
    same(
        ctl::StorageScanResp {
            nvme: Some(ctl::ScanNvmeResp {
                ctrlrs: Vec::new(),
                state: Some(ctl::ResponseState::default()),
            }),
            scm: Some(ctl::ScanScmResp {
                modules: Vec::new(),
                namespaces: vec![ctl::ScmNamespace {
                    blockdev: "ramdisk".into(),
                    size: total,
                    mount: Some(ctl::scm_namespace::Mount {
                        path: "/mnt0".into(),
                        total_bytes: total,
                        avail_bytes: 4_294_918_144,
                        class: "ram".into(),
                        rank: 1,
                        usable_bytes: 3_203_350_528,
                        ..Default::default()
                    }),
                    ..Default::default()
                }],
                state: Some(ctl::ResponseState::default()),
            }),
            sys_mem_info: Some(ctl::SysMemInfo {
                hugepage_size_kb: 2048,
                mem_total_kb: 24_682_416,
                numa_nodes: vec![ctl::MemInfo {
                    mem_used_kb: 5,
                    ..Default::default()
                }],
                ..Default::default()
            }),
        },
        bytes()
            .msg(1, bytes().msg(2, bytes()))
            .msg(
                2,
                bytes()
                    .msg(
                        2,
                        bytes().text(2, "ramdisk").num(5, total).msg(
                            6,
                            bytes()
                                .text(1, "/mnt0")
                                .num(2, total)
                                .num(3, 4_294_918_144)
                                .text(5, "ram")
                                .num(6, 1)
                                .num(7, 3_203_350_528),
                        ),
                    )
                    .msg(3, bytes()),
            )
            .msg(
                3,
                bytes()
                    .num(5, 2048)
                    .num(6, 24_682_416)
                    .msg(9, bytes().num(7, 5)),
            ),
    );
}

#[test]
fn system_query_reply() {
    let uri = "ofi+tcp;ofi_rxm://10.99.0.1:31416";
    let time = "2026-11-22T07:28:54.879210323Z";
    same(
        mgmt::SystemQueryResp {
            members: vec![mgmt::SystemMember {
                addr: "10.99.0.1:10001".into(),
                uuid: "f3c8".into(),
                incarnation: 123_456_867,
                state: "joined".into(),
                fabric_uri: uri.into(),
                fabric_contexts: 3,
                fault_domain: "/vm".into(),
                last_update: time.into(),
                ..Default::default()
            }],
            absentranks: "7".into(),
            data_version: 8,
            providers: vec!["ofi+tcp;ofi_rxm".into()],
            sys_self_heal_policy: "exclude;pool_exclude;pool_rebuild".into(),
            ..Default::default()
        },
        bytes()
            .msg(
                1,
                bytes()
                    .text(1, "10.99.0.1:10001")
                    .text(2, "f3c8")
                    .num(4, 123_456_867)
                    .text(5, "joined")
                    .text(6, uri)
                    .num(7, 3)
                    .text(9, "/vm")
                    .text(10, time),
            )
            .text(2, "7")
            .num(4, 8)
            .text(5, "ofi+tcp;ofi_rxm")
            .text(6, "exclude;pool_exclude;pool_rebuild"),
    );
}

#[test]
fn attach_info_reply() {
    same(
        mgmt::GetAttachInfoResp {
            rank_uris: vec![mgmt::get_attach_info_resp::RankUri {
                rank: 1,
                uri: "tcp://a".into(),
                provider_idx: 0,
                num_ctxs: 2,
            }],
            ms_ranks: vec![0, 1, 300],
            client_net_hint: Some(mgmt::ClientNetHint {
                provider: "tcp".into(),
                net_dev_class: 1,
                srv_srx_set: -1,
                ..Default::default()
            }),
            data_version: 9,
            sys: "daos_server".into(),
            build_info: Some(mgmt::BuildInfo {
                major: 2,
                minor: 8,
                patch: 0,
                tag: "t".into(),
            }),
            ..Default::default()
        },
        bytes()
            .msg(2, bytes().num(1, 1).text(2, "tcp://a").num(4, 2))
            .bytes(3, &[0, 1, 0xac, 0x02])
            .msg(4, bytes().text(1, "tcp").num(6, 1).num(7, u64::MAX))
            .num(5, 9)
            .text(6, "daos_server")
            .msg(9, bytes().num(1, 2).num(2, 8).text(4, "t")),
    );
}

#[test]
fn notify_ready_request() {
    same(
        srv::NotifyReadyReq {
            uri: "tcp://a".into(),
            nctxs: 3,
            drpc_listener_sock: "/run/e.sock".into(),
            instance_idx: 1,
            ntgts: 2,
            incarnation: 1 << 60,
            secondary_uris: vec!["s".into()],
            secondary_nctxs: vec![4],
            check_mode: true,
        },
        bytes()
            .text(1, "tcp://a")
            .num(2, 3)
            .text(3, "/run/e.sock")
            .num(4, 1)
            .num(5, 2)
            .num(6, 1 << 60)
            .text(7, "s")
            .bytes(8, &[4])
            .num(9, 1),
    );
}

#[test]
fn unknown_fields_are_ignored() {
    let wire = bytes().num(3, 1).num(900, 5).text(901, "later").num(4, 1);
    let request = ctl::StorageFormatReq::decode(&*wire.0).unwrap();
    assert!(request.reformat && request.replace);
}

proptest! {
    #[test]
    fn decoders_take_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = drpc::Call::decode(&*bytes);
        let _ = ctl::StorageScanResp::decode(&*bytes);
        let _ = mgmt::GetAttachInfoResp::decode(&*bytes);
        let _ = daos_proto::host::FormatStorageEvent::decode(&*bytes);
    }
}
