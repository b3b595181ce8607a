//! The shared object of plugin `bdev-malloc`.

daos_plugin_api::export_plugin!(bdev_malloc::BdevMalloc);
