//! A client and its connection.

use crate::call::{Call, Core};
use crate::driver::Driver;
use crate::error::Error;
use crate::locate::Locator;
use crate::retry::Patience;
use crate::sequence::Sequences;
use crate::{Container, Options};
use daos_wire::Opcode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// How long an interface that the plugin chose has to prove itself.
const CHOICE: Duration = Duration::from_secs(3);

/// A client of one engine; clones share its connection. Usable from any task of a tokio runtime
/// with time and network enabled. The connection ends with the last clone and container.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
}

/// One target of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    /// Its number.
    pub target: u32,
    /// Bytes of its share of the block device.
    pub total: u64,
    /// Bytes free of them.
    pub free: u64,
}

impl Client {
    /// Finds the engine, opens the fabric, and asks the engine whether it is there.
    ///
    /// # Errors
    /// The control plane cannot be reached or knows no engine, the fabric plugin is missing or
    /// fails, or the engine does not answer within the deadline.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let started = Instant::now();
        loop {
            let left = options.deadline.saturating_sub(started.elapsed());
            // Where the plugin chose the interface, it may choose better once more are up.
            let chosen = options.interface.is_empty();
            let limit = if chosen { left.min(CHOICE) } else { left };
            let client = Self::open(&options).await?;
            match client.query_target(0, limit).await {
                Ok(_) => return Ok(client),
                Err(Error::TimedOut { .. }) if left > limit => {}
                Err(Error::TimedOut {
                    operation, last, ..
                }) if chosen => {
                    return Err(Error::TimedOut {
                        operation,
                        after: started.elapsed(),
                        last: format!(
                            "{last} from the interface that the fabric plugin chose; try another one (--interface)"
                        ),
                    });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the engine and opens the fabric.
    async fn open(options: &Options) -> Result<Self, Error> {
        let locator = Locator::new(options).await?;
        let client = Uuid::new_v4();
        let started = Driver::start(
            options.progress,
            locator.view().provider.clone(),
            options.interface.clone(),
            options.plugins_dir.clone(),
            client,
        )
        .await?;
        let core = Core {
            driver: started.driver,
            locator,
            pool: started.pool,
            client,
            address: started.address,
            sequences: Sequences::new(),
            permits: Semaphore::new(options.in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            deadline: options.deadline,
            attempt: options.attempt,
        };
        Ok(Self {
            core: Arc::new(core),
        })
    }

    /// The number by which the engine knows this client.
    pub fn uuid(&self) -> Uuid {
        self.core.client
    }

    /// Targets of the engine, as last found.
    pub fn targets(&self) -> u32 {
        self.core.locator.view().targets.len() as u32
    }

    /// A container by its UUID and its pool's. Nothing is asked of the engine: if they do not exist, the
    /// first request says so. See [`Client::pool`] for labels.
    pub fn container(&self, pool: Uuid, container: Uuid) -> Container {
        Container::new(self.clone(), pool, container)
    }

    /// Asks every target how full it is.
    ///
    /// # Errors
    /// The first target that does not answer well.
    pub async fn query(&self) -> Result<Vec<TargetInfo>, Error> {
        let mut all = Vec::new();
        for target in 0..self.targets() {
            all.push(self.query_target(target, self.core.deadline).await?);
        }
        Ok(all)
    }

    async fn query_target(&self, target: u32, limit: Duration) -> Result<TargetInfo, Error> {
        let mut call = Call::new(Opcode::Query);
        call.target = Some(target);
        let mut patience = Patience::new(limit);
        let answered = self.core.call(&call, 0, &mut patience).await?;
        let answer = answered.answer;
        let known = self.targets();
        if (answer.count, answer.targets) != (target, known) {
            return Err(Error::Protocol {
                operation: call.operation(),
                target,
                cause: format!(
                    "it says that it is target {} of {}, its address is that of target {target} of {known}",
                    answer.count, answer.targets
                ),
            });
        }
        Ok(TargetInfo {
            target,
            total: answer.total,
            free: answer.free,
        })
    }
}
