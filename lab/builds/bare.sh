#!/usr/bin/env bash
# bare.sh ROOT TOOLCHAIN contained|free NAME=VALUE... -- COMMAND...: runs the command in that system's folder of root,
# where it sees nothing of this machine but Rust and the kernel. For script/fresh, in namespaces of its own.
set -euo pipefail

root=$1 toolchain=$2 confinement=$3
shift 3
environment=()
while [[ $1 != -- ]]; do
    environment+=("$1")
    shift
done
shift

# A system's "/" is a mount point.
mount --bind "$root" "$root"
mkdir -p "$root/opt/rust"
mount --bind "$toolchain" "$root/opt/rust"
mount -o remount,bind,ro "$root/opt/rust"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"

command=(env -i HOME=/root PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    "${environment[@]}" bash -c 'cd && exec "$@"' bash "$@")
# Not with exec: this shell stays the first process of its namespace, and buries orphans as an init does.
if [[ $confinement == contained ]]; then
    # In a chroot, the kernel gives no user namespace; others and mounts need the right that is missing among those that
    # container engines leave.
    chroot "$root" setpriv --inh-caps=-all --bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap \
        "${command[@]}"
else
    cd "$root"
    # The old root lies on top of the new one until it goes.
    pivot_root . .
    umount -l .
    "${command[@]}"
fi
