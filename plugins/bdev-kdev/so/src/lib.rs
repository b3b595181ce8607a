//! The shared object of plugin `bdev-kdev`.

daos_plugin_api::export_plugin!(bdev_kdev::BdevKdev);
