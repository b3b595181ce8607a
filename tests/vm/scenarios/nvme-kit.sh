# The conformance kit for block devices on plugin bdev-nvme-spdk: all of it with blocks of 512 bytes, and of the rest
# what depends on the block size or on a controller shared with another namespace.
# vm: --timeout 600
hugepages 128
bind vfio-pci "$NVME_512" "$NVME_MIXED"
check() { "$VM_BUILD/nvme-check" "$VM_BUILD/libdaos_bdev_nvme_spdk.so" conformance "$@"; }
check "$NVME_512"
mark "blocks of 512 bytes"
# A process each: an instance of a plugin is made once in a process.
for cases in geometry identity reset "was written" model "last block" segments zeroes compare depth "many queues" batch; do
	check "$NVME_MIXED/1" "$cases"
done
mark "blocks of 4096 bytes"
