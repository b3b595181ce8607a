//! Doing a format. The order makes every interruption harmless: the old superblock goes first, the
//! new one comes last, and nothing starts without one.

use super::layout::Tier;
use super::plan::{EnginePlan, Plan};
use crate::engine::{Start, Supervisor};
use crate::plugins::{Plugins, Trouble};
use crate::state::{State, hostname, now_ms};
use daos_config::EngineConfFormat;
use daos_helper::{LabelRequest, MountFile};
use daos_media::device_config::{self, DeviceConfig, Options};
use daos_media::label::Layout as LabelLayout;
use daos_media::steps;
use daos_media::superblock::{self, Superblock};
use daos_plugin_api::abi::Status as Code;
use daos_plugin_api::control::{DeviceSpec, DeviceState, FormatRequest};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{
    EngineStarted, EngineState, Fault, FormatPhase, FormatProgress, FormatResult,
    FormatStorageEvent, FormatSummary, FormatTarget, format_storage_event::Event,
};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tonic::Status;
use tracing::{error, info};
use uuid::Uuid;

/// Where events of a format go; a client that went away does not stop the format.
#[derive(Clone)]
pub(crate) struct Events {
    sender: mpsc::UnboundedSender<Result<FormatStorageEvent, Status>>,
}

impl Events {
    /// Sends events into a stream.
    pub(crate) fn new(sender: mpsc::UnboundedSender<Result<FormatStorageEvent, Status>>) -> Self {
        Self { sender }
    }

    /// Sends one event.
    pub(crate) fn send(&self, event: Event) {
        // Nobody listens any more: the log has it.
        let _ = self.sender.send(Ok(FormatStorageEvent {
            time_ms: now_ms(),
            event: Some(event),
        }));
    }

    fn progress(
        &self,
        target: &FormatTarget,
        phase: FormatPhase,
        done: u64,
        total: u64,
        message: &str,
    ) {
        self.send(Event::Progress(FormatProgress {
            target: Some(target.clone()),
            phase: phase.into(),
            done,
            total,
            unit: String::new(),
            message: message.to_owned(),
        }));
    }
}

/// Formats what the plan names, engine by engine, and starts each engine that is complete.
pub(crate) async fn execute(
    plugins: &Plugins,
    state: &Arc<State>,
    supervisors: &[Supervisor],
    plan: Plan,
    events: &Events,
) {
    let mut summary = FormatSummary::default();
    for engine in plan.engines {
        let targets: Vec<FormatTarget> = plan
            .message
            .targets
            .iter()
            .filter_map(|t| t.target.clone())
            .filter(|t| t.engine as usize == engine.index)
            .collect();
        let index = engine.index;
        state.update(index, |e| {
            e.enter(EngineState::Formatting, "its storage is being formatted")
        });
        let mut run = Run {
            plugins,
            state,
            events,
            targets,
            engine,
            done: 0,
            summary: &mut summary,
        };
        match run.format().await {
            Ok((superblock, start)) => {
                state.update(index, |e| {
                    e.uuid = superblock.uuid.to_string();
                    e.rank = superblock.rank;
                });
                info!(engine = index, uuid = %superblock.uuid, "storage formatted");
                steps::reached("formatted");
                match supervisors[index].start(start).await {
                    Ok(pid) => {
                        summary.engines_started += 1;
                        let uuid = superblock.uuid.to_string();
                        events.send(Event::EngineStarted(EngineStarted {
                            engine: index as u32,
                            uuid,
                            pid,
                        }));
                    }
                    Err(why) => {
                        let fault = Fault::new(
                            ResponseStatus::CtlErrApp,
                            "server",
                            0,
                            format!("engine {index} could not be started on its new storage"),
                            why,
                            "see the server's log",
                        );
                        summary.fault.get_or_insert(fault);
                    }
                }
            }
            Err(fault) => {
                error!(engine = index, "format failed: {fault}");
                state.update(index, |e| {
                    e.enter(
                        EngineState::AwaitFormat,
                        format!("the last format failed: {}", fault.description()),
                    );
                    e.hint =
                        "mend the cause, then: daos_shell storage format --reformat".to_owned();
                    e.fault = Some((*fault).clone());
                });
                summary.fault.get_or_insert(*fault);
            }
        }
    }
    plugins.rest().await;
    events.send(Event::Summary(summary));
}

/// The format of one engine.
struct Run<'a> {
    plugins: &'a Plugins,
    state: &'a Arc<State>,
    events: &'a Events,
    /// SCM first, then block devices in order.
    targets: Vec<FormatTarget>,
    engine: EnginePlan,
    /// Targets that have a result.
    done: usize,
    summary: &'a mut FormatSummary,
}

impl Run<'_> {
    async fn format(&mut self) -> Result<(Superblock, Start), Trouble> {
        let result = self.steps().await;
        if let Err(fault) = &result {
            self.give_up(fault);
        }
        result
    }

    async fn steps(&mut self) -> Result<(Superblock, Start), Trouble> {
        let index = self.engine.index;
        let config = &self.state.config;
        let uuid = Uuid::new_v4();
        let generation = now_ms();
        self.format_scm().await?;
        let mut recorded = Vec::new();
        let mut configured = Vec::new();
        if let Some(tier) = self.engine.layout.bdev.clone() {
            for (position, device) in tier.devices.iter().enumerate() {
                let made = self
                    .format_bdev(&tier, device, position, uuid, generation)
                    .await?;
                configured.push(self.engine_device(&tier, device, &made));
                recorded.push(made);
            }
        }
        if !recorded.is_empty() {
            self.events
                .progress(&self.targets[0], FormatPhase::Config, 0, 1, "");
            let list = DeviceConfig {
                devices: configured,
            };
            let text = match config.engine_conf_format {
                EngineConfFormat::Json => list.render(&Options::default()),
                EngineConfFormat::Text => list.render_text(&hostname()).map_err(|why| {
                    broken("engine_conf_format text is not for these devices", why)
                })?,
            };
            self.write_file(MountFile::DeviceConfig, text).await?;
            steps::reached("devices-listed");
        }
        self.events
            .progress(&self.targets[0], FormatPhase::Superblock, 0, 1, "");
        let superblock = Superblock {
            version: superblock::VERSION,
            uuid,
            system: config.name.clone(),
            // A wish until the engine has joined; another server gives its system's ranks out.
            rank: match self.state.membership.here() {
                Some(_) => Some(config.servers[index].rank.unwrap_or(index as u32)),
                None => config.servers[index].rank,
            },
            uri: String::new(),
            validrank: self.state.membership.here().is_some(),
            hostfaultdomain: self.state.fault_domain.clone(),
            incarnation: 0,
            generation,
            immutable: self.engine.layout.immutable.clone(),
            devices: recorded,
        };
        let text = superblock
            .encode(&self.engine.layout.superblock())
            .map_err(|e| broken("cannot write the superblock", e.to_string()))?;
        self.write_file(MountFile::Superblock, text).await?;
        self.events
            .progress(&self.targets[0], FormatPhase::Start, 1, 1, "");
        let fabric = self.engine.fabric.as_ref();
        let fabric = fabric.ok_or_else(|| broken("the engine has no fabric", String::new()))?;
        Ok((superblock, self.engine.layout.start(true, fabric)))
    }

    async fn format_scm(&mut self) -> Result<(), Trouble> {
        let begun = Instant::now();
        let target = self.targets[0].clone();
        let tier = self.engine.layout.scm.clone();
        let device = &tier.devices[0];
        if device.state == DeviceState::Present {
            // Without its superblock the old format is over, whatever happens next.
            self.events
                .progress(&target, FormatPhase::Invalidate, 0, 1, "");
            if self.plugins.mount(&tier.plugin, device).await? {
                self.plugins
                    .remove_mount_file(&tier.plugin, device, MountFile::Superblock)
                    .await?;
            }
            steps::reached("invalidated");
        }
        let notes = self
            .call_format(&tier, device, &target, FormatPhase::Scm)
            .await?;
        steps::reached("scm-formatted");
        if !self.plugins.mount(&tier.plugin, device).await? {
            return Err(broken(
                "the SCM is not mounted after its format",
                device.address.clone(),
            ));
        }
        steps::reached("scm-mounted");
        self.succeeded(target, begun, notes, String::new());
        Ok(())
    }

    async fn format_bdev(
        &mut self,
        tier: &Tier,
        device: &DeviceSpec,
        position: usize,
        engine: Uuid,
        generation: u64,
    ) -> Result<superblock::Device, Trouble> {
        let begun = Instant::now();
        let target = self.targets[position + 1].clone();
        let notes = self
            .call_format(tier, device, &target, FormatPhase::Bdev)
            .await?;
        steps::reached("bdev-formatted");
        let found = self.plugins.inspect(&tier.plugin, device).await?;
        // A device that cannot carry a label is refused here, also when the engine would write it.
        LabelLayout::of(found.blocks, found.block_size)
            .map_err(|e| broken(&format!("{} cannot be used", device.address), e.to_string()))?;
        let made = superblock::Device {
            index: device.index,
            label: Uuid::new_v4(),
            class: tier.class.clone(),
            address: device.address.clone(),
            block_size: found.block_size,
            blocks: found.blocks,
            volatile: tier.ephemeral,
        };
        if !tier.ephemeral {
            self.events.progress(&target, FormatPhase::Label, 0, 1, "");
            let label = LabelRequest {
                engine,
                generation,
                index: made.index,
                count: tier.devices.len() as u32,
                device: made.label,
                created: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |d| d.as_secs()),
            };
            self.plugins
                .write_label(&tier.plugin, device, label)
                .await?;
            steps::reached("labelled");
        }
        self.succeeded(target, begun, notes, made.label.to_string());
        Ok(made)
    }

    async fn write_file(&self, file: MountFile, text: String) -> Result<(), Trouble> {
        let tier = &self.engine.layout.scm;
        self.plugins
            .write_mount_file(&tier.plugin, &tier.devices[0], file, text)
            .await
    }

    async fn call_format(
        &self,
        tier: &Tier,
        device: &DeviceSpec,
        target: &FormatTarget,
        phase: FormatPhase,
    ) -> Result<Vec<String>, Trouble> {
        self.events.progress(target, phase, 0, 0, "");
        let request = FormatRequest {
            device: device.clone(),
            overwrite_foreign: self.engine.overwrite_foreign,
            nvme_format: phase == FormatPhase::Bdev && self.engine.nvme_format,
            check_only: false,
        };
        let (events, target) = (self.events.clone(), target.clone());
        let progress =
            move |done, total, what: &str| events.progress(&target, phase, done, total, what);
        match self.plugins.format(&tier.plugin, &request, progress).await {
            Ok(report) => Ok(report.notes),
            // Its contents are gone whenever a process opens it: there is nothing to erase.
            Err((Code::NOT_SUPPORTED, _)) if tier.ephemeral && phase == FormatPhase::Bdev => {
                Ok(Vec::new())
            }
            Err((_, fault)) => Err(fault),
        }
    }

    fn engine_device(
        &self,
        tier: &Tier,
        device: &DeviceSpec,
        made: &superblock::Device,
    ) -> device_config::Device {
        device_config::Device {
            index: made.index,
            class: tier.class.clone(),
            plugin: tier.plugin.name().to_owned(),
            address: device.address.clone(),
            name: device_config::Device::name_of(&tier.class, &hostname(), made.index, 1, 0),
            tier: 1,
            role_bits: 0,
            block_size: made.block_size,
            blocks: made.blocks,
            size_bytes: made.blocks * u64::from(made.block_size),
            label: made.label,
            volatile: made.volatile,
            settings: device.config.clone(),
        }
    }

    fn succeeded(
        &mut self,
        target: FormatTarget,
        begun: Instant,
        notes: Vec<String>,
        label_uuid: String,
    ) {
        self.done += 1;
        self.summary.succeeded += 1;
        self.events.send(Event::Result(FormatResult {
            target: Some(target),
            status: ResponseStatus::CtlSuccess.into(),
            fault: None,
            info: notes.join("; "),
            label_uuid,
            elapsed_ms: begun.elapsed().as_millis() as u64,
        }));
    }

    /// Reports the failure for the target at hand, and that the others were not tried.
    fn give_up(&mut self, fault: &Fault) {
        for (position, target) in self.targets.iter().enumerate().skip(self.done) {
            let first = position == self.done;
            let (status, fault) = match first {
                true => (fault.status, Some(fault.clone())),
                false => (ResponseStatus::CtlWaiting.into(), None),
            };
            match first {
                true => self.summary.failed += 1,
                false => self.summary.skipped += 1,
            }
            self.events.send(Event::Result(FormatResult {
                target: Some(target.clone()),
                status,
                info: if first {
                    String::new()
                } else {
                    "not tried".to_owned()
                },
                fault,
                ..FormatResult::default()
            }));
        }
    }
}

fn broken(what: &str, cause: String) -> Trouble {
    Box::new(Fault::new(
        ResponseStatus::CtlErrApp,
        "storage",
        0,
        what,
        cause,
        "mend the cause and format again",
    ))
}
