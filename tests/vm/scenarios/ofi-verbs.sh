# A server on verbs;ofi_rxm over the kernel's software RDMA: values by message and by RMA, an engine that is killed.
# vm: --one-thread --timeout 480
rdma_interface rdma0 10.77.0.1/24
mark "RDMA device ready"
run=/mnt/site
mkdir -p $run/plugins $run/scm
chmod -R 755 /mnt
install -m 644 "$VM_BUILD/libdaos_fabric_ofi.so" $run/plugins/
cat >$run/server.yml <<YAML
name: daos_server
transport_config: {allow_insecure: true}
socket_dir: $run/sockets
state_dir: $run/state
plugins_dir: $run/plugins
provider: ofi+verbs;ofi_rxm
fabric_iface: rdma0
servers:
- targets: 1
  nr_xs_helpers: 0
  scm_class: ram
  scm_mount: $run/scm
  scm_size: 1
  bdev_class: file
  bdev_list: [$run/bdev]
  bdev_size: 1
YAML
"$VM_BUILD/daos_server" -o $run/server.yml start -i >$run/server.log 2>&1 &
shell() { "$VM_BUILD/daos_shell" -i "$@"; }
daos() { "$VM_BUILD/daos" "$@" --plugins-dir $run/plugins --interface rdma0; }
# state WANTED: waits until the system is in that phase.
state() {
	local waited=0
	until shell --json system query 2>/dev/null | grep -q "\"phase\": \"$1\""; do
		waited=$((waited + 1))
		[ $waited -lt 240 ] || { cat $run/server.log; fail "the system is not $1"; }
		sleep 0.5
	done
}
engine() { pidof daos_io_server || fail "no engine"; }

state maintenance
mark "maintenance"
shell storage format --force >/dev/null
mark "formatted"
state ready
mark "engine ready"
grep -q libfabric "/proc/$(engine)/maps" || fail "the engine does not use libfabric"
shell pool create tank --size 50% >/dev/null
daos container create work >/dev/null
mark "pool and container"

# One value that travels inside messages, one by remote memory access.
head -c 700 /dev/urandom >$run/small
head -c 900000 /dev/urandom >$run/large
check() {
	local name
	for name in small large; do
		daos object get --cont work 0.1 key $name >$run/back
		cmp $run/$name $run/back || fail "the $name value is another one $1"
	done
}
for name in small large; do daos object put --cont work 0.1 key $name --file $run/$name; done
check "at once"
mark "put and get"
# In a container of its own.
bench() { daos bench --verify "$@" | grep verified; }
bench --ops 24 --keys 16 --depth 8 --seed 1
mark "bench"

first=$(engine)
kill -9 "$first"
# The client waits for the engine's return.
check "after the engine was killed"
[ "$(engine)" != "$first" ] || fail "it is the same engine"
state ready
bench --ops 12 --keys 8 --depth 4 --size 64KiB..1MiB --seed 2
mark "engine killed and back"
