# shellcheck shell=bash
# Servers of other releases of Debian, as programs of this machine: taken from a system's folder, started by that system's
# own loader with its own libraries. Sourced by script/matrix.
: "${cache:?}" "${ROOT:?}"

# with_loader ROOT PROGRAM FILE: writes FILE, which is that system's program
with_loader() {
    local loader
    loader=$(compgen -G "$1/usr/lib64/ld-linux-*" || compgen -G "$1/usr/lib/ld-linux-*") || die "$1 has no loader"
    printf '#!/bin/sh\nexec "%s" --argv0 "$0" --library-path "%s:%s" "%s" "$@"\n' \
        "$loader" "$(compgen -G "$1/usr/lib/*-linux-gnu")" "$1/usr/lib" "$2" >"$3"
    chmod 755 "$3"
}

# make_server NAME SUITE redis|valkey [FOLDER]: prints the folder with its redis-server and redis-cli, whichever the server
# is; FOLDER, in that system, is where it was unpacked
make_server() {
    local programs=$cache/servers/$1 root=$cache/root-$2 p
    mkdir -p "$programs"
    for p in server cli; do
        with_loader "$root" "$root${4:-}/usr/bin/$3-$p" "$programs/redis-$p"
    done
    echo "$programs"
}

# this_machines_server: the same for its own
this_machines_server() {
    local programs=$cache/servers/redis-host p
    mkdir -p "$programs"
    for p in server cli; do ln -sfn "$(command -v "redis-$p")" "$programs/redis-$p"; done
    echo "$programs"
}

# unpack_from_experimental: Redis as experimental has it, in /opt/experimental of the unstable system
unpack_from_experimental() {
    # shellcheck disable=SC2016 # expanded inside
    in_root unstable servers bash -c 'set -e
        apt-get update -qq
        rm -rf /opt/experimental
        mkdir -p /opt/experimental
        cd "$(mktemp -d)"
        apt-get download -qq redis-server/experimental redis-tools/experimental
        for package in *.deb; do dpkg-deb -x "$package" /opt/experimental; done'
}
