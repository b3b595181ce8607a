# The bed's persistent memory modules, as Debian's ipmctl and the kernel see them: goals that a boot carries out, interleaved
# and not, modules that are ill, locked or gone, contents that stay, all memory made volatile.
# vm: --modules 2 --boots 5 --timeout 400
pmem_modules
# shows TEXT COMMAND...: the command succeeds and says that.
shows() {
	local text=$1
	shift
	"$@" >/run/said 2>&1 || { cat /run/said; fail "$*: status $?"; }
	grep -qE -- "$text" /run/said || { cat /run/said; fail "$*: nothing of '$text'"; }
}
# states: handle, lock and health of each module, on a line each.
states() { ipmctl show -dimm | awk -F'|' '/0x/ { gsub(/ /, "", $1); gsub(/^ | *$/, "", $3); gsub(/^ | *$/, "", $4); print $1, $3, $4 }'; }
is() { [ "$1" = "$2" ] || fail "$3: '$1', not '$2'"; }
# ranges: regions of the kernel: size, modules, whether it is enabled.
ranges() { ndctl list -Riv -R -D | python3 -c 'import json, sys
for r in sorted(json.load(sys.stdin).get("regions", []), key=lambda r: (-r["size"], str(r.get("state")))): print(r["size"] >> 30, len(r["mappings"]), r.get("state", "enabled"))' | paste -sd,; }

case $VM_BOOT in
1)
	is "$(states | paste -sd,)" "0x0001 Disabled Healthy,0x0101 Disabled Healthy,0x1001 Disabled Healthy,0x1101 Disabled Healthy" modules
	shows "no Regions defined" ipmctl show -region
	shows "reboot is required" ipmctl create -f -goal -socket 0 PersistentMemoryType=AppDirect
	shows "reboot is required" ipmctl create -f -goal -socket 1 PersistentMemoryType=AppDirectNotInterleaved
	;;
2)
	ipmctl show -region >/run/regions
	is "$(grep -c " AppDirect  *|.*4.000 GiB" /run/regions)" 1 "interleaved regions"
	is "$(grep -c AppDirectNotInterleaved /run/regions)" 2 "regions of one module"
	shows "no goal configs defined" ipmctl show -goal
	is "$(ranges)" "4 2 enabled,2 1 enabled,2 1 enabled" "the kernel's regions"
	region=$(ndctl list -R | python3 -c 'import json, sys; print(next(r["dev"] for r in json.load(sys.stdin) if r["size"] >> 30 == 4))')
	ndctl create-namespace -m fsdax -r "$region" -s 256M >/dev/null
	shows "3.7" ipmctl show -region
	device=/dev/$(ndctl list -N | sed -n 's|.*"blockdev":"\([^"]*\)".*|\1|p')
	mkfs.ext4 -q -b 4096 -L kept "$device"
	mount -o dax=always "$device" /mnt
	echo "stays" >/mnt/file
	umount /mnt
	module 0x1001 critical
	module 0x1101 locked
	is "$(states | tail -n 2 | paste -sd,)" "0x1001 Disabled Critical failure,0x1101 Locked Healthy" "an ill and a locked module"
	! ipmctl create -f -goal -socket 1 PersistentMemoryType=AppDirect >/run/said 2>&1 || { cat /run/said; fail "a goal for a locked module"; }
	grep -q "security state" /run/said || { cat /run/said; fail "another refusal"; }
	module 0x1001 fatal
	module 0x0101 absent
	;;
3)
	# The set of the module that is gone is no region, nor what has failed; what is locked is none that can be used.
	is "$(states | paste -sd,)" "0x0001 Disabled Healthy,0x1001 Disabled Fatal failure,0x1101 Locked Healthy" "modules that are there"
	is "$(ranges)" "2 1 disabled" "the kernel's regions"
	module 0x0101 healthy
	module 0x1001 healthy
	module 0x1101 unlocked
	;;
4)
	is "$(ranges)" "4 2 enabled,2 1 enabled,2 1 enabled" "the kernel's regions"
	mount -o dax=always LABEL=kept /mnt
	is "$(cat /mnt/file)" stays "the contents"
	umount /mnt
	ndctl destroy-namespace -f all >/dev/null
	shows "reboot is required" ipmctl create -f -goal MemoryMode=100
	;;
5)
	shows "no Regions defined" ipmctl show -region
	shows "Volatile .* 8.000 GiB" ipmctl show -memoryresources
	is "$(ranges)" "" "the kernel's regions"
	;;
esac
mark "boot $VM_BOOT"
