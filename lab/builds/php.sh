# shellcheck shell=bash
# PHP from Debian's source package, in the ways that Debian does not build it. Sourced by script/matrix, script/memory.

# Where all that is built stays.
cache=${CLUSTER_LOCK_MATRIX:-${XDG_CACHE_HOME:-$HOME/.cache}/cluster_lock/matrix}

# The packages that its build needs, and that of the roots.
need_packages() {
    local p missing=()
    for p in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null || true) == ii* ]] || missing+=("$p")
    done
    ((${#missing[@]})) || return 0
    say "to install: ${missing[*]}"
    apt-get update -qq -o DPkg::Lock::Timeout=300
    env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "${missing[@]}"
}

# fetch_source RELEASE PACKAGE: the source package, by a sources.list of its own: the machine's stays as it is
fetch_source() {
    local folder=$cache/src/$1-$2
    compgen -G "$folder/*.dsc" >/dev/null && return
    rm -rf "$folder"
    mkdir -p "$folder/lists/partial"
    printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
        "${CLUSTER_LOCK_MIRROR:-http://deb.debian.org/debian}" "$1" >"$folder/sources.list"
    local -a own=(-o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::lists=$folder/lists" -o APT::Sandbox::User=root)
    (cd "$folder" && apt-get update -qq "${own[@]}" && apt-get source -qq --download-only "${own[@]}" "$2")
}

# unpack_debian RELEASE PACKAGE FOLDER
unpack_debian() {
    fetch_source "$1" "$2"
    rm -rf "$3"
    mkdir -p "$(dirname "$3")"
    dpkg-source --no-check -x "$cache/src/$1-$2"/*.dsc "$3"
}

# What PHPUnit and the tests need of a PHP, and nothing else.
php_options=(--disable-all --disable-phpdbg
    --enable-cli --enable-cgi --enable-fpm --enable-embed=static --enable-pcntl --enable-posix --enable-opcache
    --with-libxml --enable-dom --enable-xml --enable-xmlwriter --enable-xmlreader --enable-simplexml
    --enable-session --enable-mbstring --disable-mbregex --enable-tokenizer --enable-ctype --enable-filter --enable-phar
    --with-ffi)

# make_php NAME OPTION...: builds Debian 12's with these options of configure, and its programs with the object file
# $with_object; at once when it is there
make_php() {
    local name=$1 tree=$cache/php-$1 lock
    local -a linking=()
    if [[ -n ${with_object:-} ]]; then linking=("EXTRA_LDFLAGS_PROGRAM=$with_object"); fi
    shift
    [[ -x $tree/installed/bin/php-config ]] && return
    mkdir -p "$cache"
    exec {lock}>"$tree.lock"
    # Somebody else's run may be building it.
    flock "$lock"
    if [[ ! -x $tree/installed/bin/php-config ]]; then build_php "$name" "$@"; fi
    exec {lock}>&-
}

build_php() {
    local tree=$cache/php-$1
    shift
    need_packages autoconf bison re2c libtool pkg-config dpkg-dev gcc make libxml2-dev libffi-dev
    unpack_debian bookworm php8.2 "$tree"
    (
        cd "$tree" || exit
        ./buildconf --force
        ./configure --prefix="$tree/installed" "${php_options[@]}" "$@"
        make -j"$(nproc)" "${linking[@]}"
        make install "${linking[@]}"
    )
}

# As people run it, with threads.
make_php_zts() { make_php zts --enable-zts; }
# For finding leaks and wild accesses: threads, PHP's own checks of its heap.
make_php_debug() { make_php zts-debug --enable-zts --enable-debug; }
# AddressSanitizer, which is slow, and slower without any optimisation.
make_php_asan() {
    local with_object=$cache/lsan_children.o
    mkdir -p "$cache"
    gcc -O1 -c -o "$with_object" "$ROOT/lab/builds/lsan_children.c"
    CFLAGS='-g1 -O1' make_php asan --enable-zts --enable-address-sanitizer
}

# with_php NAME COMMAND...: with that PHP and a target directory of its own
with_php() {
    local name=$1 tree=$cache/php-$1
    shift
    env PHP="$tree/installed/bin/php" PHP_CONFIG="$tree/installed/bin/php-config" \
        PHP_FPM="$tree/installed/sbin/php-fpm" CARGO_TARGET_DIR="$cache/target-$name" "$@"
}

# with_php_seen NAME COMMAND...: the same to be looked into. Debug information is what a finding is told with; whole-program
# optimisation would only cost time.
with_php_seen() {
    local name=$1
    shift
    with_php "$name" env CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_DEBUG=line-tables-only \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 "$@"
}

with_php_zts() { with_php zts "$@"; }
with_php_debug() { with_php_seen zts-debug "$@"; }

# The same for the sanitizer: our Rust and C code is instrumented, too. rustc has that behind a switch for its own
# developers; a target named makes cargo spare build scripts and macros.
with_php_asan() {
    with_php_seen asan env RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_BUILD_TARGET="$(uname -m)-unknown-linux-gnu" \
        CFLAGS='-fsanitize=address -fno-omit-frame-pointer' \
        USE_ZEND_ALLOC=0 USE_TRACKED_ALLOC=1 \
        ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS="suppressions=$ROOT/lab/builds/lsan.supp:print_suppressions=0" "$@"
}
