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
