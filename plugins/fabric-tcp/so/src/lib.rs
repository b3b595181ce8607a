//! The shared object of plugin `fabric-tcp`.

daos_plugin_api::export_plugin!(fabric_tcp::FabricTcp);
