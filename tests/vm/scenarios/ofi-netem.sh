# Client and engine in two network namespaces: packets that are late, lost, doubled and out of order (netem), an interface that
# goes down and up, a partition; on fabric-tcp and on providers of libfabric. Arguments: providers, instead of these.
# Not among them: ofi+net, which kept operations for good after the partition, and ofi+sockets, which keeps a connection for as long as the
# kernel does: a partition that a slow guest makes longer than 15 s can leave its client without an answer until it gives up (docs/reliability.md).
# vm: --timeout 480 --memory 3072
modprobe -a veth sch_netem loop crc32c_generic ext4
[ $# -gt 0 ] || set -- tcp "ofi+tcp;ofi_rxm"
# A file system on which space is allocated without being written.
truncate -s 4G /run/disk
mkfs.ext4 -q -O ^has_journal /run/disk
mount -o loop /run/disk /tmp
declare -A running=()
failed=0
# finish: waits for one and shows what it said.
finish() {
	local process provider status=0
	wait -n -p process || status=$?
	provider=${running[$process]}
	unset "running[$process]"
	cat "/run/$provider"
	if [ $status -ne 0 ] || ! grep -q "test result: ok. 1 passed" "/run/$provider" || grep -q "NOT RUN" "/run/$provider"; then failed=1; fi
	mark "$provider ended with status $status"
}
# Two at a time: each waits for something most of the time.
for provider in "$@"; do
	[ ${#running[@]} -lt 2 ] || finish
	DAOS_E2E_BUILT=1 DAOS_E2E_PROVIDER=$provider "$VM_BUILD/guest-tests/e2e" \
		whatever_happens_to_the_network_is_survived --nocapture >"/run/$provider" 2>&1 &
	running[$!]=$provider
done
while [ ${#running[@]} -gt 0 ]; do finish; done
[ $failed -eq 0 ] || fail "a provider did not survive it, or not all of it was tried"
