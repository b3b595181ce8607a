# The SPDK spike on vfio-pci: a controller that is removed while in use.
# vm: --timeout 120
hugepages 64
bind vfio-pci "$NVME_512" "$NVME_4096"
"$VM_BUILD/spdk-spike-check" "$VM_BUILD/libdaos_bdev_nvme_spdk_spike.so" removal
