//! The shared object of plugin `bdev-file`.

daos_plugin_api::export_plugin!(bdev_file::BdevFile);
