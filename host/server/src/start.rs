//! The life of a server: configuration, plugins, control plane, engines, end.

use crate::burnin::Burnins;
use crate::cli::Cli;
use crate::engine::{OwnUpcalls, Supervisor, Upcalls, supervise, watch_files};
use crate::firmware::Firmware;
use crate::log_masks::LogMasks;
use crate::membership::{self, Peers, Place};
use crate::owner::Owner;
use crate::plugins::Plugins;
use crate::pools::Pools;
use crate::services::{
    BurnInService, CtlService, EngineService, FirmwareService, HostService, LayerService, Local,
    MgmtService, PluginService, PreflightService, System,
};
use crate::socket_dir::SocketDir;
use crate::state::State;
use crate::transport::{self, Access};
use crate::{
    announce, attach_file, check, descriptors, fault_domain, generate, launch, logging,
    port_holder, preflight, telemetry,
};
use anyhow::Context;
use axum::middleware::from_fn_with_state;
use daos_certs::Renewing;
use daos_config::{Config, Overrides};
use daos_drpc::Router;
use daos_proto::ctl::ctl_svc_server::CtlSvcServer;
use daos_proto::host::burn_in_svc_server::BurnInSvcServer;
use daos_proto::host::engine_svc_server::EngineSvcServer;
use daos_proto::host::firmware_svc_server::FirmwareSvcServer;
use daos_proto::host::host_svc_server::HostSvcServer;
use daos_proto::host::layer_svc_server::LayerSvcServer;
use daos_proto::host::plugin_svc_server::PluginSvcServer;
use daos_proto::host::preflight_svc_server::PreflightSvcServer;
use daos_proto::mgmt::mgmt_svc_server::MgmtSvcServer;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tracing::{info, warn};

/// How long an engine may take to end when the server ends.
const GRACE: Duration = Duration::from_secs(20);

/// How often a connection at rest is asked whether somebody is there, and how long that may take.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_WITHIN: Duration = Duration::from_secs(20);

/// Runs the server until it is told to stop.
///
/// # Errors
/// Anything that keeps it from starting; nothing has been touched then.
pub(crate) fn run(cli: &Cli, overrides: &Overrides) -> anyhow::Result<bool> {
    let exe = std::env::current_exe().context("cannot find out the path of this program")?;
    let path = daos_config::locate(cli.globals.config.as_deref(), &exe)
        .map_err(|errors| check::rendered(&errors))?;
    let loaded = Config::load(&path, overrides).map_err(|errors| check::rendered(&errors))?;
    let mut config = loaded.config;
    let plugins = Plugins::open(&config, &exe)?;
    let findings = plugins.check_classes(&config);
    check::refuse_errors(&path, &findings)?;
    config
        .resolve_paths(&std::env::current_dir().context("cannot find out the working directory")?);
    let certificates = transport::certificates(&config)?;

    let (_log, masks) = logging::start(&config, cli.globals.debug, cli.globals.json)?;
    plugins.set_log_mask(masks.current());
    if cli.command.is_none() {
        warn!("No command supplied; defaulting to start (say `daos_server start`)");
    }
    info!("configuration read from {}", path.display());
    for warning in loaded.warnings.iter().chain(&findings) {
        warn!("{}", warning.message);
    }
    match config.write_active(Some(&path), &std::env::temp_dir()) {
        Ok(active) => info!("active configuration saved to {}", active.display()),
        Err(error) => warn!("the active configuration could not be saved: {error}"),
    }

    descriptors::raise();
    // One thread: engines are killed when the thread that started them ends, see `engine::spawn`.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let masks = LogMasks::new(masks);
    runtime.block_on(serve(config, &path, plugins, masks, certificates))
}

async fn serve(
    mut config: Config,
    path: &Path,
    plugins: Plugins,
    log_masks: LogMasks,
    certificates: Option<Arc<Renewing>>,
) -> anyhow::Result<bool> {
    // First, so that a signal during the checks below ends the server in order, too.
    let signals = Signals::new()?;
    let fault_domain = fault_domain::find(&config).await?;
    // Engines may have a directory of their own; they call the server there.
    let mut dirs = vec![config.socket_dir.clone()];
    for server in &config.servers {
        if !dirs.contains(&server.socket_dir) {
            dirs.push(server.socket_dir.clone());
        }
    }
    let owner = Owner::of(&config)?;
    let held = dirs
        .iter()
        .map(|dir| SocketDir::hold(dir, path, owner.as_ref()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let address = transport::address(&config)?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        let holder = match port_holder::holder(address.port()) {
            Some(holder) => format!("{holder} listens there; stop it, or "),
            None => String::new(),
        };
        format!("cannot listen on {address}: {holder}choose another port with -p or `port:`")
    })?;
    let listens_at = listener.local_addr()?;
    let control_addr = transport::reached_at(listens_at);
    // Before engines are planned, which writes every key down.
    preflight::hugepages_at_start(&config, &plugins.schemas());
    // Who asks meanwhile waits for the answer, which then has engines in it.
    let origin = generate::fill(&mut config, &plugins).await?;
    let upcalls = Upcalls::new();
    let mut sockets = Vec::new();
    for dir in &dirs {
        let own = Arc::new(OwnUpcalls(Arc::clone(&upcalls)));
        let router = Router::new().with(Arc::clone(&upcalls) as _).with(own);
        let socket = daos_drpc::Server::bind(&dir.join("daos_server.sock"), router)
            .context("cannot serve engines")?;
        if let Some(owner) = &owner {
            owner
                .take(socket.path())
                .context("cannot serve engines of another user")?;
        }
        sockets.push(socket);
    }
    let peers = Peers::new(&config);
    let place = Place::of(&config, plugins.state_dir(), &peers).await?;
    if let Place::Elsewhere(elsewhere) = &place {
        let access_points = elsewhere.access_points().join(", ");
        info!("the membership of the system is kept at {access_points}");
    }
    let state = State::new(
        config,
        path.to_owned(),
        control_addr.clone(),
        fault_domain,
        owner,
        plugins.state_dir().clone(),
        log_masks,
        place,
        peers,
    );
    let state = Arc::new(state.with_origin(origin));
    let plugins = Arc::new(plugins);
    let supervisors: Vec<Supervisor> = (0..state.config.servers.len())
        .map(|index| supervise(Arc::clone(&state), Arc::clone(&plugins), index))
        .collect();
    upcalls.connect(Arc::clone(&state), supervisors.clone());
    let (end_drpc, drpc_end) = watch::channel(false);
    let mut drpc = JoinSet::new();
    for socket in sockets {
        let mut end = drpc_end.clone();
        drpc.spawn(socket.serve(async move {
            // An error means that the server is gone, which is the end as well.
            let _ = end.wait_for(|end| *end).await;
        }));
    }

    if certificates.is_none() {
        match listens_at.ip().is_loopback() {
            true => warn!(
                "TLS is off: the control plane listens on loopback only, every local user may administer it"
            ),
            false => warn!(
                "TLS is off, and control_iface is not the loopback: whoever reaches {listens_at} may administer it"
            ),
        }
    }
    info!("DAOS control server listening on {listens_at}");
    let pools = Arc::new(Pools::new(Arc::clone(&state)));
    let burnins = Arc::new(Burnins::new(Arc::clone(&plugins), Arc::clone(&state)));
    let host = HostService::new(
        Arc::clone(&state),
        Arc::clone(&plugins),
        supervisors.clone(),
        Arc::clone(&pools),
        Arc::clone(&burnins),
    );
    let firmware = Arc::new(Firmware::new(
        Arc::clone(&plugins),
        Arc::clone(&state),
        Some(Arc::clone(&burnins)),
    ));
    let layers = LayerService {
        state: Arc::clone(&state),
    };
    let ctl = CtlService {
        state: Arc::clone(&state),
        plugins: Arc::clone(&plugins),
        firmware: Arc::clone(&firmware),
        host: host.inner(),
        pools: Arc::clone(&pools),
        local: Local(host.inner()),
    };
    let system = Arc::new(System::new(host.inner()));
    let mgmt = MgmtService::new(Arc::clone(&state), Arc::clone(&pools), system);
    let (health, healthy) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(daos_proto::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the control plane cannot describe itself")?;
    let one_by_one = PluginService {
        state: Arc::clone(&state),
        plugins: Arc::clone(&plugins),
    };
    let compared = PreflightService {
        state: Arc::clone(&state),
        plugins: Arc::clone(&plugins),
    };
    let for_servers = EngineService {
        pools: Arc::clone(&pools),
    };
    let mut stopping = state.stopping();
    let calls = telemetry::Calls::default();
    let routes = Routes::new(HostSvcServer::new(host))
        .add_service(MgmtSvcServer::new(mgmt))
        .add_service(CtlSvcServer::new(ctl))
        .add_service(healthy)
        .add_service(reflection)
        .add_service(LayerSvcServer::new(layers))
        .add_service(EngineSvcServer::new(for_servers))
        .add_service(PluginSvcServer::new(one_by_one))
        .add_service(PreflightSvcServer::new(compared))
        .add_service(FirmwareSvcServer::new(FirmwareService::new(Arc::clone(
            &firmware,
        ))))
        .add_service(BurnInSvcServer::new(BurnInService::new(Arc::clone(
            &burnins,
        ))))
        .into_axum_router()
        .layer(from_fn_with_state(calls.clone(), telemetry::count));
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            // Who does not even answer a ping is gone, or only here to take up room.
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_WITHIN))
            .layer(Access {
                calls: calls.clone(),
            })
            .add_routes(Routes::from(routes))
            .serve_with_incoming_shutdown(
                transport::incoming(listener, certificates, calls.clone()),
                async move {
                    // An error means that the state is gone, which is the end as well.
                    let _ = stopping.wait_for(|stop| *stop).await;
                },
            ),
    );
    let reporter = tokio::spawn(announce::keep_told(Arc::clone(&state), health));
    let telemetry = tokio::spawn(telemetry::serve(
        Arc::clone(&state),
        Arc::clone(&plugins),
        calls,
    ));
    let attach = tokio::spawn(attach_file::keep(Arc::clone(&state)));
    let files = tokio::spawn(watch_files(Arc::clone(&state)));
    let watcher = state.membership.here().map(|membership| {
        let (peers, own) = (state.peers.clone(), state.control_addr.clone());
        tokio::spawn(membership::watch(Arc::clone(membership), peers, own))
    });
    for (index, supervisor) in supervisors.iter().enumerate() {
        let _way = burnins.make_way(&[index]).await;
        launch::start_engine(&state, &plugins, supervisor, index).await;
    }
    plugins.rest().await;

    signals.wait_for_end(&state).await;
    announce::notify(sd_notify::NotifyState::Stopping);
    info!("stopping");
    state.stop();
    // A format that runs is over: without its superblock, nothing starts on what it leaves.
    let helpers = tokio::spawn({
        let plugins = Arc::clone(&plugins);
        async move { plugins.end().await }
    });
    let burnt = tokio::spawn(async move { burnins.end().await });
    let updated = tokio::spawn(async move { firmware.end().await });
    let mut ends = Vec::new();
    for supervisor in supervisors {
        ends.push(tokio::spawn(
            async move { supervisor.stop(GRACE, false).await },
        ));
    }
    for end in ends {
        // What an engine's end says is in its state and in the log.
        let _ = end.await;
    }
    reporter.abort();
    attach.abort();
    files.abort();
    telemetry.abort();
    if let Some(watcher) = watcher {
        watcher.abort();
    }
    if let Some(path) = &state.config.attach {
        attach_file::remove(path);
    }
    // Engines that end may still have called; now nobody does.
    end_drpc.send_replace(true);
    // The sockets are removed when they end; calls under way have a grace period of their own.
    let ended = async { while drpc.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
    // Streams that clients hold open must not keep the server.
    let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
    // Ends within the grace time of the helpers.
    let _ = helpers.await;
    let _ = burnt.await;
    // Killed with this process, a helper would leave a device in the middle of its firmware.
    let _ = updated.await;
    drop(held);
    info!("stopped");
    Ok(true)
}

/// The signals that end the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Returns on a signal, or when an administrator stops the server.
    async fn wait_for_end(mut self, state: &State) {
        let mut stopping = state.stopping();
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }
}
