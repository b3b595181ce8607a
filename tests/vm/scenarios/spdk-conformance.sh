# The conformance suite for block devices on the SPDK spike, with blocks of 512 bytes.
# vm: --timeout 600
hugepages 128
bind vfio-pci "$NVME_512"
"$VM_BUILD/spdk-spike-check" "$VM_BUILD/libdaos_bdev_nvme_spdk_spike.so" conformance "$NVME_512"
