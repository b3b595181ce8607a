//! An attached controller: admin work, reset, removal. Shared by the devices (namespaces) and queues on it.

mod attached;
mod firmware;
mod inquiry;
mod ring;

pub(crate) use attached::Controllers;
pub(crate) use firmware::{Buffer, Told};
pub(crate) use inquiry::{Identity, Info, Namespace, namespace_info};

use crate::flight::{self, Flight};
use crate::gate::{Gate, State};
use crate::{env, fabrics, sys};
use daos_plugin_api::abi::{BdevEvent, Status};
use daos_plugin_api::sdk::{Error, Result};
use std::collections::VecDeque;
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Largest hardware queue we offer; each entry of a ring but a quarter (128 at most) costs 4 KiB of huge pages.
const QUEUE_ENTRIES: u32 = 1024;

/// Events of one device, waiting for the host.
#[derive(Default)]
pub(crate) struct Events(Mutex<VecDeque<BdevEvent>>);

impl Events {
    pub(crate) fn push(&self, kind: u32, value: u64) {
        lock(&self.0).push_back(BdevEvent {
            kind,
            reserved: 0,
            value,
        });
    }

    pub(crate) fn pop(&self) -> Option<BdevEvent> {
        lock(&self.0).pop_front()
    }
}

/// How a controller is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    Working = 0,
    /// A reset failed or a queue could not be closed: only another reset helps.
    Failed = 1,
    /// The kernel wants the device back, or it is gone.
    Removed = 2,
}

/// An open queue.
struct Open {
    gate: Arc<Gate>,
    flight: *mut Flight,
}

/// An attached controller.
pub(crate) struct Attached {
    /// Not to be used any more once the phase is [`Phase::Removed`], but by `let_go`.
    handle: *mut sys::spdk_nvme_ctrlr,
    pub(crate) address: String,
    pub(crate) info: Info,
    /// The open queues. The lock also serialises reset, removal, opening and closing.
    queues: Mutex<Vec<Open>>,
    listeners: Mutex<Vec<Weak<Events>>>,
    phase: AtomicU8,
    /// Held of a controller on a fabric.
    claim: Option<fabrics::Claim>,
}

// SAFETY: the driver locks its controller structure by itself; calls that it wants serialised are
// made under `queues`.
unsafe impl Send for Attached {}
// SAFETY: as above.
unsafe impl Sync for Attached {}

impl Attached {
    /// Takes the controller at a PCI address, or, with a transport id, the one on a fabric that is called so. The
    /// environment runs already.
    pub(crate) fn attach(address: &str, transport: Option<&str>) -> Result<Arc<Self>> {
        let claim = transport
            .map(|id| fabrics::claim(address, id))
            .transpose()?;
        let place = match transport {
            Some(id) => id.to_owned(),
            None => format!("trtype:PCIe traddr:{address}"),
        };
        let text = CString::new(place).map_err(|_| {
            Error::new(
                Status::INVALID,
                format!("the address of {address:?} has a zero byte in it"),
            )
        })?;
        env::listen();
        // SAFETY: the environment runs; the text outlives the call; the caller attaches one at a time.
        let handle = unsafe {
            sys::daos_spdk_sigbus_before();
            let handle = sys::daos_spdk_attach(text.as_ptr(), QUEUE_ENTRIES);
            sys::daos_spdk_sigbus_after();
            handle
        };
        if handle.is_null() {
            return Err(Error::new(
                Status::NOT_FOUND,
                format!("cannot attach the NVMe controller {address}"),
            )
            .cause(env::last_words())
            .remedy(match transport {
                Some(id) => format!("check that a target answers at {id}"),
                None => format!(
                    "check that {address} is an NVMe device bound to vfio-pci and not in use elsewhere"
                ),
            }));
        }
        let info = match Info::ask(handle, address) {
            Ok(info) => info,
            Err(error) => {
                // SAFETY: attached above, nothing else refers to it.
                unsafe { sys::spdk_nvme_detach(handle) };
                return Err(error);
            }
        };
        let controller = Arc::new(Self {
            handle,
            address: address.to_owned(),
            info,
            queues: Mutex::new(Vec::new()),
            listeners: Mutex::new(Vec::new()),
            phase: AtomicU8::new(Phase::Working as u8),
            claim,
        });
        let argument = Arc::as_ptr(&controller).cast_mut().cast();
        // SAFETY: the argument outlives the registration, which `drop` takes back.
        unsafe {
            sys::spdk_nvme_ctrlr_register_aer_callback(handle, Some(asynchronous_event), argument)
        };
        Ok(controller)
    }

    /// Events of this controller are copied into `events` from now on.
    pub(crate) fn listen(&self, events: &Arc<Events>) {
        lock(&self.listeners).push(Arc::downgrade(events));
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Working,
            1 => Phase::Failed,
            _ => Phase::Removed,
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Opens a hardware queue for the calling thread, puts it into `flight`, and `gate` under this
    /// controller's control.
    ///
    /// # Safety
    /// The flight lives until `close_queue`, and its owner passes the gate before it touches it.
    pub(crate) unsafe fn open_queue(
        &self,
        depth: u32,
        gate: &Arc<Gate>,
        flight: *mut Flight,
    ) -> Result<()> {
        let mut queues = lock(&self.queues);
        let qpair = self.new_qpair(depth)?;
        // SAFETY: the caller vouches for the flight, which nobody else knows yet.
        unsafe { (*flight).qpair = qpair };
        queues.push(Open {
            gate: gate.clone(),
            flight,
        });
        Ok(())
    }

    /// Puts a new hardware queue into a flight whose own was given back when the device was lost.
    ///
    /// # Safety
    /// On the queue's thread, outside of its gate; `flight` is the one of `open_queue` and unborrowed.
    pub(crate) unsafe fn replace_queue(&self, depth: u32, flight: *mut Flight) -> Result<()> {
        let _serial = lock(&self.queues);
        // SAFETY: the caller vouches for the flight; whoever else touches it holds the lock.
        unsafe {
            if (*flight).qpair.is_null() {
                (*flight).qpair = self.new_qpair(depth)?;
            }
        }
        Ok(())
    }

    fn new_qpair(&self, depth: u32) -> Result<*mut sys::spdk_nvme_qpair> {
        let what = || {
            format!(
                "cannot open an I/O queue of depth {depth} on {}",
                self.address
            )
        };
        match self.phase() {
            Phase::Working => {}
            Phase::Failed => {
                return Err(Error::new(Status::IO, what())
                    .cause("the controller failed")
                    .remedy("reset it"));
            }
            Phase::Removed => {
                return Err(Error::new(Status::DEVICE_GONE, what()).cause("the device was removed"));
            }
        }
        let entries = match self.claim {
            // A fabric has no rings: each entry but one is for a command.
            Some(_) => depth + 1,
            None => ring::entries(depth, self.info.ring_entries),
        };
        // SAFETY: an attached controller.
        let qpair = unsafe { sys::daos_spdk_queue_open(self.handle, depth, entries) };
        if qpair.is_null() {
            return Err(Error::new(Status::NO_MEMORY, what())
                .cause(format!(
                    "all {} queues of the controller may be open, or huge pages ran out",
                    self.info.io_queues
                ))
                .remedy("open fewer or shallower queues, or reserve more huge pages"));
        }
        Ok(qpair)
    }

    /// Closes a queue: afterwards the device touches no memory of it, whatever state it is in.
    ///
    /// # Safety
    /// On the queue's thread, outside of its gate; `flight` is the one of `open_queue` and unborrowed. Completion
    /// callbacks run before this returns.
    pub(crate) unsafe fn close_queue(&self, flight: *mut Flight, gate: &Arc<Gate>) {
        let mut queues = lock(&self.queues);
        queues.retain(|queue| !Arc::ptr_eq(&queue.gate, gate));
        // SAFETY: the caller vouches for the flight.
        if !unsafe { flight::retire(flight, Status::RESET) } {
            // The controller did not confirm the deletion and may still use the queue's memory.
            tracing::error!(
                address = self.address,
                "queue deletion not confirmed: device cut off from memory"
            );
            self.stop_dma();
            self.set_phase(Phase::Failed);
            for queue in queues.iter() {
                queue.gate.hold();
                queue.gate.set(State::Lost);
            }
        }
    }

    /// Takes the right to move data from the device.
    pub(crate) fn stop_dma(&self) {
        // SAFETY: an attached controller.
        if unsafe { sys::daos_spdk_set_dma(self.handle, false) } != 0 {
            tracing::error!(
                address = self.address,
                "cannot cut the device off from memory: it no longer answers at all"
            );
        }
    }

    /// Resets the controller. Every queue on it drains and waits for `reconnect`.
    pub(crate) fn reset(&self) -> Result<()> {
        let queues = lock(&self.queues);
        if self.phase() == Phase::Removed {
            return Err(Error::new(
                Status::DEVICE_GONE,
                format!("cannot reset {}", self.address),
            )
            .cause("the device was removed"));
        }
        self.announce(BdevEvent::RESET_BEGIN);
        for queue in queues.iter() {
            queue.gate.hold();
            if self.claim.is_some() {
                // On a fabric a queue is a connection, which the reset ends: `reconnect` makes another one.
                // SAFETY: the queue's thread is outside of its gate and stays there until the state is set below.
                unsafe { flight::retire(queue.flight, Status::RESET) };
            }
        }
        // SAFETY: an attached controller; no thread is inside the driver with a queue of it, since the
        // driver sets the queues up again from this thread.
        let outcome = unsafe {
            if self.phase() == Phase::Failed {
                sys::daos_spdk_set_dma(self.handle, true);
            }
            sys::daos_spdk_reset(self.handle)
        };
        let (phase, state) = if outcome == 0 {
            (Phase::Working, State::Drain)
        } else {
            (Phase::Failed, State::Lost)
        };
        if phase == Phase::Failed {
            self.stop_dma();
        }
        self.set_phase(phase);
        for queue in queues.iter() {
            queue.gate.set(state);
        }
        self.announce(BdevEvent::RESET_END);
        if outcome != 0 {
            return Err(Error::new(Status::IO, format!("cannot reset {}", self.address))
                .cause("the controller did not become ready again")
                .remedy("replace the device; its requests have ended and it can no longer reach memory"));
        }
        Ok(())
    }

    /// Admin completions, asynchronous events, removal.
    pub(crate) fn poll(&self) -> Result<(), Status> {
        if self.phase() == Phase::Removed {
            return Ok(());
        }
        // SAFETY: an attached controller.
        if unsafe { sys::daos_spdk_is_removed(self.handle) } {
            self.let_go();
            return Ok(());
        }
        // SAFETY: as above; the driver locks by itself.
        let outcome = unsafe { sys::spdk_nvme_ctrlr_process_admin_completions(self.handle) };
        if outcome < 0 && self.phase() == Phase::Working {
            Err(Status::IO)
        } else {
            Ok(())
        }
    }

    /// Gives a controller back that the kernel wants or that is gone: all that was under way ends, and the kernel,
    /// which waits for this, need not wait for the host to close what it has open.
    fn let_go(&self) {
        let queues = lock(&self.queues);
        // First: what a queue refuses while it is held, it refuses for this.
        self.set_phase(Phase::Removed);
        for queue in queues.iter() {
            queue.gate.hold();
            // SAFETY: the queue's thread is outside of its gate and stays there; the flight lives until
            // `close_queue`, which waits for the lock. Whether a device that is gone confirms is no matter: it
            // loses its mappings below.
            unsafe { flight::retire(queue.flight, Status::DEVICE_GONE) };
        }
        // SAFETY: attached in `attach`; no queue is left, and nobody uses the handle in this phase.
        unsafe { self.detach() };
        for queue in queues.iter() {
            queue.gate.set(State::Lost);
        }
        drop(queues);
        self.announce(BdevEvent::REMOVED);
    }

    /// # Safety
    /// Once; nothing uses the handle afterwards.
    unsafe fn detach(&self) {
        // SAFETY: the caller vouches for the handle.
        unsafe {
            sys::spdk_nvme_ctrlr_register_aer_callback(self.handle, None, std::ptr::null_mut());
            sys::spdk_nvme_detach(self.handle);
            sys::daos_spdk_sigbus_after();
        }
    }

    /// Asks the controller to abort the command whose callback argument is `task`; false if the
    /// driver has no room for that now.
    ///
    /// # Safety
    /// On the queue's thread; the task is outstanding on `qpair`.
    pub(crate) unsafe fn abort(&self, qpair: *mut sys::spdk_nvme_qpair, task: *mut c_void) -> bool {
        // SAFETY: the caller vouches for queue and task; the callback needs no argument.
        let code = unsafe {
            sys::spdk_nvme_ctrlr_cmd_abort_ext(
                self.handle,
                qpair,
                task,
                Some(ignore),
                std::ptr::null_mut(),
            )
        };
        // Any other refusal means that there is nothing to abort any more.
        code != -libc::ENOMEM
    }

    fn announce(&self, kind: u32) {
        lock(&self.listeners).retain(|listener| {
            let events = listener.upgrade();
            if let Some(events) = &events {
                events.push(kind, 0);
            }
            events.is_some()
        });
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.phase() != Phase::Removed {
            // SAFETY: attached in `attach`; devices and queues hold the controller alive, so none is left.
            unsafe { self.detach() };
        }
    }
}

unsafe extern "C" fn asynchronous_event(
    argument: *mut c_void,
    completion: *const sys::spdk_nvme_cpl,
) {
    // SAFETY: `attach` registered the controller, which takes the registration back before it goes.
    let controller = unsafe { &*argument.cast::<Attached>() };
    // SAFETY: the driver passes a completion.
    let notice = unsafe { sys::daos_spdk_notice(completion) };
    if matches!(
        notice,
        sys::daos_spdk_notice_DAOS_SPDK_NOTICE_HEALTH
            | sys::daos_spdk_notice_DAOS_SPDK_NOTICE_FAILURE
    ) {
        controller.announce(BdevEvent::HEALTH_CRITICAL);
    }
    // A changed namespace needs nothing here: devices compare their size at each `poll_admin`.
}

/// The aborted command's own completion tells how it ended.
unsafe extern "C" fn ignore(_argument: *mut c_void, _completion: *const sys::spdk_nvme_cpl) {}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
