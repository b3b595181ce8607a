# Loss of power, again and again: an engine on NVMe is killed while a client writes, the device loses what it was not told to
# keep (each block of it by chance), and every value that was acknowledged must be there.
#
# Then the same with a plugin that makes no write durable: that must be noticed, or the scenario tells nothing.
#
# Argument: how many times.
# vm: --timeout 900 --memory 3072 --power
cuts=${1:-3}
. "$VM_SOURCE/tests/vm/guest/site.sh"
site_programs
modprobe -a nvme vfio-pci
# These controllers do not heed the bit that makes a write durable.
SITE_NVME="fua: flush"
prepare_site -p 160 -w "$NVME_4096"
site_config <<YAML
- targets: 1
  nr_xs_helpers: 0
  pinned_numa_node: 1
  scm_mount: $SITE/scm0
  scm_class: ram
  scm_size: 1
  bdev_class: nvme
  bdev_list: ["$NVME_4096"]
YAML
server
await maintenance
shell storage format --force >$SITE/format || { words; fail "format"; }
await ready
pool 0
mark "engine ready"

# From here on the engine runs by itself: starting the server again would take most of the time.
mapfile -d '' -t command <"/proc/$(engine 0)/cmdline"
# Nobody will read what it leaves behind.
for ((at = 0; at < ${#command[@]}; at++)); do
	[ "${command[at]}" != --board ] || command=("${command[@]:0:at}" "${command[@]:at+2}")
done
mapfile -d '' -t environment <"/proc/$(engine 0)/environ"
kill_all
# start_engine: starts it, and leaves its address in $uri.
start_engine() {
	# Its own address, not that of the one before: the background may begin after the first look.
	: >$SITE/engine.log
	as_user env -i "${environment[@]}" "${command[@]}" --no-server >$SITE/engine.log 2>&1 &
	process=$!
	until uri=$(sed -n 's/^uri //p' $SITE/engine.log) && [ -n "$uri" ]; do
		kill -0 $process 2>/dev/null || { cat $SITE/engine.log; fail "the engine does not start"; }
		sleep 0.1
	done
}
# It ends with the job that it is a child of; looking for it again and again would take longer than it does.
kill_engine() {
	killall -9 daos_io_server
	wait $process || true
}
workload() { daos workload "$1" --uri "$uri" "${@:2}"; }
# verify RECORD: what became of the acknowledged values.
verify() { workload verify --acked "$SITE/$1" >$SITE/verified 2>&1; }
# A loss of power can take what was written and not flushed. With this there is always some.
throttle_writes 10

# took NAME: adds the time since the last call to what NAME has taken altogether.
declare -A spent=()
then=0
took() {
	local now=${EPOCHREALTIME/./}
	spent[$1]=$((${spent[$1]:-0} + now - then))
	then=$now
}
start_engine
mark "engine runs by itself"
at_risk=0 acknowledged=0 known=0 record='' seed=0
# container NAME: another one, with a record of its own, in place of the one before.
container() {
	[ -z "$record" ] || daos container destroy --uri "$uri" --pool pool0 "$record" >/dev/null
	record=$1 known=0 seed=$((seed + 1))
	daos container create --uri "$uri" --pool pool0 "$record" >/dev/null
	: >"$SITE/$record"
	chown "$SITE_USER" "$SITE/$record"
}
# lose_power SEED: ends the engine while a client writes, and starts it with what is left; $counts is what was lost.
lose_power() {
	local writer wanted waited=0 now
	# Sizes that go to the device. A seed for each container: a value whose writing was cut off is then the same as the
	# one before it, in another place of the device.
	workload write --pool pool0 --cont "$record" --acked "$SITE/$record" --depth 8 --count 100000 --size 4KiB..64KiB --seed "$seed" >/dev/null 2>&1 &
	writer=$!
	wanted=$((known + 8 + RANDOM % 16))
	then=${EPOCHREALTIME/./}
	until [ "$(wc -l <"$SITE/$record")" -ge "$wanted" ]; do
		waited=$((waited + 1))
		[ $waited -lt 600 ] || { cat $SITE/engine.log; fail "nothing is acknowledged"; }
		sleep 0.1
	done
	took writing
	kill_engine
	killall -q -9 daos || true
	wait $writer || true
	now=$(wc -l <"$SITE/$record")
	acknowledged=$((acknowledged + now - known)) known=$now
	took killing
	counts=$(cut_power nvme-4096 "$1")
	took "cutting the power"
	at_risk=$((at_risk + $(sed -n 's/.*"at_risk": \([0-9]*\).*/\1/p' <<<"$counts")))
	start_engine
	took recovering
}
for ((cut = 1; cut <= cuts; cut++)); do
	# What has to be read each time stays little.
	[ $((cut % 10)) -ne 1 ] || container "work$cut"
	lose_power "$cut"
	verify "$record" || {
		cat $SITE/verified $SITE/engine.log
		fail "acknowledged values are lost after loss of power $cut: $counts"
	}
	took verifying
	[ $((cut % 10)) -ne 0 ] || mark "$cut losses of power, $acknowledged values acknowledged and there, $at_risk writes were at risk"
done
mark "$cuts losses of power, $acknowledged values acknowledged and there, $at_risk writes were at risk"
[ $((at_risk * 3)) -ge "$cuts" ] || fail "so few writes at risk prove nothing"
for part in "${!spent[@]}"; do echo "$part: $((spent[$part] / cuts / 1000)) ms each"; done

kill_engine
case "${command[*]}" in
*'"fua":"flush"'*) command=("${command[@]//'"fua":"flush"'/'"fua":"device"'}") ;;
*) fail "the engine's settings are not where they were: ${command[*]}" ;;
esac
start_engine
for try in 1 2 3 4 5; do
	container "lost$try"
	lose_power $((1000 + try))
	if ! verify "$record"; then
		tail -n 1 $SITE/verified
		mark "without flushes lost, as it must be: $counts"
		exit 0
	fi
done
fail "nothing makes a write durable, and losses of power lose nothing: $counts"
