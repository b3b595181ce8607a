# ipmctl killed in place of each of its calls that change a module, on one module of each of two sockets: whatever it leaves, the next run ends
# at the same place. What a run does follows from what ipmctl shows; where that is a whole goal once more, nothing new is tried.
# vm: --one-thread --modules 1 --timeout 300
. "$VM_SOURCE/tests/vm/guest/dcpm.sh"
pmem_modules
scm_programs
stand_in ipmctl
mark "programs"
whole="0x0001 0 2,0x1001 0 2"
tried=0
for ((call = 1; ; call += 2)); do
	rm -f /run/killed
	for socket in 0 1; do
		stop_at within $((call + socket))
		ipmctl create -f -goal -socket $socket PersistentMemoryType=AppDirect >/run/made 2>&1 || true
	done
	[ -e /run/killed ] || break
	left=$(goals)
	if [ "$left" != "$whole" ] || [ $tried = 0 ]; then
		[ "$left" != "$whole" ] || tried=$call
		expect 0 "A reboot is required to process new memory allocation goals." -- prepare -f
		is "$(goals)" "$whole" "goals after ipmctl was killed at call $call, which left '$left'"
	fi
	ipmctl delete -goal >/dev/null
done
rm -f /run/stop
[ $call -gt 10 ] && [ $tried -gt 1 ] || { cat /run/made; fail "$call calls of ipmctl, and a goal that is whole after $tried"; }
mark "killed in each of $((call - 1)) calls, and finished"
