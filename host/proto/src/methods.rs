//! Which methods there are, and who may call them.

include!(concat!(env!("OUT_DIR"), "/served.rs"));

/// A method of the DAOS 2.8 control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Components that may call it: `admin`, `agent`, `server`.
    pub callers: &'static [&'static str],
}

/// A method by its path, if that control plane has it.
pub fn find(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

/// Whether our files define this method, so that a server answers it by itself.
pub fn is_served(path: &str) -> bool {
    SERVED.contains(&path)
}

/// Our own service for the other servers of a system.
const OF_SERVERS: &str = "/daos_host.v1.EngineSvc/";

/// Components that may call a method of that control plane or of our own services; none where it is of neither.
pub fn callers(path: &str) -> &'static [&'static str] {
    match find(path) {
        Some(known) => known.callers,
        None if !is_served(path) => &[],
        None if path.starts_with(OF_SERVERS) => S,
        None => A,
    }
}

const A: &[&str] = &["admin"];
const G: &[&str] = &["agent"];
const S: &[&str] = &["server"];
const AG: &[&str] = &["admin", "agent"];
const AS: &[&str] = &["admin", "server"];

macro_rules! methods {
    ($($service:literal: $($name:ident $callers:ident)*;)*) => {
        /// All methods of that control plane, whether our files define them or not.
        pub const METHODS: &[Method] = &[$($(
            Method {
                path: concat!("/", $service, "/", stringify!($name)),
                callers: $callers,
            },
        )*)*];
    };
}

methods! {
    "ctl.CtlSvc":
        StorageScan A
        StorageFormat A
        StorageNvmeRebind A
        StorageNvmeAddDevice A
        NetworkScan A
        FirmwareQuery A
        FirmwareUpdate A
        SmdQuery A
        SmdManage A
        SetEngineLogMasks A
        PrepShutdownRanks S
        StopRanks S
        ResetFormatRanks S
        StartRanks S
        CollectLog A
        CheckEngineRepair S;
    "mgmt.MgmtSvc":
        Join S
        ClusterEvent S
        LeaderQuery A
        PoolCreate A
        PoolDestroy A
        PoolEvict AG
        PoolExclude A
        PoolDrain AS
        PoolExtend A
        PoolReintegrate AS
        PoolQuery A
        PoolQueryTarget A
        PoolSetProp A
        PoolGetProp A
        PoolGetACL A
        PoolOverwriteACL A
        PoolUpdateACL A
        PoolDeleteACL A
        PoolUpgrade A
        PoolRebuildStart AS
        PoolRebuildStop AS
        PoolSelfHealEval AS
        GetAttachInfo G
        ListPools A
        ListContainers A
        ContSetOwner A
        SystemQuery A
        SystemStop A
        SystemStart A
        SystemExclude A
        SystemDrain A
        SystemRebuildManage A
        SystemSelfHealEval A
        SystemErase A
        SystemCleanup AG
        SystemCheckEnable A
        SystemCheckDisable A
        SystemCheckStart A
        SystemCheckStop A
        SystemCheckQuery A
        SystemCheckSetPolicy A
        SystemCheckGetPolicy A
        SystemCheckRepair A
        SystemCheckEngineReport S
        SystemSetAttr A
        SystemGetAttr A
        SystemSetProp A
        SystemGetProp AS
        FaultInjectReport A
        FaultInjectPoolFault A
        FaultInjectMgmtPoolFault A;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_served_under_that_control_plane_s_names_is_a_method_of_it() {
        let paths: BTreeSet<&str> = METHODS.iter().map(|method| method.path).collect();
        assert_eq!(paths.len(), METHODS.len(), "a method stands there twice");
        assert_eq!(paths.len(), 16 + 51);
        let own = |path: &&&str| path.starts_with("/daos_host.");
        assert!(SERVED.iter().filter(own).count() > 10);
        for path in SERVED.iter().filter(|path| !own(path)) {
            assert!(find(path).is_some(), "{path}");
        }
        assert!(is_served("/ctl.CtlSvc/StorageScan") && !is_served("/ctl.CtlSvc/CollectLog"));
    }
}
