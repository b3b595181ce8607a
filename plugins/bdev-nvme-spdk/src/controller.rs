//! An attached controller: admin work, reset, removal. Shared by the devices (namespaces) and queues on it.

use crate::gate::{Gate, State};
use crate::pci::{Identity, Namespace};
use crate::{env, sys};
use daos_plugin_api::abi::{BdevEvent, Status};
use daos_plugin_api::sdk::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Largest hardware queue we ask for; each entry costs 4 KiB of huge pages.
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

/// What the controller says about itself.
pub(crate) struct Info {
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) firmware: String,
    pub(crate) io_queues: u32,
    pub(crate) queue_depth: u32,
    pub(crate) numa_node: i32,
    pub(crate) volatile_cache: bool,
    /// Takes memory in pieces of any shape; otherwise pieces must be whole blocks.
    pub(crate) any_pieces: bool,
}

/// An attached controller.
pub(crate) struct Controller {
    handle: *mut sys::spdk_nvme_ctrlr,
    pub(crate) address: String,
    pub(crate) info: Info,
    /// Gates of the open queues. The lock also serialises reset, removal, opening and closing.
    gates: Mutex<Vec<Arc<Gate>>>,
    listeners: Mutex<Vec<Weak<Events>>>,
    phase: AtomicU8,
}

// SAFETY: the driver locks its controller structure by itself; calls that it wants serialised are
// made under `gates`.
unsafe impl Send for Controller {}
// SAFETY: as above.
unsafe impl Sync for Controller {}

impl Controller {
    /// Takes the controller at a PCI address. The environment runs already.
    pub(crate) fn attach(address: &str) -> Result<Arc<Self>> {
        let text = CString::new(address).map_err(|_| {
            Error::new(
                Status::INVALID,
                format!("PCI address {address:?} has a zero byte in it"),
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
            .remedy(format!(
                "check that {address} is an NVMe device bound to vfio-pci and not in use elsewhere"
            )));
        }
        // SAFETY: all members are plain data, for which zeroes are valid values.
        let mut raw: sys::daos_spdk_controller_info = unsafe { std::mem::zeroed() };
        // SAFETY: an attached controller and room for the answer.
        let outcome = unsafe { sys::daos_spdk_controller_info(handle, &mut raw) };
        if outcome != 0 {
            // SAFETY: attached above, nothing else refers to it.
            unsafe { sys::spdk_nvme_detach(handle) };
            return Err(
                Error::new(Status::IO, format!("controller {address} does not answer"))
                    .cause(std::io::Error::from_raw_os_error(-outcome).to_string()),
            );
        }
        let controller = Arc::new(Self {
            handle,
            address: address.to_owned(),
            info: Info {
                model: text_of(&raw.model),
                serial: text_of(&raw.serial),
                firmware: text_of(&raw.firmware),
                io_queues: raw.io_queues,
                queue_depth: raw.queue_entries.min(QUEUE_ENTRIES) - 1,
                numa_node: raw.numa_node,
                volatile_cache: raw.volatile_cache,
                any_pieces: raw.sgl,
            },
            gates: Mutex::new(Vec::new()),
            listeners: Mutex::new(Vec::new()),
            phase: AtomicU8::new(Phase::Working as u8),
        });
        let argument = Arc::as_ptr(&controller).cast_mut().cast();
        // SAFETY: the argument outlives the registration, which `drop` takes back.
        unsafe {
            sys::spdk_nvme_ctrlr_register_aer_callback(handle, Some(asynchronous_event), argument)
        };
        Ok(controller)
    }

    /// The namespace `id`, if it is active. The pointer is good as long as the controller is.
    pub(crate) fn namespace(&self, id: u32) -> Option<*mut sys::spdk_nvme_ns> {
        // SAFETY: an attached controller.
        let ns = unsafe {
            if !sys::spdk_nvme_ctrlr_is_active_ns(self.handle, id) {
                return None;
            }
            sys::spdk_nvme_ctrlr_get_ns(self.handle, id)
        };
        (!ns.is_null()).then_some(ns)
    }

    pub(crate) fn first_namespace(&self) -> u32 {
        // SAFETY: an attached controller.
        unsafe { sys::spdk_nvme_ctrlr_get_first_active_ns(self.handle) }
    }

    /// Who the controller is, and its active namespaces.
    pub(crate) fn identity(&self) -> Identity {
        let mut namespaces = Vec::new();
        let mut id = self.first_namespace();
        while id != 0 {
            if let Some(ns) = self.namespace(id) {
                let info = namespace_info(ns);
                namespaces.push(Namespace {
                    id,
                    bytes: info.blocks * u64::from(info.block_size),
                    block_size: info.block_size,
                    metadata: info.metadata_size,
                });
            }
            // SAFETY: an attached controller.
            id = unsafe { sys::spdk_nvme_ctrlr_get_next_active_ns(self.handle, id) };
        }
        Identity {
            model: self.info.model.clone(),
            serial: self.info.serial.clone(),
            firmware: self.info.firmware.clone(),
            namespaces,
        }
    }

    /// Its SMART / health information log page.
    pub(crate) fn health_page(&self) -> Result<[u8; sys::DAOS_SPDK_HEALTH_BYTES as usize]> {
        let mut page = [0; sys::DAOS_SPDK_HEALTH_BYTES as usize];
        // SAFETY: an attached controller and room for the page.
        let code = unsafe { sys::daos_spdk_health_page(self.handle, page.as_mut_ptr()) };
        if code != 0 {
            return Err(Error::io(
                format!("cannot read the health of {}", self.address),
                std::io::Error::from_raw_os_error(-code),
            ));
        }
        Ok(page)
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

    /// Opens a hardware queue for the calling thread and puts `gate` under this controller's control.
    pub(crate) fn open_queue(
        &self,
        depth: u32,
        gate: &Arc<Gate>,
    ) -> Result<*mut sys::spdk_nvme_qpair> {
        let mut gates = lock(&self.gates);
        let qpair = self.new_qpair(depth)?;
        gates.push(gate.clone());
        Ok(qpair)
    }

    /// A new hardware queue for one that was given back when the device was lost.
    pub(crate) fn replace_queue(&self, depth: u32) -> Result<*mut sys::spdk_nvme_qpair> {
        let _serial = lock(&self.gates);
        self.new_qpair(depth)
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
        // SAFETY: an attached controller.
        let qpair = unsafe { sys::daos_spdk_queue_open(self.handle, depth) };
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
    /// On the queue's thread; `qpair` (unless null) is open and not used again. Its completion
    /// callbacks run before this returns.
    pub(crate) unsafe fn close_queue(&self, qpair: *mut sys::spdk_nvme_qpair, gate: &Arc<Gate>) {
        let mut gates = lock(&self.gates);
        gates.retain(|g| !Arc::ptr_eq(g, gate));
        // SAFETY: the caller vouches for the queue.
        unsafe { self.free_qpair(qpair, &gates) };
    }

    /// Gives the hardware queue of a lost device back, ending what was outstanding on it.
    ///
    /// # Safety
    /// As for `close_queue`.
    pub(crate) unsafe fn retire_queue(&self, qpair: *mut sys::spdk_nvme_qpair) {
        // Not under the lock: the queue's thread is inside its gate, and a reset waits for that with the lock held.
        // SAFETY: the caller vouches for the queue.
        if unsafe { sys::spdk_nvme_ctrlr_free_io_qpair(qpair) } != 0 {
            self.stop_dma();
        }
    }

    unsafe fn free_qpair(
        &self,
        qpair: *mut sys::spdk_nvme_qpair,
        gates: &MutexGuard<'_, Vec<Arc<Gate>>>,
    ) {
        if qpair.is_null() {
            return;
        }
        // SAFETY: the caller vouches for the queue.
        if unsafe { sys::spdk_nvme_ctrlr_free_io_qpair(qpair) } != 0 {
            // The controller did not confirm the deletion and may still use the queue's memory.
            tracing::error!(
                address = self.address,
                "queue deletion not confirmed: device cut off from memory"
            );
            self.stop_dma();
            self.set_phase(Phase::Failed);
            for gate in gates.iter() {
                gate.hold();
                gate.set(State::Lost);
            }
        }
    }

    fn stop_dma(&self) {
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
        let gates = lock(&self.gates);
        if self.phase() == Phase::Removed {
            return Err(Error::new(
                Status::DEVICE_GONE,
                format!("cannot reset {}", self.address),
            )
            .cause("the device was removed"));
        }
        self.announce(BdevEvent::RESET_BEGIN);
        for gate in gates.iter() {
            gate.hold();
        }
        // SAFETY: an attached controller; no thread is inside the driver with a queue of it, since the
        // driver sets the queues up again from this thread.
        let outcome = unsafe {
            if self.phase() == Phase::Failed {
                sys::daos_spdk_set_dma(self.handle, true);
            }
            sys::spdk_nvme_ctrlr_reset(self.handle)
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
        for gate in gates.iter() {
            gate.set(state);
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
            let gates = lock(&self.gates);
            self.set_phase(Phase::Removed);
            for gate in gates.iter() {
                gate.hold();
                gate.set(State::Lost);
            }
            self.announce(BdevEvent::REMOVED);
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

impl Drop for Controller {
    fn drop(&mut self) {
        // SAFETY: attached in `attach`; devices and queues hold the controller alive, so none is left.
        unsafe {
            sys::spdk_nvme_ctrlr_register_aer_callback(self.handle, None, std::ptr::null_mut());
            sys::spdk_nvme_detach(self.handle);
            sys::daos_spdk_sigbus_after();
        }
    }
}

/// What the driver knows of a namespace, which belongs to an attached controller.
pub(crate) fn namespace_info(ns: *mut sys::spdk_nvme_ns) -> sys::daos_spdk_namespace_info {
    // SAFETY: all members are plain data, for which zeroes are valid values.
    let mut info = unsafe { std::mem::zeroed() };
    // SAFETY: the caller got the namespace from its controller; there is room for the answer.
    unsafe { sys::daos_spdk_namespace_info(ns, &mut info) };
    info
}

unsafe extern "C" fn asynchronous_event(
    argument: *mut c_void,
    completion: *const sys::spdk_nvme_cpl,
) {
    // SAFETY: `attach` registered the controller, which takes the registration back before it goes.
    let controller = unsafe { &*argument.cast::<Controller>() };
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

fn text_of(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|c| *c as u8).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map(|text| text.to_string_lossy().trim().to_owned())
        .unwrap_or_default()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The controllers that are attached, by address: devices on one controller share it.
#[derive(Default)]
pub(crate) struct Controllers(Mutex<HashMap<String, Weak<Controller>>>);

impl Controllers {
    /// The controller at `address`, attached now unless it is; see [`env::start`] for `memory_mib`.
    pub(crate) fn attach(&self, address: &str, memory_mib: u32) -> Result<Arc<Controller>> {
        // Held all the time: one is attached at a time.
        let mut controllers = lock(&self.0);
        if let Some(controller) = controllers.get(address).and_then(Weak::upgrade) {
            return Ok(controller);
        }
        env::start(memory_mib)?;
        let controller = Controller::attach(address)?;
        controllers.insert(address.to_owned(), Arc::downgrade(&controller));
        Ok(controller)
    }
}
