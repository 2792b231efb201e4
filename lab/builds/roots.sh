# shellcheck shell=bash
# Debian systems of any release, as folders in the cache, and commands in them. Sourced by script/matrix, script/fresh,
# script/package.
: "${cache:?}" "${ROOT:?}"

mirror=${CLUSTER_LOCK_MIRROR:-http://deb.debian.org/debian}

# Why no system can be made here; nothing when it can.
systems_obstacle() {
    local said
    if ((EUID != 0)); then
        echo "making a system needs root"
    elif ! said=$(unshare --mount --pid --fork --mount-proc true 2>&1); then
        echo "making a system needs the kernel's namespaces and mounts, which this place does not give ($said)"
    fi
}

# make_root NAME SUITE MMDEBSTRAP_OPTION...: the release as a folder; at once when it is there. mmdebstrap mounts in a
# namespace of its own and keeps services from starting while it works.
make_root() {
    local root=$cache/root-$1 suite=$2 lock
    shift 2
    [[ -d $root ]] && return
    # mmdebstrap makes no folder above the one that it fills.
    mkdir -p "$cache"
    exec {lock}>"$root.lock"
    # Somebody else's run may be making it.
    flock "$lock"
    if [[ ! -d $root ]]; then
        rm -rf "$root.new"
        # Debian's snapshots of unstable say that they are out of date after a week.
        mmdebstrap --mode=root --aptopt='Acquire::Check-Valid-Until "false"' "$@" "$suite" "$root.new" "$mirror"
        mv "$root.new" "$root"
    fi
    exec {lock}>&-
}

# make_system SUITE PACKAGE...: one that commands run in, with what the build and the tests need
make_system() {
    local suite=$1 packages="ca-certificates,gcc,libc6-dev,make,pkg-config,clang,libclang-dev,redis-server,valkey-server,"
    packages+="openssl,attr,acl,procps,util-linux,strace,libfcgi-bin"
    shift
    make_root "$suite" "$suite" --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include="$packages$(printf ',%s' "$@")"
    # For packages that come later.
    printf '#!/bin/sh\nexit 101\n' >"$cache/root-$suite/usr/sbin/policy-rc.d"
    chmod 755 "$cache/root-$suite/usr/sbin/policy-rc.d"
}

# in_root SUITE TARGET COMMAND...: in the project's folder, with this target directory as /target
in_root() {
    local root=$cache/root-$1 target=$cache/target-$2
    shift 2
    mkdir -p "$target"
    # A mount and a process namespace of its own: whatever ends this, no mount and no process is left.
    unshare --mount --pid --fork --kill-child --propagation private -- \
        "$ROOT/lab/builds/inside.sh" "$root" "$target" "$@"
}
