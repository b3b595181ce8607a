//! A wrapped memory disk and a way to write to it without FUA.

use bdev_malloc::BdevMalloc;
use crash_images::{Crash, Power, Tear};
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status};
use daos_plugin_api::control::{ClassRequest, DeviceSpec};
use daos_plugin_api::host::{
    BdevDevice, BdevQueue, CallOptions, Instance, InstanceOptions, SyncBdev,
};
use daos_plugin_api::sdk::thunks;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) struct Bed {
    pub(crate) power: Power,
    pub(crate) instance: Instance,
    spec: DeviceSpec,
    _crash: Crash,
}

impl Bed {
    pub(crate) fn new(tear: Tear) -> Self {
        let power = Power::on();
        let crash = Crash::wrap(thunks::table::<BdevMalloc>(), &power, tear).expect("wrapped");
        let instance =
            Instance::create(crash.table(), InstanceOptions::built_in()).expect("instance");
        let Value::Object(config) = json!({"bdev_number": 1, "bdev_size_mib": 4}) else {
            unreachable!("an object literal")
        };
        let request = ClassRequest {
            class: "malloc".into(),
            config,
        };
        let spec = instance
            .devices(&request, CallOptions::default())
            .expect("devices")
            .remove(0);
        Self {
            power,
            instance,
            spec,
            _crash: crash,
        }
    }

    pub(crate) fn open(&self) -> Disk {
        let device = self.instance.open_bdev(&self.spec, CallOptions::default());
        let device = device.expect("open");
        let queue = device
            .open_queue(16, CallOptions::default())
            .expect("queue");
        Disk { queue, device }
    }

    /// Byte `at` of each block, as a fresh opener sees them.
    pub(crate) fn blocks(&self, count: usize) -> Vec<Vec<u8>> {
        let disk = self.open();
        let block = disk.block();
        let mut sync = SyncBdev::new(&disk.device, Duration::from_secs(5)).expect("queue");
        let mut all = vec![0; count * block];
        sync.read(0, &mut all).expect("read");
        all.chunks(block).map(<[u8]>::to_vec).collect()
    }
}

pub(crate) struct Disk {
    queue: BdevQueue,
    device: BdevDevice,
}

/// A request to run: operation, flags, first block, data.
pub(crate) type Step<'a> = (BdevOp, u8, u64, &'a [u8]);

impl Disk {
    pub(crate) fn block(&self) -> usize {
        self.device.geometry().block_size as usize
    }

    pub(crate) fn device(&self) -> &BdevDevice {
        &self.device
    }

    /// Submits all steps at once and polls up to `poll` completions.
    pub(crate) fn batch(&mut self, steps: &[Step<'_>], poll: usize) -> Vec<Status> {
        let block = self.block();
        let mut data: Vec<Vec<u8>> = steps.iter().map(|s| s.3.to_vec()).collect();
        let iovs: Vec<IoVec> = data
            .iter_mut()
            .map(|d| IoVec {
                ptr: d.as_mut_ptr(),
                len: d.len(),
            })
            .collect();
        let requests: Vec<Request> = steps
            .iter()
            .zip(&iovs)
            .enumerate()
            .map(|(n, (step, iov))| Request {
                op: step.0,
                flags: step.1,
                reserved: 0,
                // Write-zeroes takes no data; here its length tells the blocks.
                iov_count: u32::from(!step.3.is_empty() && step.0 != BdevOp::WRITE_ZEROES),
                lba: step.2,
                blocks: (step.3.len() / block) as u64,
                iov,
                tag: n as u64,
                scratch: std::ptr::null_mut(),
            })
            .collect();
        // SAFETY: the wrapped queue reads the memory while it takes the requests, all of which
        // it takes; `data` and `iovs` live beyond that.
        let taken = unsafe { self.queue.submit(&requests) }.expect("submit");
        assert_eq!(taken, requests.len());
        let empty = Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0,
        };
        let mut done = vec![empty; poll.min(taken)];
        let n = self.queue.poll(&mut done).expect("poll");
        done[..n].iter().map(|c| c.status).collect()
    }

    pub(crate) fn write(&mut self, lba: u64, fill: u8) {
        let data = vec![fill; self.block()];
        assert_eq!(
            self.batch(&[(BdevOp::WRITE, 0, lba, &data)], 1),
            [Status::OK]
        );
    }

    pub(crate) fn write_fua(&mut self, lba: u64, fill: u8) {
        let data = vec![fill; self.block()];
        let step = (BdevOp::WRITE, Request::FUA, lba, &data[..]);
        assert_eq!(self.batch(&[step], 1), [Status::OK]);
    }

    pub(crate) fn flush(&mut self) {
        assert_eq!(self.batch(&[(BdevOp::FLUSH, 0, 0, &[])], 1), [Status::OK]);
    }
}
