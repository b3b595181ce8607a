# The SPDK spike on vfio-pci: reset, abort and closing with requests outstanding.
# vm: --timeout 150
hugepages 128
bind vfio-pci "$NVME_512" "$NVME_MIXED"
"$VM_BUILD/spdk-spike-check" "$VM_BUILD/libdaos_bdev_nvme_spdk_spike.so" reset
