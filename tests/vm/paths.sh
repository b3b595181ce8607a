# Where the test bed keeps what is costly to make. Sourced by the shell programs of this folder.
#
# Everything lives under one cache folder, so that removing that folder is a complete clean-up:
#   spdk-20.07/   headers and libraries, static and shared (SPDK_DIR names another place); spdk-26.01/ where spdk_version says so
#   guest/        kernel and modules of the guest, its initramfs

VM_CACHE=${DAOS_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/daos-plugin-host}
SPDK_DIR=${SPDK_DIR:-$VM_CACHE/spdk-${spdk_version:-20.07}}
GUEST_DIR=$VM_CACHE/guest

# say MESSAGE...: one line that tells which program speaks.
say() { printf '%s: %s\n' "${0##*/}" "$*"; }

# die MESSAGE...: as say, to standard error, and ends the program.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# spdk_in FOLDER: the version of the SPDK in a source tree or under a prefix, as 20.07; nothing where there is none. Later versions make
# the header from a file when they are built.
spdk_in() {
	if [ -f "$1/include/spdk/version.h" ]; then
		awk '
			$1 == "#define" && $2 == "SPDK_VERSION_MAJOR" { major = $3 }
			$1 == "#define" && $2 == "SPDK_VERSION_MINOR" { minor = $3 }
			END { printf "%02d.%02d\n", major, minor }' "$1/include/spdk/version.h"
	elif [ -f "$1/include/spdk/nvme.h" ] && [ -f "$1/VERSION" ]; then
		sed -n '1s/^\([0-9]*\.[0-9]*\).*/\1/p' "$1/VERSION"
	fi
}
