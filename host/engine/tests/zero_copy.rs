//! Between fabric and device nobody copies a value: what a target pulls from a client by remote access is written to the
//! device from the same bytes of registered memory, and what it reads from the device goes to the client from where the
//! device put it.
//!
//! The tables of both plugins are replaced by ones that note the memory of each operation before they pass it on.

mod common;

use common::{Shape, Storage, container, fabric, runtime, value, with_pool};
use daos_client::ObjectId;
use daos_engine::config::Options;
use daos_engine::engine::{Engine, OpenIndex};
use daos_engine::index::Store;
use daos_engine::media::Formatted;
use daos_engine::plugins::Plugins;
use daos_plugin_api::abi::{
    BdevOp, BdevTable, BdevTablePtr, CallPtr, FabricOp, FabricRequest, FabricTable, FabricTablePtr,
    Handle, MemoryRegion, PluginTable, Request, Status,
};
use daos_plugin_api::host::{Instance, InstanceOptions};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

const OBJECT: ObjectId = ObjectId { hi: 1, lo: 2 };
/// Values that are neither kept in the log nor carried by a message.
const SIZES: [usize; 5] = [65_536, 65_537, 262_144, 1_000_001, 1_048_576];

/// Bytes of a block of the device.
const BLOCK: usize = 4096;

/// Memory that was handed to a plugin, and for what.
#[derive(Default)]
struct Seen {
    registered: Vec<Range<usize>>,
    /// Pulled from a client.
    pulled: Vec<Range<usize>>,
    /// Pushed to a client.
    pushed: Vec<Range<usize>>,
    /// Written to the device from here.
    stored: Vec<Range<usize>>,
    /// Read from the device to here.
    loaded: Vec<Range<usize>>,
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);
static BDEV: OnceLock<&'static BdevTable> = OnceLock::new();
static FABRIC: OnceLock<&'static FabricTable> = OnceLock::new();

/// Notes something, if it is to be noted now.
fn note(what: impl FnOnce(&mut Seen)) {
    if let Some(seen) = SEEN.lock().expect("no case panics with it").as_mut() {
        what(seen);
    }
}

fn range(ptr: *const u8, len: usize) -> Range<usize> {
    ptr.addr()..ptr.addr() + len
}

unsafe extern "C" fn register(
    domain: Handle,
    call: CallPtr,
    ptr: *mut u8,
    len: usize,
    access: u32,
    out: *mut MemoryRegion,
) -> Status {
    note(|seen| seen.registered.push(range(ptr, len)));
    let inner = FABRIC.get().expect("set before").register;
    // SAFETY: everything is the caller's.
    unsafe { inner(domain, call, ptr, len, access, out) }
}

unsafe extern "C" fn remote(endpoint: Handle, requests: *const FabricRequest, count: u32) -> i32 {
    let inner = FABRIC.get().expect("set before").submit;
    // SAFETY: everything is the caller's.
    let taken = unsafe { inner(endpoint, requests, count) };
    // SAFETY: the caller gives `count` requests, of which these were taken.
    let requests = unsafe { std::slice::from_raw_parts(requests, taken.max(0) as usize) };
    for request in requests {
        let memory = range(request.ptr, request.len);
        match request.op {
            FabricOp::READ => note(|seen| seen.pulled.push(memory)),
            FabricOp::WRITE => note(|seen| seen.pushed.push(memory)),
            _ => {}
        }
    }
    taken
}

unsafe extern "C" fn local(queue: Handle, requests: *const Request, count: u32) -> i32 {
    let inner = BDEV.get().expect("set before").submit;
    // SAFETY: everything is the caller's.
    let taken = unsafe { inner(queue, requests, count) };
    // SAFETY: the caller gives `count` requests, of which these were taken.
    let requests = unsafe { std::slice::from_raw_parts(requests, taken.max(0) as usize) };
    for request in requests {
        let pieces = match request.iov_count {
            0 => &[][..],
            // SAFETY: the caller gives so many pieces, which stay until the completion.
            count => unsafe { std::slice::from_raw_parts(request.iov, count as usize) },
        };
        for piece in pieces {
            let memory = range(piece.ptr, piece.len);
            match request.op {
                BdevOp::WRITE => note(|seen| seen.stored.push(memory)),
                BdevOp::READ => note(|seen| seen.loaded.push(memory)),
                _ => {}
            }
        }
    }
    taken
}

fn instance(table: PluginTable) -> Instance {
    let table: &'static PluginTable = Box::leak(Box::new(table));
    Instance::create(table, InstanceOptions::built_in()).expect("an instance")
}

/// The plugins, with tables that note.
fn plugins() -> Plugins {
    let bdev = common::table("bdev-file");
    let fabric = common::table("fabric-tcp");
    // SAFETY: built-in plugins have tables of this version's size, for good.
    let (bdev_table, fabric_table) = unsafe { (&*bdev.bdev.0, &*fabric.fabric.0) };
    let bdev_table = BDEV.get_or_init(|| bdev_table);
    let fabric_table = FABRIC.get_or_init(|| fabric_table);
    let noting_bdev = BdevTable {
        submit: local,
        ..**bdev_table
    };
    let noting_fabric = FabricTable {
        register,
        submit: remote,
        ..**fabric_table
    };
    Plugins {
        scm: common::plugin("scm-ram"),
        bdev: instance(PluginTable {
            bdev: BdevTablePtr(Box::leak(Box::new(noting_bdev))),
            ..*bdev
        }),
        fabric: instance(PluginTable {
            fabric: FabricTablePtr(Box::leak(Box::new(noting_fabric))),
            ..*fabric
        }),
        provider: "tcp".into(),
        telemetry: Default::default(),
    }
}

fn start(options: &Options) -> Engine {
    let formatted = Formatted::read(options).expect("formatted");
    let index: OpenIndex = Arc::new(|path, limit, _| Store::open(path, limit, 1 << 20));
    with_pool(Engine::start_on(options, formatted, plugins(), index).expect("the engine starts"))
}

/// What was moved since the last call.
fn moved() -> Seen {
    let mut seen = SEEN.lock().expect("no case panics with it");
    let seen = seen.as_mut().expect("it is noted");
    let registered = seen.registered.clone();
    std::mem::replace(
        seen,
        Seen {
            registered,
            ..Seen::default()
        },
    )
}

/// That `size` bytes went through the fabric by `remote`, the same ones that went between device and memory by `local`,
/// with what fills the last block.
fn same_bytes(size: usize, remote: &[Range<usize>], local: &[Range<usize>], seen: &Seen) {
    let total = |all: &[Range<usize>]| all.iter().map(ExactSizeIterator::len).sum::<usize>();
    assert_eq!(total(remote), size, "bytes through the fabric");
    assert_eq!(
        total(local),
        size.next_multiple_of(BLOCK),
        "bytes of the device"
    );
    assert_eq!(
        joined(remote).start,
        joined(local).start,
        "{size} bytes were copied"
    );
    let known = |one: &Range<usize>| {
        let of_it = |all: &Range<usize>| all.start <= one.start && one.end <= all.end;
        seen.registered.iter().any(of_it)
    };
    assert!(
        local.iter().all(known),
        "the fabric does not know this memory"
    );
}

/// The one range that pieces in their order make.
fn joined(pieces: &[Range<usize>]) -> Range<usize> {
    for pair in pieces.windows(2) {
        assert_eq!(
            pair[0].end, pair[1].start,
            "the pieces are not in one place: {pieces:x?}"
        );
    }
    pieces[0].start..pieces[pieces.len() - 1].end
}

#[test]
fn a_value_is_where_the_fabric_put_it_when_the_device_takes_it() {
    if fabric::provider() != "tcp" {
        let provider = fabric::provider();
        eprintln!("NOT RUN over {provider}: the tables of fabric-tcp are watched");
        return;
    }
    *SEEN.lock().unwrap() = Some(Seen::default());
    let storage = Storage::format(Shape {
        targets: 1,
        helpers: 0,
        ..Shape::default()
    });
    let engine = start(&storage.options());
    runtime().block_on(async {
        let (_client, container) = container(engine.uri()).await;
        for (n, size) in SIZES.iter().enumerate() {
            let (key, value) = (format!("key-{n}"), value(n as u64, *size));
            moved();
            let put = container.put(OBJECT, key.as_bytes(), b"a", &value);
            put.await.unwrap();
            let seen = moved();
            same_bytes(*size, &seen.pulled, &seen.stored, &seen);
            let got = container.get(OBJECT, key.as_bytes(), b"a").await.unwrap();
            assert_eq!(got, value);
            let seen = moved();
            same_bytes(*size, &seen.pushed, &seen.loaded, &seen);
        }
    });
    engine.stop().unwrap();
}
