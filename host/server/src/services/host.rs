//! `daos_host.v1.HostSvc`: administration of this host.

use crate::burnin::Burnins;
use crate::engine::Supervisor;
use crate::generate::Proposal;
use crate::launch;
use crate::network;
use crate::plugins::Plugins;
use crate::pools::Pools;
use crate::responder::{self, Responders};
use crate::scan;
use crate::state::State;
use crate::storage::{self, Events};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::format_storage_event::Event;
use daos_proto::host::host_svc_server::HostSvc;
use daos_proto::host::{
    EngineStopped, Fault, FormatStorageEvent, FormatStorageRequest, NetworkScanRequest,
    NetworkScanResponse, OpenResponderRequest, PluginListRequest, PluginListResponse,
    PoolSpaceRequest, PoolSpaceResponse, ServerStateRequest, ServerStateResponse, StartRequest,
    StartResponse, StopRequest, StopResponse, StorageScanDetailRequest, StorageScanDetailResponse,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status};

/// How long an engine may take to stop when the caller does not say.
const DEFAULT_GRACE: Duration = Duration::from_secs(20);

/// The host's own service.
pub(crate) struct HostService {
    inner: Arc<Inner>,
}

/// What changes engines and their storage, one thing at a time.
pub(crate) struct Inner {
    pub(super) state: Arc<State>,
    plugins: Arc<Plugins>,
    pub(super) supervisors: Vec<Supervisor>,
    pools: Arc<Pools>,
    burnins: Arc<Burnins>,
    responders: Responders,
    /// Held while a format runs, from its plan to its end.
    formatting: Mutex<()>,
}

impl HostService {
    pub(crate) fn new(
        state: Arc<State>,
        plugins: Arc<Plugins>,
        supervisors: Vec<Supervisor>,
        pools: Arc<Pools>,
        burnins: Arc<Burnins>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                state,
                plugins,
                supervisors,
                pools,
                burnins,
                responders: Responders::new(),
                formatting: Mutex::new(()),
            }),
        }
    }
}

impl HostService {
    /// What other services share with this one.
    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }
}

impl Inner {
    /// The engines of a request, all if it names none.
    fn engines(&self, named: Vec<u32>) -> Result<Vec<u32>, Status> {
        let count = self.supervisors.len();
        if let Some(index) = named.iter().find(|i| **i as usize >= count) {
            let what = format!("there is no engine {index}");
            return Err(refused(&what, "", "ask `system query` for the engines").to_status());
        }
        Ok(match named.is_empty() {
            true => (0..count as u32).collect(),
            false => named,
        })
    }

    /// Held while something is done that no format may be beside of.
    ///
    /// # Errors
    /// A format runs.
    pub(super) fn alone(&self) -> Result<MutexGuard<'_, ()>, Status> {
        let refused = |_| refused("a format is running", "", "wait for its end").to_status();
        self.formatting.try_lock().map_err(refused)
    }

    pub(super) fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// Starts engines that do not run, and waits for what becomes of them.
    pub(super) async fn start(&self, engines: Vec<u32>) -> Result<StartResponse, Status> {
        let _alone = self.formatting.try_lock().map_err(|_| {
            refused(
                "a format is running",
                "",
                "it starts the engines at its end",
            )
            .to_status()
        })?;
        let mut results = Vec::new();
        for index in engines.iter().map(|index| *index as usize) {
            let supervisor = &self.supervisors[index];
            if launch::may_start(self.state.engine(index).state) {
                let _way = self.burnins.make_way(&[index]).await;
                launch::start_engine(&self.state, &self.plugins, supervisor, index).await;
            }
        }
        self.plugins.rest().await;
        for index in engines {
            results.push(launch::outcome(&self.state, index as usize).await);
        }
        Ok(StartResponse { results })
    }

    /// Plans and, unless only the plan is wanted, formats. Runs to its end also when the client
    /// goes away.
    pub(super) async fn format(
        &self,
        request: FormatStorageRequest,
        events: Events,
    ) -> Result<(), Box<Fault>> {
        let _running = self.formatting.try_lock().map_err(|_| {
            refused(
                "a format is running already",
                "",
                "wait for its end, then ask `system query`",
            )
        })?;
        let plan = || storage::plan(&self.plugins, &self.state, &self.burnins, &request);
        let mut planned = plan().await?;
        let proposal = self.state.proposal();
        planned.message.proposed = proposal.map(Proposal::to_message);
        events.send(Event::Plan(planned.message.clone()));
        if request.plan_only {
            return Ok(());
        }
        if !request.plan_id.is_empty() && request.plan_id != planned.message.plan_id {
            return Err(refused(
                "the storage is not what it was when the plan was made",
                "something changed between the plan and the format",
                "look at the new plan and decide again",
            ));
        }
        if let Some(first) = planned.refusal() {
            return Err(Box::new(first.clone()));
        }
        if let Some(refused) = proposal.and_then(|p| p.refusal(&request.accept_plan)) {
            return Err(Box::new(refused));
        }
        let way = self.burnins.make_way(&planned.engines()).await;
        if way.stopped() {
            // Devices that a burn-in had could not be looked at before.
            planned = plan().await?;
            if let Some(first) = planned.refusal() {
                return Err(Box::new(first.clone()));
            }
        }
        // Before the first byte is written: whatever interrupts the format, these engines are the ones to go on with.
        if let Some(proposal) = proposal {
            proposal.accept()?;
        }
        storage::execute(
            &self.plugins,
            &self.state,
            &self.supervisors,
            planned,
            &events,
        )
        .await;
        Ok(())
    }
}

fn refused(what: &str, cause: &str, remedy: &str) -> Box<Fault> {
    Box::new(Fault::new(
        ResponseStatus::CtlErrApp,
        "server",
        0,
        what,
        cause,
        remedy,
    ))
}

#[tonic::async_trait]
impl HostSvc for HostService {
    type FormatStorageStream = UnboundedReceiverStream<Result<FormatStorageEvent, Status>>;

    async fn format_storage(
        &self,
        request: Request<FormatStorageRequest>,
    ) -> Result<Response<Self::FormatStorageStream>, Status> {
        let (sender, events) = mpsc::unbounded_channel();
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            if let Err(fault) = inner
                .format(request.into_inner(), Events::new(sender.clone()))
                .await
            {
                // Nobody listens any more if this fails.
                let _ = sender.send(Err(fault.to_status()));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(events)))
    }

    async fn plugin_list(
        &self,
        _: Request<PluginListRequest>,
    ) -> Result<Response<PluginListResponse>, Status> {
        Ok(Response::new(
            self.inner.plugins.list_message(&self.inner.state.config),
        ))
    }

    async fn storage_scan_detail(
        &self,
        request: Request<StorageScanDetailRequest>,
    ) -> Result<Response<StorageScanDetailResponse>, Status> {
        Ok(Response::new(
            scan::scan(
                &self.inner.plugins,
                Some(&self.inner.state),
                request.get_ref(),
            )
            .await,
        ))
    }

    async fn network_scan(
        &self,
        request: Request<NetworkScanRequest>,
    ) -> Result<Response<NetworkScanResponse>, Status> {
        let config = &self.inner.state.config;
        Ok(Response::new(
            network::scan(&self.inner.plugins, config, request.get_ref()).await,
        ))
    }

    async fn server_state(
        &self,
        _: Request<ServerStateRequest>,
    ) -> Result<Response<ServerStateResponse>, Status> {
        Ok(Response::new(self.inner.state.to_message()))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        let request = request.into_inner();
        if request.server && !request.engines.is_empty() {
            let fault = refused(
                "stopping the server stops all engines",
                "",
                "do not name engines with it",
            );
            return Err(fault.to_status());
        }
        let engines = self.inner.engines(request.engines)?;
        let grace = match request.timeout_ms {
            0 => DEFAULT_GRACE,
            ms => Duration::from_millis(ms.into()),
        };
        let mut results = Vec::new();
        for engine in engines {
            let outcome = self.inner.supervisors[engine as usize]
                .stop(grace, request.force)
                .await;
            results.push(EngineStopped {
                engine,
                state: self.inner.state.engine(engine as usize).state.into(),
                killed: *outcome.as_ref().unwrap_or(&false),
                fault: outcome
                    .err()
                    .map(|why| *refused("the engine could not be stopped", &why, "")),
            });
        }
        if request.server {
            self.inner.state.stop();
        }
        Ok(Response::new(StopResponse { results }))
    }
    async fn start(
        &self,
        request: Request<StartRequest>,
    ) -> Result<Response<StartResponse>, Status> {
        let engines = self.inner.engines(request.into_inner().engines)?;
        let inner = Arc::clone(&self.inner);
        // To its end also when the client goes away.
        match tokio::spawn(async move { inner.start(engines).await }).await {
            Ok(result) => result.map(Response::new),
            Err(error) => Err(Status::internal(format!("a defect of the server: {error}"))),
        }
    }

    type OpenResponderStream = responder::Events;

    async fn open_responder(
        &self,
        request: Request<OpenResponderRequest>,
    ) -> Result<Response<Self::OpenResponderStream>, Status> {
        let inner = &self.inner;
        let opened = inner
            .responders
            .open(&inner.plugins, &inner.state, request.get_ref())
            .await;
        match opened {
            Ok(events) => Ok(Response::new(events)),
            Err(fault) => Err(fault.to_status()),
        }
    }

    async fn pool_space(
        &self,
        _: Request<PoolSpaceRequest>,
    ) -> Result<Response<PoolSpaceResponse>, Status> {
        let engines = self.inner.pools.space().await?;
        Ok(Response::new(PoolSpaceResponse { engines }))
    }
}
