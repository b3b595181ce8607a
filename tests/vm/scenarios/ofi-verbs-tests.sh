# fabric-ofi's own tests on verbs;ofi_rxm over the kernel's software RDMA.
# vm: --timeout 300
rdma_interface rdma0 10.77.0.1/24
ofi_test providers verbs_rxm
