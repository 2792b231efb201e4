# shellcheck shell=bash
# The extension for arm64: cross-compiled in the unstable system with Debian's own rustc, whose standard library for
# arm64 can be had; loaded by an arm64 PHP under qemu. Compiling under qemu would take hours. Sourced by script/matrix.
: "${cache:?}"

# arm64's PHP is unpacked only: nothing in it runs by itself, so the kernel needs no help for foreign programs.
make_arm64() {
    make_root arm64 unstable --architectures=arm64 --variant=extract \
        --include=php8.4-cli,php8.4-dev,php8.4-mbstring,php8.4-xml,php8.4-fpm
    [[ -e $cache/root-arm64/lib ]] || ln -s usr/lib "$cache/root-arm64/lib"
}

# The cross compiler, and rustc's library for arm64; rustc takes that of its own version only.
make_cross_compiler() {
    local root=$cache/root-unstable
    [[ -d $root/usr/lib/rustlib/aarch64-unknown-linux-gnu && -x $root/usr/bin/aarch64-linux-gnu-gcc ]] && return
    # shellcheck disable=SC2016 # expanded inside
    in_root unstable arm64 bash -c 'set -e
        dpkg --add-architecture arm64
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            rustc cargo gcc-aarch64-linux-gnu libc6-dev-arm64-cross
        cd "$(mktemp -d)"
        apt-get download -qq "libstd-rust-dev:arm64=$(dpkg-query -W -f="\${Version}" libstd-rust-dev)"
        dpkg-deb -x libstd-rust-dev_*_arm64.deb /'
}

# PHP and php-config as the build wants them: to be run here, and to tell of arm64.
write_cross_php() {
    local bin=$cache/root-unstable/usr/local/bin
    cp "$(command -v qemu-aarch64-static)" "$bin/qemu-aarch64-static"
    # shellcheck disable=SC2016 # expanded when it runs
    printf '#!/bin/sh\nexec qemu-aarch64-static -L /arm64 /arm64/usr/bin/php8.4 -n "$@"\n' >"$bin/php-arm64"
    sed 's|^prefix=.*|prefix=/arm64/usr|' "$cache/root-arm64/usr/bin/php-config8.4" >"$bin/php-config-arm64"
    chmod 755 "$bin/php-arm64" "$bin/php-config-arm64"
}

build_arm64() {
    write_cross_php
    in_root unstable arm64 env PATH=/usr/local/bin:/usr/bin:/bin \
        PHP=/usr/local/bin/php-arm64 PHP_CONFIG=/usr/local/bin/php-config-arm64 \
        CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        BINDGEN_EXTRA_CLANG_ARGS=-I/usr/aarch64-linux-gnu/include \
        script/build
}

# arm64_php: writes a command in the cache that is arm64's PHP on this machine, with the modules that PHPUnit needs.
# It calls itself by its own name, so that PHP_BINARY is the command, and tests start their processes by it.
arm64_php() {
    local bin=$cache/target-arm64/bin
    mkdir -p "$bin/conf.d"
    # Deprecations are PHPUnit 9.6's own.
    {
        echo 'error_reporting = E_ALL & ~E_DEPRECATED'
        printf 'extension=%s\n' tokenizer ctype dom mbstring xml xmlwriter posix ffi
    } >"$bin/conf.d/modules.ini"
    printf '#!/bin/sh\nexec qemu-aarch64-static -L %s -0 "%s" %s/usr/bin/php8.4 "$@"\n' \
        "$cache/root-arm64" "$bin/php" "$cache/root-arm64" >"$bin/php"
    chmod 755 "$bin/php"
}

# emulated_suite FOLDER NAMES: the lock itself and the atomic write, by that PHP, on this machine's Redis. The rest of the
# suite is about what emulation does not show: pace, signals at the right moment, strace, php-fpm.
emulated_suite() {
    local bin=$cache/target-arm64/bin
    local -a options=(--filter '/^((?!StormTest|testNobodyIsStarved|testAWaiterThatGivesUpMakesWay).)*$/')
    if [[ -n $2 ]]; then mapfile -t options < <(phpunit_options "$2"); fi
    PHP_INI_SCAN_DIR=$bin/conf.d CLUSTER_LOCK_SO=$cache/target-arm64/modules/cluster_lock.so \
        "$bin/php" "$(command -v phpunit)" -c php-tests/phpunit.xml --testsuite lock,file \
        --log-junit "$1/phpunit.xml" "${options[@]}"
}
