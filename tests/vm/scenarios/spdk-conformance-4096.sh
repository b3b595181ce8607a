# The conformance suite on a namespace of 4096-byte blocks whose controller has a second namespace.
# vm: --timeout 600
hugepages 128
bind vfio-pci "$NVME_MIXED"
"$VM_BUILD/spdk-spike-check" "$VM_BUILD/libdaos_bdev_nvme_spdk_spike.so" conformance-4096
