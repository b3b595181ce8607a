//! A responder: an endpoint that answers pings as a target does, in a process of its own, so that the way between
//! two machines can be measured where no engine runs. It opens no storage.
//!
//! It ends by itself: after its time, and when whoever started it is gone (end of standard input). Its memory is
//! fixed (32 messages, four large transfers), whatever its clients do.

use crate::config::Options;
use crate::descriptors;
use crate::error::{StartError, exit};
use crate::memory::{Buffer, BufferCounts, Buffers};
use crate::net::{Event, Kind, Net};
use crate::plugins::Plugins;
use crate::wake::{self, Wake};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::CallOptions;
use daos_wire::{
    DecodeError, EngineUri, Opcode, REPLY_HEADER, Reply, Request, RmaDescriptor, WireStatus,
};
use serde_json::Map;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Buffers of a responder: a few clients at a time.
const COUNTS: BufferCounts = BufferCounts {
    messages: 32,
    small: 4,
    large: 4,
};
/// Operations handed to the fabric at once.
const SLOTS: u32 = 64;
/// How long to look for the next ping before sleeping: longer than a client needs between two.
const SPIN: Duration = Duration::from_micros(100);
/// How often the end of the time is looked at while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// Responds until the time is over or standard input ends; returns the exit code.
///
/// # Errors
/// Why it cannot.
pub fn run(options: &Options, limit: Duration) -> Result<u8, StartError> {
    let until = Instant::now() + limit;
    if options.provider.as_deref().is_none_or(str::is_empty) {
        return Err(StartError::config("no fabric provider: set D_PROVIDER"));
    }
    descriptors::keep();
    let (instance, provider) = Plugins::load_fabric(options)?;
    let request = FabricOpenRequest {
        provider,
        interface: options.interface.clone(),
        port: options.port,
        answers: true,
        config: Map::new(),
    };
    let domain = instance
        .open_fabric(&request, CallOptions::default())
        .map_err(|error| StartError::config(error.to_string()))?;
    let buffers = Buffers::of_process(&domain, COUNTS)
        .map_err(|error| StartError::plugin("memory for pings", &error))?;
    let _attached = instance
        .attach_thread()
        .map_err(|error| StartError::plugin("the thread", &error))?;
    let slots = SLOTS.min(domain.info().max_outstanding).max(1);
    let endpoint = domain
        .open_endpoint(CallOptions::default())
        .map_err(|error| StartError::plugin("the endpoint", &error))?;
    let net = Net::new(endpoint, slots);
    let address = net
        .address()
        .map_err(|status| StartError::failed(format_args!("no address: {status}")))?;
    let mut responder = Responder::new(net, buffers);
    let uri = EngineUri {
        // As the client finds the plugin: the name in the configuration.
        provider: options.provider.clone().unwrap_or_default(),
        targets: vec![address],
    };
    let wake = Wake::new().map_err(StartError::failed)?;
    let orphaned = watch_input(wake.clone());
    let mut out = std::io::stdout();
    writeln!(out, "uri {uri}")
        .and_then(|()| out.flush())
        .map_err(StartError::failed)?;
    responder.serve(until, &orphaned, &wake)?;
    Ok(exit::OK)
}

/// Tells when standard input ends: nobody waits for answers then.
fn watch_input(wake: Wake) -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        let mut buffer = [0u8; 64];
        // An error is an end as well.
        while std::io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
        told.store(true, Ordering::Release);
        wake.wake();
    });
    ended
}

/// What is known of a request.
#[derive(Default)]
struct Ping {
    opcode: u16,
    client: Uuid,
    sequence: u64,
    peer: u64,
    len: usize,
    rma: Option<RmaDescriptor>,
    /// The message, while something else moves.
    message: Option<Buffer>,
}

struct Responder {
    net: Net,
    buffers: Buffers,
    pings: Vec<Ping>,
}

impl Responder {
    fn new(mut net: Net, mut buffers: Buffers) -> Self {
        let mut pings = Vec::new();
        for (index, message) in std::mem::take(&mut buffers.messages)
            .into_iter()
            .enumerate()
        {
            pings.push(Ping::default());
            net.receive(index as u64, message);
        }
        Self {
            net,
            buffers,
            pings,
        }
    }

    fn serve(
        &mut self,
        until: Instant,
        orphaned: &AtomicBool,
        wake: &Wake,
    ) -> Result<(), StartError> {
        let failed = |defect| StartError::failed(format_args!("the endpoint failed: {defect}"));
        let mut events: Vec<Event> = Vec::new();
        let mut quiet = Instant::now();
        loop {
            self.net.poll(&mut events).map_err(failed)?;
            let now = Instant::now();
            if now >= until || orphaned.load(Ordering::Acquire) {
                return Ok(());
            }
            if !events.is_empty() {
                quiet = now;
            }
            for event in std::mem::take(&mut events) {
                self.on_event(event);
            }
            if now.duration_since(quiet) < SPIN {
                // The client may need this core.
                std::thread::yield_now();
                continue;
            }
            let wait = self.net.arm_wait().map_err(failed)?;
            wake::sleep(wake, &[wait], Some(TICK.min(until - now)));
        }
    }

    fn on_event(&mut self, event: Event) {
        let index = event.user as usize;
        match event.kind {
            Kind::Received if event.status.is_ok() => {
                self.on_message(index, event.buffer, event.len);
            }
            Kind::Received => self.net.receive(event.user, event.buffer),
            Kind::Sent => {
                if !event.status.is_ok() {
                    self.net.release(self.pings[index].peer);
                }
                self.net.receive(event.user, event.buffer);
            }
            Kind::Fetched if event.status.is_ok() => {
                let ping = &self.pings[index];
                if let Some(rma) = ping.rma {
                    self.net
                        .store(event.user, event.buffer, ping.len, ping.peer, rma);
                }
            }
            Kind::Fetched | Kind::Stored => {
                self.buffers.put(event.buffer);
                self.moved(index, event.status);
            }
        }
    }

    /// Memory was read and written, or could not be.
    fn moved(&mut self, index: usize, status: Status) {
        let ping = &mut self.pings[index];
        let Some(message) = ping.message.take() else {
            return;
        };
        let status = match status.is_ok() {
            true => WireStatus::OK,
            false => WireStatus::UNREACHABLE,
        };
        let len = ping.len as u64;
        self.answer(index, message, status, len, "");
    }

    fn on_message(&mut self, index: usize, mut message: Buffer, len: usize) {
        let bytes = &message.bytes()[..len];
        let request = match Request::decode(bytes) {
            Ok(request) => request,
            Err(error) => {
                let sender = Request::decode_sender(bytes)
                    .and_then(|(c, s, a)| Some((c, s, self.net.resolve(a).ok()?)));
                let Some((client, sequence, peer)) = sender else {
                    return self.net.receive(index as u64, message);
                };
                self.pings[index] = Ping {
                    client,
                    sequence,
                    peer,
                    ..Ping::default()
                };
                let status = match error {
                    DecodeError::Version(_) => WireStatus::VERSION,
                    _ => WireStatus::INVALID,
                };
                return self.answer(index, message, status, 0, &error.to_string());
            }
        };
        let Ok(peer) = self.net.resolve(request.address) else {
            return self.net.receive(index as u64, message);
        };
        let inline = len - request.inline.len()..len;
        let ping = Ping {
            opcode: request.opcode as u16,
            client: request.client,
            sequence: request.sequence,
            peer,
            len: request.value_len as usize, // at most 1 MiB
            rma: request.rma,
            message: None,
        };
        let opcode = request.opcode;
        self.pings[index] = ping;
        match (opcode, self.pings[index].rma) {
            (Opcode::Ping, None) => {
                let ping = &self.pings[index];
                let reply = Reply {
                    value_len: inline.len() as u64,
                    ..ping.reply(WireStatus::OK)
                };
                message
                    .bytes_mut()
                    .copy_within(inline.clone(), REPLY_HEADER);
                let len = reply.encode_header(message.bytes_mut(), inline.len());
                self.net.send(index as u64, message, len, peer);
            }
            (Opcode::Ping, Some(rma)) => match self.buffers.take(rma.len as usize) {
                Some(buffer) => {
                    self.pings[index].message = Some(message);
                    self.net.fetch(index as u64, buffer, peer, rma);
                }
                None => {
                    let text = "all memory of this responder is in use";
                    self.answer(index, message, WireStatus::BUSY, 0, text);
                }
            },
            _ => {
                let text = "a responder answers pings only";
                self.answer(index, message, WireStatus::NOT_SUPPORTED, 0, text);
            }
        }
    }

    fn answer(
        &mut self,
        index: usize,
        mut message: Buffer,
        status: WireStatus,
        value_len: u64,
        text: &str,
    ) {
        let ping = &self.pings[index];
        let reply = Reply {
            value_len,
            inline: text.as_bytes(),
            ..ping.reply(status)
        };
        match reply.encode(message.bytes_mut()) {
            Ok(len) => self.net.send(index as u64, message, len, ping.peer),
            Err(error) => {
                // A defect of ours; the client runs into its timeout.
                tracing::error!(%error, "a reply cannot be encoded");
                self.net.receive(index as u64, message);
            }
        }
    }
}

impl Ping {
    fn reply(&self, status: WireStatus) -> Reply<'static> {
        Reply::new(self.opcode, status, self.client, self.sequence)
    }
}
