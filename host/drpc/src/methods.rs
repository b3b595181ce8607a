//! Numbers of modules and methods.

/// Modules.
pub mod module {
    /// Tests.
    pub const TEST: i32 = 0;
    /// Security calls of the client library to the agent.
    pub const SECURITY_AGENT: i32 = 1;
    /// Management calls of the server to an engine, and of the client library to the agent.
    pub const MGMT: i32 = 2;
    /// Calls of an engine to the server.
    pub const SRV: i32 = 3;
    /// Security calls of an engine to the server.
    pub const SECURITY: i32 = 4;
    /// Calls between the server and our own engine, which others do not know.
    pub const HOST: i32 = 1000;
}

/// Methods of [`module::MGMT`], server to engine.
pub mod mgmt {
    /// `mgmt.SetRankReq` -> `mgmt.DaosResp`.
    pub const SET_RANK: i32 = 202;
    /// `mgmt.PoolCreateReq` -> `mgmt.PoolCreateResp`.
    pub const POOL_CREATE: i32 = 207;
    /// `mgmt.PoolDestroyReq` -> `mgmt.PoolDestroyResp`.
    pub const POOL_DESTROY: i32 = 208;
    /// No body -> `mgmt.DaosResp`; the engine is ready afterwards.
    pub const SET_UP: i32 = 209;
    /// `ctl.BioHealthReq` -> `ctl.BioHealthResp`.
    pub const BIO_HEALTH: i32 = 210;
    /// `ctl.SmdDevReq` -> `ctl.SmdDevResp`.
    pub const SMD_LIST_DEVICES: i32 = 211;
    /// No body -> `mgmt.DaosResp`.
    pub const PREP_SHUTDOWN: i32 = 218;
    /// `mgmt.PoolQueryReq` -> `mgmt.PoolQueryResp`.
    pub const POOL_QUERY: i32 = 223;
    /// `mgmt.PoolSetPropReq` -> `mgmt.PoolSetPropResp`.
    pub const POOL_SET_PROP: i32 = 224;
    /// No body -> `mgmt.DaosResp`.
    pub const PING_RANK: i32 = 225;
    /// `mgmt.PoolGetPropReq` -> `mgmt.PoolGetPropResp`.
    pub const POOL_GET_PROP: i32 = 237;
    /// `ctl.SetLogMasksReq` -> `ctl.SetLogMasksResp`.
    pub const SET_LOG_MASKS: i32 = 238;
}

/// Methods of [`module::HOST`], server to engine but for the last.
pub mod host {
    /// No body -> `daos_host.v1.EnginePools`.
    pub const POOLS: i32 = 1;
    /// No body -> `daos_host.v1.EngineLayers`.
    pub const LAYERS_LIST: i32 = 2;
    /// `daos_host.v1.SetLayersRequest` -> `daos_host.v1.EngineLayers`.
    pub const LAYERS_SET: i32 = 3;
    /// `daos_host.v1.EngineDevicesRequest` -> `daos_host.v1.EngineDevices`.
    pub const DEVICES: i32 = 4;
    /// No body -> `daos_host.v1.EngineMetrics`.
    pub const METRICS: i32 = 5;
    /// Engine to server: `daos_host.v1.EngineTargetFailed` -> no body.
    pub const TARGET_FAILED: i32 = 6;
}

/// Methods of [`module::SRV`], engine to server.
pub mod srv {
    /// `srv.NotifyReadyReq` -> no body.
    pub const NOTIFY_READY: i32 = 301;
    /// `shared.ClusterEventReq` -> `shared.ClusterEventResp`.
    pub const CLUSTER_EVENT: i32 = 304;
}
