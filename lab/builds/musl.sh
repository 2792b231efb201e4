# shellcheck shell=bash
# The extension for musl: in the unstable system, with Debian's rustc, which has Rust's standard library as source, and a
# PHP built by musl-gcc. Sourced by script/matrix.
: "${cache:?}" "${ROOT:?}" "${php_options[0]:?}"

musl_target=$(uname -m)-unknown-linux-musl

# in_musl COMMAND...: in the project's folder in that system, with what cargo and the project's scripts want to know
in_musl() {
    local upper=${musl_target^^}
    in_root unstable musl env PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin \
        PHP=/target/php/bin/php PHP_CONFIG=/target/php/bin/php-config PHP_FPM=/target/php/sbin/php-fpm \
        CARGO_BUILD_TARGET="$musl_target" RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_unwind \
        CC=musl-gcc HOST_CC=gcc "CC_${musl_target//-/_}=musl-gcc" "CARGO_TARGET_${upper//-/_}_LINKER=musl-gcc" \
        BINDGEN_EXTRA_CLANG_ARGS="-isystem /usr/include/$(uname -m)-linux-musl" \
        RUSTFLAGS="-C target-feature=-crt-static -C link-self-contained=no -L native=/target/unwind" "$@"
}

make_musl_compiler() {
    # shellcheck disable=SC2016 # expanded inside
    in_root unstable musl bash -c 'set -e
        if ! dpkg-query -W rust-src musl-tools libtool >/dev/null 2>&1; then
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
                rustc cargo rust-src musl-tools linux-libc-dev autoconf automake bison re2c libtool
        fi
        # musl brings no headers of the kernel.
        machine=$(uname -m)
        ln -sfn /usr/include/linux /usr/include/asm-generic "/usr/include/$machine-linux-musl/"
        ln -sfn "/usr/include/$machine-linux-gnu/asm" "/usr/include/$machine-linux-musl/asm"
        # What unwinds in Debian asks glibc for the tables; musl is asked in another way.
        mkdir -p /target/unwind
        cd /target/unwind
        musl-gcc -O2 -Wall -Wextra -Werror -fPIC -c -o find_object.o /project/lab/builds/musl_find_object.c
        ar rcs libfind_object.a find_object.o
        echo "INPUT($(gcc -print-file-name=libgcc_eh.a) libfind_object.a)" >libgcc_s.so'
}

# PHP, and the two libraries that PHPUnit and the tests want it to have.
make_php_musl() {
    local target=$cache/target-musl
    [[ -x $target/php/bin/php-config ]] && return
    need_packages dpkg-dev
    unpack_debian bookworm libxml2 "$target/build/libxml2"
    unpack_debian bookworm libffi "$target/build/libffi"
    unpack_debian bookworm php8.2 "$target/build/php"
    # shellcheck disable=SC2016 # expanded inside
    in_root unstable musl env CC=musl-gcc LIBXML_CFLAGS=-I/target/libraries/include/libxml2 \
        LIBXML_LIBS='-L/target/libraries/lib -lxml2' FFI_CFLAGS=-I/target/libraries/include \
        FFI_LIBS='-L/target/libraries/lib -lffi' bash -c 'set -e
        library() (
            cd "/target/build/$1"
            ./configure --prefix=/target/libraries --libdir=/target/libraries/lib --disable-shared --with-pic "${@:2}"
            # Patches may be newer than what was generated, and are not about it.
            make -j"$(nproc)" AUTOCONF=: AUTOHEADER=: AUTOMAKE=: ACLOCAL=: install
        )
        library libxml2 --without-python --without-zlib --without-lzma --without-icu --without-readline
        library libffi --disable-docs --disable-multi-os-directory --disable-exec-static-tramp
        cd /target/build/php
        ./buildconf --force
        ./configure --prefix=/target/php "$@"
        make -j"$(nproc)"
        make install' bash "${php_options[@]}"
}

# What musl calls itself, as `musl 1.2.6`.
name_musl() { in_root unstable musl sh -c '/lib/ld-musl-*.so.1 2>&1 || :' | sed -n 's/^Version /musl /p'; }
