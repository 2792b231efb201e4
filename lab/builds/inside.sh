#!/usr/bin/env bash
# inside.sh ROOT TARGET COMMAND...: runs the command in that system. For in_root, in namespaces of its own.
set -euo pipefail

root=$1 target=$2
shift 2
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cargo_home=${CARGO_HOME:-$HOME/.cargo} rustup_home=${RUSTUP_HOME:-$HOME/.rustup}

# A system's "/" is a mount point.
mount --bind "$root" "$root"

# show FOLDER PLACE [OPTION]: this machine's folder, in the system
show() {
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    if [[ ${3:-} == ro ]]; then mount -o remount,bind,ro "$root$2"; fi
}
show "$project" /project ro
show "$target" /target
show "$cargo_home" "$cargo_home"
if [[ -d $rustup_home ]]; then show "$rustup_home" "$rustup_home"; fi
# The tests speak PHPUnit 9.6's language, later releases bring later ones.
show /usr/share/php /usr/share/php ro
if [[ -d ${root%/*}/root-arm64 ]]; then show "${root%/*}/root-arm64" /arm64 ro; fi
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
install "$(command -v phpunit)" "$root/usr/local/bin/phpunit"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
# Whom this machine trusts, with a proxy that its network may have.
if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
    mkdir -p "$root/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
fi

# In a chroot, the kernel would give no user namespace, which some tests want. The old root lies on top of the new one until
# it goes.
cd "$root"
pivot_root . .
umount -l .
# Nothing of this machine's environment.
exec env -i HOME="$HOME" LC_ALL=C.UTF-8 \
    PATH="$cargo_home/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    CARGO_HOME="$cargo_home" RUSTUP_HOME="$rustup_home" CARGO_TARGET_DIR=/target \
    bash -c 'cd /project && exec "$@"' bash "$@"
