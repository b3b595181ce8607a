# A site in a guest: a server with its engines, run by an unprivileged user. Sourced by scenarios.
#
#   SITE       its folder, in memory     SITE_USER  who runs it (root: SITE_USER=0 before sourcing)
#   SITE_NVME  settings of bdev-nvme-spdk, set before site_config
#   SITE_FILE  plugin file that is installed, and SITE_ALLOWED the names of plugins from files, each with its settings

SITE=/mnt/site
SITE_PLUGINS=/mnt/plugins
SITE_USER=${SITE_USER:-65534}
SITE_NVME=
SITE_SAID=0
SITE_FILE=${SITE_FILE:-libdaos_bdev_nvme_spdk.so}
SITE_ALLOWED=${SITE_ALLOWED:-}

# as_user COMMAND...: runs it as the site's user, with no limit of locked memory, which vfio counts.
as_user() {
	HOME=$SITE XDG_RUNTIME_DIR=$SITE/runtime "$VM_BUILD/as-user" "$SITE_USER" "$@"
}

# site_programs: puts the programs of a site into the guest's memory, for scenarios that start them again and again: the host's files come
# through an emulated device.
site_programs() {
	mkdir /mnt/bin
	cp "$VM_BUILD"/{as-user,daos,daos_io_server,daos_server,daos_server_helper,daos_shell,"$SITE_FILE"} /mnt/bin
	VM_BUILD=/mnt/bin
}

# prepare_site OPTION...: `storage prepare` for the site's user, as root.
prepare_site() {
	plugins
	"$VM_BUILD/daos_server" storage prepare --nvme-only --force -u nobody --plugins-dir "$SITE_PLUGINS" "$@"
}

# plugins: puts the plugin files where only root can write, since root runs them, too.
plugins() {
	mkdir -p "$SITE_PLUGINS"
	chmod 755 /mnt
	install -m 644 "$VM_BUILD/$SITE_FILE" "$SITE_PLUGINS/"
}

# site_config: makes the folders of the site and its configuration from the `servers:` entries on standard input.
site_config() {
	plugins
	mkdir -p "$SITE/runtime"
	cat >"$SITE/server.yml" <<YAML
name: daos_server
transport_config: {allow_insecure: true}
state_dir: $SITE/state
plugins_dir: $SITE_PLUGINS
plugins:
  ${SITE_ALLOWED:-bdev-nvme-spdk: {settings: {$SITE_NVME\}\}}
  scm-ram: {}
  fabric-tcp: {}
provider: tcp
fabric_iface: lo
servers:
$(cat)
YAML
	chown -R "$SITE_USER:$SITE_USER" "$SITE"
}

# server [ARGUMENT...]: starts the server in the background; its words are in $SITE/server.log.
server() {
	touch "$SITE/server.log"
	SITE_SAID=$(wc -l <"$SITE/server.log")
	as_user "$VM_BUILD/daos_server" -o "$SITE/server.yml" start -i "$@" >>"$SITE/server.log" 2>&1 &
	until pidof daos_server >/dev/null; do sleep 0.1; done
}

# kill_all: ends the server and its engines as a loss of power would, as far as processes go.
kill_all() {
	local all
	all=$(pidof daos_server daos_io_server)
	# What sees the others end is not to do anything about it: stopped first, nobody sees anything.
	# shellcheck disable=SC2086
	freeze $all
	# shellcheck disable=SC2086
	kill -9 $all
	await_end
}

# await_end: waits until the server, its helpers and engines are gone.
await_end() {
	while pidof daos_server daos_server_helper daos_io_server; do sleep 0.1; done >/dev/null
}

shell() { as_user "$VM_BUILD/daos_shell" -i "$@"; }
daos() { as_user "$VM_BUILD/daos" "$@"; }

# words: what the server and its engines said, for a scenario that failed.
words() {
	tail -n 60 "$SITE/server.log"
}

# said TEXT: what the server that was started last has said of that, its lines.
said() { sed -n "$((SITE_SAID + 1)),\$s/.*\($1\).*/\1/p" "$SITE/server.log"; }

# await PHASE: waits until the server says that the system is in that phase. It is not asked: each question would take the
# time that what is waited for could have.
await() {
	local end=$((SECONDS + 240)) phases
	until phases=$(said "server is in phase [a-z]*") && [ "${phases##* }" = "$1" ]; do
		if [ $SECONDS -ge $end ] || ! pidof daos_server >/dev/null; then
			words
			fail "the system is not $1"
		fi
		sleep 0.2
	done
}

# await_said TEXT: waits until the server has said that. A system is in maintenance as soon as one of its engines is: a plan
# that is made before the others have been looked at is out of date at once.
await_said() {
	local end=$((SECONDS + 240))
	until [ -n "$(said "$1")" ]; do
		if [ $SECONDS -ge $end ] || ! pidof daos_server >/dev/null; then
			words
			fail "the server does not say: $1"
		fi
		sleep 0.2
	done
}

# disk ADDRESS NAMESPACE: block device of a namespace under the kernel's driver, which may still be looking for it.
disk() {
	local found
	until found=$(ls -d "/sys/bus/pci/devices/$1/nvme/"nvme*/nvme*n"$2" 2>/dev/null) && [ -b "/dev/${found##*/}" ]; do sleep 0.1; done
	echo "/dev/${found##*/}"
}

# engines: process ids of the engines that run.
engines() { pidof daos_io_server; }

# engine RANK: process of an engine.
engine() {
	local process
	for process in $(engines); do
		if tr '\0' ' ' <"/proc/$process/cmdline" | grep -q -- " -I $1 "; then
			echo "$process"
			return
		fi
	done
	fail "engine $1 does not run"
}
# load RANK [COUNT [SEED]]: writes values of all sizes, keeping a record of what was acknowledged.
load() { daos workload write --rank "$1" --pool "pool$1" --cont work --acked "$SITE/acked$1" --depth 8 --count "${2:-60}" --size 1..128KiB --seed "${3:-1}"; }
proof() { daos workload verify --rank "$1" --acked "$SITE/acked$1" || { words; fail "acknowledged values of rank $1 are lost $2"; }; }
# end_load: ends every client. A client is a child of the job that `load` is in the background, which does not end with it.
end_load() {
	killall -q -9 daos || true
	while pidof daos >/dev/null; do sleep 0.1; done
}
# records RANK: how many acknowledged writes are in the record.
records() {
	if [ ! -e "$SITE/acked$1" ]; then
		touch "$SITE/acked$1"
		chown "$SITE_USER" "$SITE/acked$1"
	fi
	wc -l <"$SITE/acked$1"
}
# acknowledged RANK COUNT: waits until so many writes are in the record.
acknowledged() {
	local waited=0
	until [ "$(records "$1")" -ge "$2" ]; do
		waited=$((waited + 1))
		[ $waited -lt 600 ] || { words; fail "rank $1 acknowledges nothing"; }
		sleep 0.1
	done
}

# pool RANK: a pool of most of what a rank has, with a container.
pool() {
	shell pool create "pool$1" --ranks "$1" --size 60% >/dev/null
	daos container create --rank "$1" --pool "pool$1" work >/dev/null
}
