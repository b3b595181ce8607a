//! Going over to a queue with other layers.

use super::Device;
use daos_plugin_api::host::{BdevDevice, CallOptions};

impl Device {
    /// Goes over to a queue of `device`, which is the same one with other layers, as soon as nothing is outstanding.
    pub fn change(&mut self, device: BdevDevice) {
        self.next = Some(device);
    }

    /// How a change that has ended went; told once.
    pub fn changed(&mut self) -> Option<Result<(), String>> {
        self.changed.take()
    }

    /// With nothing outstanding: opens the queue.
    pub(super) fn go_over(&mut self) {
        let Some(device) = self.next.take() else {
            return;
        };
        // The old one stays open until the new one is, if the device has a queue to spare: a change that fails
        // changes nothing then.
        self.changed = Some(match self.open(&device) {
            Ok(()) => Ok(()),
            Err(_) => self.reopen(&device),
        });
    }

    fn open(&mut self, device: &BdevDevice) -> Result<(), String> {
        let depth = self.slots.len() as u32; // as it was given
        let queue = device.open_queue(depth, CallOptions::default());
        self.queue = Some(queue.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Opens the queue in the place of the old one, which is opened again if that does not help.
    fn reopen(&mut self, device: &BdevDevice) -> Result<(), String> {
        let old = self.queue.take().map(|queue| queue.device().clone());
        let Err(why) = self.open(device) else {
            return Ok(());
        };
        match old.map(|old| self.open(&old)) {
            Some(Ok(())) => Err(why),
            Some(Err(worse)) => Err(format!(
                "{why}; its old queue cannot be opened again either ({worse}), so the target fails"
            )),
            None => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Share;
    use super::*;
    use daos_plugin_api::abi::{BdevGeometry, Completion, Request, Status, Wait};
    use daos_plugin_api::host::{Instance, InstanceOptions};
    use daos_plugin_api::sdk::{Bdev, BdevQueue, CallContext, Error, Result};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A device of which so many queues can be open at a time.
    struct Narrow {
        most: Arc<AtomicU32>,
        open: Arc<AtomicU32>,
    }

    struct Queue(Arc<AtomicU32>);

    impl Drop for Queue {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Bdev for Narrow {
        type Queue = Queue;

        fn geometry(&self) -> BdevGeometry {
            BdevGeometry {
                block_size: 4096,
                buffer_alignment: 1,
                block_count: 1024,
                max_transfer_blocks: 16,
                max_segments: 1,
                atomic_write_blocks: 1,
                deallocate_granularity: 0,
                max_queues: 1,
                max_queue_depth: 32,
                scratch_size: 0,
                numa_node: -1,
                admin_poll_us: 0,
                reserved: 0,
                flags: 0,
            }
        }

        fn open_queue(&self, _: CallContext<'_>, _: u32) -> Result<Queue> {
            if self.open.fetch_add(1, Ordering::SeqCst) >= self.most.load(Ordering::SeqCst) {
                self.open.fetch_sub(1, Ordering::SeqCst);
                return Err(Error::new(Status::BUSY, "every queue is taken"));
            }
            Ok(Queue(Arc::clone(&self.open)))
        }
    }

    impl BdevQueue for Queue {
        unsafe fn submit(&mut self, _: &[Request]) -> Result<usize, Status> {
            Ok(0)
        }

        fn poll(&mut self, _: &mut [Completion]) -> Result<usize, Status> {
            Ok(0)
        }

        fn arm_wait(&mut self) -> Wait {
            Wait::BUSY
        }
    }

    #[test]
    fn layers_change_without_a_queue_to_spare() {
        let builtin = daos_builtins::all().into_iter().next().expect("a built-in");
        let instance = Instance::create((builtin.table)(), InstanceOptions::built_in()).unwrap();
        let (most, open) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
        let device = || {
            let narrow = Narrow {
                most: Arc::clone(&most),
                open: Arc::clone(&open),
            };
            BdevDevice::layered(&instance, narrow).unwrap()
        };
        let queue = device().open_queue(32, CallOptions::default()).unwrap();
        let share = Share {
            start: 0,
            units: 1,
            unit: 4096,
        };
        let mut target = Device::new(queue, share, 32);
        let mut change = || {
            target.change(device());
            assert!(target.is_busy());
            let polled = target.poll(&mut Vec::new());
            (
                target.changed().expect("it was tried"),
                polled,
                target.arm_wait().is_ok(),
            )
        };
        assert_eq!(change(), (Ok(()), Ok(()), true));
        assert_eq!(open.load(Ordering::SeqCst), 1, "the old one is closed");
        // The device gives none any more, not even the old one.
        most.store(0, Ordering::SeqCst);
        let (result, _, works) = change();
        assert!(result.unwrap_err().contains("the target fails"));
        assert!(!works);
        most.store(1, Ordering::SeqCst);
        assert_eq!(change(), (Ok(()), Ok(()), true));
    }
}
