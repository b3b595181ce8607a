# The conformance kit for block devices on plugin bdev-nvme-spdk: all of it with blocks of 512 bytes, and of the rest
# what depends on the block size or on a controller shared with another namespace.
# vm: --timeout 600
hugepages 128
bind vfio-pci "$NVME_512" "$NVME_MIXED"
cp "$VM_BUILD/nvme-check" "$VM_BUILD/libdaos_bdev_nvme_spdk.so" /mnt
check() { /mnt/nvme-check /mnt/libdaos_bdev_nvme_spdk.so conformance "$@"; }
check "$NVME_512"
mark "blocks of 512 bytes"
check "$NVME_MIXED/1" life.geometry life.identity life.reset io.write_read io.model io.first_and_last io.segments io.odd_segments \
	ops.unclaimed ops.write_zeroes ops.large_zeroes ops.compare durable.zeroes queue.depth queue.wrong_depth queue.queue_count \
	faults.wrong_sum faults.too_many_segments faults.mixed_batch
mark "blocks of 4096 bytes"
