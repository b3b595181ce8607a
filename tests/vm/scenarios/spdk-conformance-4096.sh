# What of the conformance suite depends on the block size or on a controller shared with another namespace.
# vm: --timeout 600
hugepages 128
bind vfio-pci "$NVME_MIXED"
# A process each: an instance of a plugin is made once in a process.
for cases in geometry identity reset "was written" model "last block" segments zeroes compare depth "many queues" batch; do
	"$VM_BUILD/spdk-spike-check" "$VM_BUILD/libdaos_bdev_nvme_spdk_spike.so" conformance "$NVME_MIXED/1" "$cases"
done
