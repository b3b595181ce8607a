//! What each target does with its bytes: nothing may panic, and what is accepted means the same
//! after a trip through its encoder.

use daos_config::{Config, Overrides};
use daos_drpc::frame::{Assembler, Packets};
use daos_engine::index::value::StoredValue;
use daos_engine::record::Record;
use daos_media::device_config::DeviceConfig;
use daos_media::label::{self, Label};
use daos_media::signature;
use daos_media::superblock::Superblock;
use daos_plugin_api::control;
use daos_wire::{EngineUri, ListEntries, REPLY_HEADER, REQUEST_HEADER, Reply, Request, crc32c};
use std::path::Path;

/// Name and body.
pub const ALL: &[(&str, fn(&[u8]))] = &[
    ("config", config),
    ("control-documents", control_documents),
    ("device-config", device_config),
    ("drpc-packets", drpc_packets),
    ("fio-job", fio_job),
    ("grpc-messages", grpc_messages),
    ("helper-events", helper_events),
    ("host-lists", host_lists),
    ("index-value", index_value),
    ("label", label),
    ("log-record", log_record),
    ("plugin-file", plugin_file),
    ("signature", detect),
    ("superblock", superblock),
    ("wire-reply", wire_reply),
    ("wire-request", wire_request),
    ("wire-uri", wire_uri),
];

fn config(data: &[u8]) {
    let overrides = Overrides::default();
    if let Err(errors) = Config::parse_bytes(data, "daos_server.yml", &overrides) {
        assert!(errors.errors().next().is_some(), "refused without a reason");
        let _ = errors.to_string();
    }
}

fn control_documents(data: &[u8]) {
    let _ = serde_json::from_slice::<control::Manifest>(data);
    let _ = serde_json::from_slice::<control::ScanReport>(data);
    let _ = serde_json::from_slice::<Vec<control::DeviceSpec>>(data);
    let _ = serde_json::from_slice::<control::FormatRequest>(data);
    let _ = serde_json::from_slice::<control::FormatReport>(data);
    let _ = serde_json::from_slice::<control::FabricOpenRequest>(data);
}

fn device_config(data: &[u8]) {
    let _ = DeviceConfig::decode(Path::new("daos_nvme.conf"), data);
}

fn drpc_packets(data: &[u8]) {
    // The first byte cuts the rest into packets.
    let Some((cut, rest)) = data.split_first() else {
        return;
    };
    let mut assembler = Assembler::new(1 << 20);
    for packet in rest.chunks(usize::from(*cut).max(24)) {
        if let Ok(Some(message)) = assembler.push(packet) {
            assert!(message.len() <= rest.len(), "bytes out of nothing");
            let mut again = Assembler::new(1 << 20);
            let (mut packets, mut out) = (Packets::new(&message), Vec::new());
            let mut whole = None;
            while packets.next_into(&mut out) {
                whole = again.push(&out).expect("packets of our own");
            }
            assert_eq!(whole.as_deref(), Some(&message[..]));
        }
    }
}

fn fio_job(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match daos_burnin::fio::parse("job.fio", text) {
        Ok(load) => {
            load.check().expect("what was read can be run");
            let document = serde_json::to_string(&load).expect("a load is a document");
            assert_eq!(
                serde_json::from_str::<daos_burnin::Load>(&document).ok(),
                Some(load)
            );
        }
        Err(error) => {
            assert!(!error.what.is_empty(), "refused without a reason");
            assert!((1..=text.lines().count().max(1)).contains(&error.line));
        }
    }
}

/// Reads the bytes as one kind of message.
fn message<M: prost::Message + Default + PartialEq>(data: &[u8]) {
    if let Ok(message) = M::decode(data) {
        let bytes = message.encode_to_vec();
        let again = M::decode(&bytes[..]).expect("bytes of our own");
        // Of floating point numbers some are not equal to themselves.
        assert!(again == message || again.encode_to_vec() == bytes);
    }
}

/// What other servers, tools and engines may send: each kind of request, chosen by the first byte.
fn grpc_messages(data: &[u8]) {
    use daos_proto::{ctl, host, mgmt, shared};
    const KINDS: &[fn(&[u8])] = &[
        message::<ctl::StorageScanReq>,
        message::<ctl::StorageFormatReq>,
        message::<ctl::SetLogMasksReq>,
        message::<ctl::FirmwareQueryReq>,
        message::<ctl::FirmwareUpdateReq>,
        message::<ctl::NetworkScanReq>,
        message::<ctl::RanksReq>,
        message::<ctl::SmdQueryReq>,
        message::<ctl::SmdManageReq>,
        message::<mgmt::GetAttachInfoReq>,
        message::<mgmt::JoinReq>,
        message::<mgmt::SystemQueryReq>,
        message::<mgmt::SystemStopReq>,
        message::<mgmt::SystemStartReq>,
        message::<mgmt::SystemExcludeReq>,
        message::<mgmt::SystemEraseReq>,
        message::<mgmt::PoolCreateReq>,
        message::<mgmt::PoolDestroyReq>,
        message::<mgmt::PoolQueryReq>,
        message::<mgmt::PoolGetPropReq>,
        message::<mgmt::PoolSetPropReq>,
        message::<mgmt::ListPoolsReq>,
        message::<shared::ClusterEventReq>,
        message::<host::BurnInStartRequest>,
        message::<host::FormatStorageRequest>,
        message::<host::SetLayersRequest>,
        message::<host::UpdateFirmwareRequest>,
        message::<host::StartRequest>,
    ];
    if let Some((kind, rest)) = data.split_first() {
        KINDS[usize::from(*kind) % KINDS.len()](rest);
    }
}

/// Lists of hosts and sets of ranks as administrators write them, on the command line and in requests.
fn host_lists(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(mut hosts) = daos_hostlist::hosts(text) {
        let folded = daos_hostlist::fold(hosts.iter().map(String::as_str));
        let mut again = daos_hostlist::hosts(&folded).expect("a list of our own");
        hosts.sort();
        again.sort();
        assert_eq!(again, hosts, "folded: {folded}");
        for host in &hosts {
            let _ = daos_hostlist::with_port(host, 10001);
        }
    }
    if let Ok(ranks) = daos_hostlist::numbers(text) {
        assert!(ranks.is_sorted_by(|a, b| a < b));
    }
}

fn helper_events(data: &[u8]) {
    let _ = serde_json::from_slice::<daos_helper::protocol::Event>(data);
    let _ = serde_json::from_slice::<daos_helper::protocol::Request>(data);
    daos_helper::fuzz_frames(data);
}

/// Cuts a key off the front: its length is the first byte.
fn with_key(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

fn index_value(data: &[u8]) {
    let Some((key, bytes)) = with_key(data) else {
        return;
    };
    if let Ok(value) = StoredValue::decode(key, bytes) {
        let mut again = Vec::new();
        value.encode(key, &mut again);
        assert_eq!(again, bytes);
    }
}

fn label(data: &[u8]) {
    if let Ok(found) = Label::decode(data) {
        let again = found.encode().expect("what was accepted has a layout");
        let back = Label::decode(&again).expect("a label of our own");
        assert_eq!(format!("{found:?}"), format!("{back:?}"));
    }
    let middle = data.len() / 2;
    let _ = label::decode_copies(&data[..middle], &data[middle..]);
}

fn log_record(data: &[u8]) {
    if let Ok(record) = Record::decode(data) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, data);
    }
}

fn plugin_file(data: &[u8]) {
    let _ = daos_loader::fuzz_elf(data);
}

fn detect(data: &[u8]) {
    let middle = data.len() / 2;
    let (head, tail) = data.split_at(middle);
    let _ = signature::detect(head, tail, data.len() as u64);
}

fn superblock(data: &[u8]) {
    let path = Path::new("superblock");
    if let Ok(found) = Superblock::decode(path, data) {
        let again = found.encode(path).expect("what was accepted");
        let back = Superblock::decode(path, again.as_bytes()).expect("a superblock of our own");
        assert_eq!(format!("{found:?}"), format!("{back:?}"));
    }
}

fn wire_reply(data: &[u8]) {
    let mut bytes = data.to_vec();
    // Without this no input would get past the checksum.
    if bytes.len() >= REPLY_HEADER {
        let crc = crc32c(&bytes[..REPLY_HEADER - 4]);
        bytes[REPLY_HEADER - 4..REPLY_HEADER].copy_from_slice(&crc.to_le_bytes());
    }
    if let Ok(reply) = Reply::decode(&bytes) {
        let _ = ListEntries::new(reply.inline).count();
        let mut again = vec![0; bytes.len()];
        let len = reply.encode(&mut again).expect("room for what was decoded");
        assert_eq!(Reply::decode(&again[..len]), Ok(reply));
    }
}

fn wire_request(data: &[u8]) {
    let mut bytes = data.to_vec();
    if bytes.len() >= REQUEST_HEADER {
        let text = u16::from_le_bytes([bytes[152], bytes[153]]);
        let keys = [154, 156]
            .map(|at| u16::from_le_bytes([bytes[at], bytes[at + 1]]))
            .map(usize::from);
        let end = REQUEST_HEADER + usize::from(text) + keys[0] + keys[1];
        if end <= bytes.len() {
            let mut both = crc32c(&bytes[..REQUEST_HEADER - 4]).to_le_bytes().to_vec();
            both.extend(crc32c(&bytes[REQUEST_HEADER..end]).to_le_bytes());
            let crc = crc32c(&both).to_le_bytes();
            bytes[REQUEST_HEADER - 4..REQUEST_HEADER].copy_from_slice(&crc);
        }
    }
    let _ = Request::decode_sender(&bytes);
    if let Ok(request) = Request::decode(&bytes) {
        let mut again = vec![0; request.encoded_len()];
        let len = request
            .encode(&mut again)
            .expect("room for what was decoded");
        assert_eq!(again[..len], bytes[..]);
    }
}

fn wire_uri(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(uri) = text.parse::<EngineUri>()
    {
        let again = uri.to_string();
        assert_eq!(again.parse::<EngineUri>().ok(), Some(uri));
    }
}
