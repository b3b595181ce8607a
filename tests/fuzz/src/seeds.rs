//! First inputs: one or a few valid ones per target, made by the encoders.

use daos_drpc::frame::Packets;
use daos_engine::clients::Origin;
use daos_engine::index::value::{Body, Extent, Extents, StoredValue};
use daos_engine::record::{Change, Entries, Record};
use daos_media::label::Label;
use daos_media::superblock::{self, Superblock};
use daos_wire::{
    ArrayRange, ListWriter, Opcode, REPLY_MAX, Reply, Request, RmaDescriptor, WireStatus, crc32c,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::Result;
use std::path::Path;
use uuid::Uuid;

/// Writes the seeds of each target into a folder of its name below `directory`.
pub fn write(directory: &Path) -> Result<()> {
    for (target, name, bytes) in all() {
        let folder = directory.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| seeds.push((target, name.to_owned(), bytes));
    let example = daos_config::example();
    add("config", "commented", example.clone().into_bytes());
    add("config", "active", uncommented(&example).into_bytes());
    for (name, text) in [
        (
            "manifest",
            include_str!("../../../plugins/bdev-file/manifest.json"),
        ),
        (
            "fabric",
            include_str!("../../../plugins/fabric-tcp/manifest.json"),
        ),
        (
            "device",
            r#"[{"class":"file","address":"/a","index":0,"config":{}}]"#,
        ),
    ] {
        add("control-documents", name, text.as_bytes().to_vec());
    }
    add(
        "device-config",
        "empty",
        br#"{"daos_data":{"config":[]},"subsystems":[]}"#.to_vec(),
    );
    add("fio-job", "mixed", FIO_JOB.as_bytes().to_vec());
    for (name, kind, message) in requests() {
        add("grpc-messages", name, [&[kind][..], &message].concat());
    }
    for (name, text) in [
        ("names", "node[1-128,200]:10001, a.b,[::1]:5"),
        ("ranks", "0-3,7"),
    ] {
        add("host-lists", name, text.as_bytes().to_vec());
    }
    add("helper-events", "ready", br#""ready""#.to_vec());
    add(
        "helper-events",
        "cancel",
        br#"{"cancel":{"id":1}}"#.to_vec(),
    );
    let framed = |json: &[u8]| [&(json.len() as u32).to_le_bytes()[..], json].concat();
    let frames = [framed(br#""ready""#), framed(br#"{"cancel":{"id":1}}"#)];
    add("helper-events", "frames", frames.concat());
    add("drpc-packets", "two", packets());
    for (name, body) in [
        ("inline", Body::Inline(b"value")),
        ("extents", Body::Extents(two_extents())),
    ] {
        add("index-value", name, index_value(body));
    }
    add("label", "label", label());
    add("superblock", "superblock", superblock());
    let mut entries = Vec::new();
    for start in [8, 16] {
        Entries::push(&mut entries, start, b"value");
    }
    for (name, change) in [
        (
            "array",
            Change::Array {
                prefix: b"key",
                start: 8,
                end: 24,
                entries: Entries::new(&entries),
            },
        ),
        (
            "put",
            Change::Put {
                key: b"key",
                value: b"value",
            },
        ),
        ("punch", Change::Punch { prefix: b"key" }),
    ] {
        let mut bytes = Vec::new();
        Record {
            origin: Origin {
                client: Uuid::from_u128(7),
                sequence: 9,
                settled: 4,
            },
            change,
        }
        .encode(&mut bytes);
        add("log-record", name, bytes);
    }
    add("wire-uri", "uri", b"ofi+tcp://0a0b,0c0d".to_vec());
    add("wire-reply", "listing", listing());
    for opcode in [
        Opcode::Put,
        Opcode::Get,
        Opcode::ListDkeys,
        Opcode::Query,
        Opcode::Ping,
        Opcode::ArrayPut,
        Opcode::ArrayGet,
        Opcode::ArrayPunch,
        Opcode::ArrayQuery,
    ] {
        add("wire-request", &format!("{opcode:?}"), request(opcode));
    }
    let mut file_system = vec![0u8; 8192];
    file_system[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]); // ext4's magic number
    add("signature", "ext4", file_system);
    add("plugin-file", "elf", elf());
    seeds
}

const FIO_JOB: &str = "# load\n[global]\nruntime=2h\ntime_based\nverify=crc32c\n[mixed]\nrw=randrw\nrwmixread=70\n\
    bssplit=4k/60:64k/40,8k\niodepth=8\nnumjobs=2\nrate_iops=500,\n[stream]\nrw=write\nbs=,1m\nsize=10%\noffset=1g\nrate=50m\n";

/// The example with its comment signs taken off where a key follows.
fn uncommented(example: &str) -> String {
    example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.split(':').next().is_some_and(is_key) => rest,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

fn is_key(word: &str) -> bool {
    !word.is_empty()
        && word
            .chars()
            .all(|c| c == '_' || c == ' ' || c == '-' || c.is_ascii_lowercase())
}

/// Requests with the numbers of their kinds, see the target.
fn requests() -> Vec<(&'static str, u8, Vec<u8>)> {
    use daos_proto::{ctl::RanksReq, mgmt::JoinReq};
    use prost::Message as _;
    let ranks = RanksReq {
        ranks: "0-3".to_owned(),
        force: true,
        check_mode: false,
    };
    let join = JoinReq {
        sys: "daos_server-2.8.0".to_owned(),
        uuid: Uuid::from_u128(1).to_string(),
        uri: "ofi+tcp://01".to_owned(),
        addr: "node1:10001".to_owned(),
        srv_fault_domain: "/rack0/node1".to_owned(),
        ..JoinReq::default()
    };
    vec![
        ("ranks", 6, ranks.encode_to_vec()),
        ("join", 10, join.encode_to_vec()),
    ]
}

fn packets() -> Vec<u8> {
    let (mut bytes, mut packet) = (vec![64], Vec::new());
    let mut packets = Packets::new(b"a message");
    while packets.next_into(&mut packet) {
        bytes.extend(&packet);
    }
    bytes
}

fn two_extents() -> Extents {
    let mut extents = Extents::default();
    for start in [0, 8] {
        extents.push(Extent { start, units: 4 });
    }
    extents
}

fn index_value(body: Body<'_>) -> Vec<u8> {
    let mut bytes = vec![3, b'k', b'e', b'y'];
    StoredValue {
        checksum: crc32c(b"value"),
        len: 5,
        body,
    }
    .encode(b"key", &mut bytes);
    bytes
}

fn label() -> Vec<u8> {
    let label = Label {
        engine: Uuid::from_u128(1),
        generation: 2,
        index: 0,
        count: 1,
        device: Uuid::from_u128(3),
        blocks: 1 << 20,
        block_size: 4096,
        created: 1_700_000_000,
        volatile: false,
    };
    label.encode().expect("a valid label").to_vec()
}

fn superblock() -> Vec<u8> {
    let block = Superblock {
        version: superblock::VERSION,
        uuid: Uuid::from_u128(1),
        system: "daos_server".to_owned(),
        rank: Some(0),
        uri: "tcp://0a".to_owned(),
        validrank: true,
        hostfaultdomain: "/host".to_owned(),
        incarnation: 1,
        generation: 2,
        immutable: BTreeMap::from([("targets".to_owned(), "2".to_owned())]),
        devices: Vec::new(),
    };
    let text = block.encode(Path::new("superblock"));
    text.expect("a valid superblock").into_bytes()
}

fn listing() -> Vec<u8> {
    let mut inline = [0; 64];
    let mut writer = ListWriter::new(&mut inline);
    writer.push(b"first");
    writer.push(b"second");
    let (len, count) = writer.finish();
    let mut reply = Reply::new(
        Opcode::ListDkeys as u16,
        WireStatus::OK,
        Uuid::from_u128(4),
        5,
    );
    reply.count = count;
    reply.inline = &inline[..len];
    let mut bytes = vec![0; REPLY_MAX];
    let len = reply.encode(&mut bytes).expect("a valid reply");
    bytes.truncate(len);
    bytes
}

fn request(opcode: Opcode) -> Vec<u8> {
    let mut request = Request::new(opcode, Uuid::from_u128(4), 5, b"address");
    request.dkey = b"dkey";
    request.akey = b"akey";
    match opcode {
        Opcode::Put => {
            request.inline = b"value";
            request.value_len = 5;
            request.checksum = crc32c(b"value");
            request.kind = daos_wire::ValueKind::Single;
        }
        Opcode::Ping => {
            (request.dkey, request.akey) = (b"", b"");
            request.inline = b"value";
            request.value_len = 5;
        }
        Opcode::Get => {
            request.kind = daos_wire::ValueKind::Single;
            request.rma = Some(RmaDescriptor {
                key: 1,
                addr: 2,
                len: 3,
            });
        }
        Opcode::ArrayPut | Opcode::ArrayGet | Opcode::ArrayPunch => {
            request.kind = daos_wire::ValueKind::Array;
            request.array = ArrayRange {
                offset: 3,
                count: 1,
                record_size: 5,
            };
            if opcode == Opcode::ArrayPut {
                request.inline = b"value";
                request.value_len = 5;
                request.checksum = crc32c(b"value");
            }
        }
        Opcode::ArrayQuery => request.kind = daos_wire::ValueKind::Array,
        Opcode::ListDkeys => request.akey = b"",
        _ => (request.dkey, request.akey) = (b"", b""),
    }
    let mut bytes = vec![0; request.encoded_len()];
    let len = request.encode(&mut bytes).expect("a valid request");
    bytes.truncate(len);
    bytes
}

/// The head of a 64-bit shared object without sections: what follows is up to the fuzzer.
fn elf() -> Vec<u8> {
    let mut bytes = vec![0u8; 4096];
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    bytes[16..20].copy_from_slice(&[3, 0, 62, 0]); // ET_DYN, x86-64
    bytes[20] = 1;
    bytes[32] = 64; // program headers follow
    bytes[52..58].copy_from_slice(&[64, 0, 56, 0, 1, 0]);
    bytes[64] = 4; // PT_NOTE
    bytes[64 + 8] = 200;
    bytes[64 + 32] = 100;
    bytes
}
