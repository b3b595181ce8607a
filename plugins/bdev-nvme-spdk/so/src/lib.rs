//! The shared object of plugin `bdev-nvme-spdk`; empty where that was not built.

bdev_nvme_spdk::export!();
