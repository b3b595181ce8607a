//! What a layer has nothing to say about goes to the device below.

/// Members of [`Bdev`](daos_plugin_api::sdk::Bdev) that pass on to the field `below`.
macro_rules! admin {
    () => {
        fn geometry(&self) -> daos_plugin_api::abi::BdevGeometry {
            *self.below.geometry()
        }

        fn poll_admin(&self) -> Result<(), daos_plugin_api::abi::Status> {
            self.below.poll_admin()
        }

        fn reset(&self, _: CallContext<'_>) -> daos_plugin_api::sdk::Result<()> {
            self.below.reset(CallOptions::default())
        }

        fn identity(
            &self,
            _: CallContext<'_>,
        ) -> daos_plugin_api::sdk::Result<daos_plugin_api::control::DeviceRecord> {
            self.below.identity(CallOptions::default())
        }

        fn health(
            &self,
            _: CallContext<'_>,
        ) -> daos_plugin_api::sdk::Result<serde_json::Map<String, serde_json::Value>> {
            self.below.health(CallOptions::default())
        }
    };
}

pub(crate) use admin;
