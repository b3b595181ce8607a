# The conformance kit for fabrics on verbs;ofi_rxm over the kernel's software RDMA: its last third.
# vm: --timeout 300
rdma_interface rdma0 10.77.0.1/24
OFI_TEST_PART=3/3 ofi_test conformance verbs_with_rxm
