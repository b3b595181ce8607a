//! The SPDK spike as a plugin file.

#[cfg(spdk)]
daos_plugin_api::export_plugin!(bdev_spdk_spike::SpdkPlugin);
