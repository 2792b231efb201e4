#!/bin/sh
# install.sh FOLDER: installs, in an image with PHP, what fits it of a release's files in that folder: the extension, and the
# command where it is among them. For the Dockerfiles beside it.
set -eu

cd "$1"
# What PIE calls this PHP and this machine (packaging/README.md).
platform=$(php -n -r '
    $libc = str_contains(file_get_contents(PHP_BINARY, false, null, 0, 65536), "/ld-musl-") ? "musl" : "glibc";
    echo "php", PHP_MAJOR_VERSION, ".", PHP_MINOR_VERSION, "-", strtr(php_uname("m"), ["aarch64" => "arm64"]), "-linux-$libc",
        PHP_DEBUG ? "-debug" : "", PHP_ZTS ? "-zts" : "-nts";')
libc=${platform##*-linux-}

# taken PATTERN: the one file of that name, whose sum is right
taken() {
    # shellcheck disable=SC2086 # the shell's own list of the files
    set -- $1
    if [ $# -gt 1 ]; then
        echo "install.sh: $# files are of this kind: $*" >&2
        exit 1
    fi
    [ -f "$1" ] || return 0
    grep -F "  $1" SHA256SUMS | sha256sum -c - >&2
    echo "$1"
}

file=$(taken "php_cluster_lock-*_$platform.tgz")
if [ -z "$file" ]; then
    echo "install.sh: there is no php_cluster_lock-VERSION_$platform.tgz, which this PHP needs; there is:" ./* >&2
    exit 1
fi
tar -xzf "$file" -C "$(php-config --extension-dir)" cluster_lock.so
docker-php-ext-enable cluster_lock
file=$(taken "cluster-lock-*-$(uname -m)-linux-${libc%%-*}.tar.gz")
if [ -n "$file" ]; then tar -xzf "$file" -C /usr/local --strip-components=1 --no-same-owner; fi
# A lock, on this machine's disk: nothing is missing that the extension needs.
php -d cluster_lock.dsn=local: -r 'exit(cluster_lock("install.sh") && cluster_unlock("install.sh") ? 0 : 1);'
