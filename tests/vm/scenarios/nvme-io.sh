# Plugin bdev-nvme-spdk on vfio-pci: devices, queues, memory and data; reset, abort, a dead controller, removal.
# vm: --timeout 300
check() { "$VM_BUILD/nvme-check" "$VM_BUILD/libdaos_bdev_nvme_spdk.so" "$@"; }
modprobe nvme
# The driver finds namespaces in the background.
until [ "$(ls /sys/block | grep -c '^nvme')" -ge 4 ]; do sleep 0.1; done
check kernel
hugepages 128
bind vfio-pci "$NVME_512" "$NVME_MIXED" "$NVME_4096"
mark "devices bound"
check device
check format
check format-command
check io
mark "with memory of the plugin's"
# The same with ordinary memory of the host's that it offers to the plugin.
check io '{"memory": "host"}'
mark "with memory of the host's"
check reset
check dead
mark "reset"
# Last: it costs a device.
check removal
