# shellcheck shell=bash
# The tests of script/package, which sources this: one function for each.
: "${ROOT:?}" "${packages:?}" "${version:?}" "${released:?}" "${tests:?}"
# shellcheck source=lab/builds/php.sh
source lab/builds/php.sh
# shellcheck source=lab/builds/roots.sh
source lab/builds/roots.sh

# fail WHAT: ends the test
fail() {
    warn "$*"
    exit 1
}

# has WHAT FILE LINE-PATTERN
has() { grep -Eq -- "$3" "$2" || fail "$1 lacks $3"; }
has_not() { if grep -Eq -- "$3" "$2"; then fail "$1 has $(grep -E -m 1 -- "$3" "$2")"; fi; }

# The working tree's tracked files as they are now, as a commit that no branch knows.
snapshot() {
    local commit
    commit=$(git -c user.name=snapshot -c user.email=snapshot@localhost stash create)
    echo "${commit:-$(git rev-parse HEAD)}"
}

# What script/build has built, staged for the packages; cargo has next to nothing to do when it is up to date.
stage_built() {
    script/build >"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "script/build failed"; }
    script/build --cli >"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "script/build --cli failed"; }
    stage "$ROOT" "$(target_dir)/release" "$1"
}

# ---- quick ---------------------------------------------------------------------------------------------------

test_version() {
    local rust file
    check_version version
    # What was built for another PHP says nothing to this one.
    mkdir "$work/modules"
    touch "$work/modules/cluster_lock.so"
    MODULES=$work/modules check_version version >"$work/log" 2>&1 || { cat "$work/log"; fail "the extension of another PHP is in the way"; }
    # Without a tool that it asks it says so, and no more.
    mkdir "$work/bin"
    ln -s "$(command -v basename)" "$work/bin/"
    if (PATH=$work/bin check_version version) >"$work/log" 2>&1; then fail "nothing is said without cargo"; fi
    [[ $(cat "$work/log") == *'cargo was not found: run script/bootstrap'* && $(wc -l <"$work/log") == 1 ]] ||
        fail "without cargo it says: $(cat "$work/log")"
    # So is the oldest Rust that will do.
    rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    has "configure" packaging/pie/config.m4 "^ *cluster_lock_rust=$rust\$"
    for file in packaging/docker/*Dockerfile; do has "$file" "$file" "^ARG RUST=$rust\$"; done
    has "script/bootstrap" script/bootstrap "^rust_needed=$rust\$"
    # And the PHPs that it is for.
    lab/builds/versions.py --check || fail "not every page says which PHPs it was run on"
    mkdir -p "$work/stale"
    git ls-files -z '*.md' '*composer.json' docs script stubs | xargs -0 cp --parents -t "$work/stale"
    sed -i -E 's/PHP 8\.[0-9]+ to 8\.[0-9]+/PHP 8.1 to 8.9/' "$work/stale/docs/install.md"
    sed -i -E '/versions:start/{n;s/8\.[0-9]+\.[0-9]+/8.3.0/}' "$work/stale/README.md"
    if (cd "$work/stale" && "$ROOT/lab/builds/versions.py" --check) 2>"$work/stale.log"; then fail "another PHP goes unseen"; fi
    has "the report of other PHPs" "$work/stale.log" '^docs/install.md does not say'
    has "the report of other PHPs" "$work/stale.log" '^README.md does not say'
    # And it does see when it is not.
    if version=99.9.9 bash -c 'source script/lib.sh; source packaging/version.sh; find_php; check_version version' \
        >"$work/drift" 2>&1; then
        fail "a drift goes unseen"
    fi
    has "the report of a drift" "$work/drift" 'CHANGELOG.md, its first entry says'
    has "the report of a drift" "$work/drift" 'Cargo.lock says'
    has "the report of a drift" "$work/drift" 'crate cluster-lock-core says'
}

# In a clone, whose releases nobody gets.
test_release() {
    local clone="$work/a clone" wrong before
    is_checkout || { skip release "this is not a checkout"; return; }
    git clone -q --shared --no-checkout "$ROOT" "$clone"
    git -C "$clone" tag --list | xargs -r git -C "$clone" tag -d >/dev/null
    git -C "$clone" checkout -q --detach "$(snapshot)"
    cd "$clone"
    git config user.name release && git config user.email release@localhost
    # What the tables say of this machine's PHPs is another test's.
    sed -i -z -E 's/[ \n]Not PHP[^<]*(<!-- versions:end)/\n\1/' README.md
    printf '#!/bin/sh\n' >lab/builds/versions.py
    printf -- '-- Another script.\n' >>core/src/store/scripts/renew.lua
    printf 'tar -xzf cluster_lock-%s.tar.gz\n' "$version" >>docs/install.md
    # By somebody whose locale has no dash.
    LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 script/release --set 98.7.6-rc.1 >"$work/log" 2>&1 || { cat "$work/log"; fail "the version cannot be set"; }
    script/package --check-version >"$work/log" 2>&1 || { cat "$work/log"; fail "--set has forgotten a place"; }
    has "docs/install.md" docs/install.md '^tar -xzf cluster_lock-98\.7\.6-rc\.1\.tar\.gz$'
    has "CHANGELOG.md" CHANGELOG.md '^## 98\.7\.6-rc\.1 – unreleased$'
    # The release comes after those that it was tried out by.
    printf -- '-- And another one.\n' >>core/src/store/scripts/renew.lua
    script/release --set 98.7.6 >"$work/log" 2>&1 || { cat "$work/log"; fail "the version cannot be set"; }
    script/package --check-version >"$work/log" 2>&1 || { cat "$work/log"; fail "--set has forgotten a place"; }
    has "CHANGELOG.md" CHANGELOG.md '^## 98\.7\.6 – unreleased$'
    cmp core/src/store/scripts/renew.lua core/tests/wire/98.7.6/renew.lua || fail "the scripts are not kept"
    cmp core/tests/wire/calls core/tests/wire/98.7.6/calls || fail "how the scripts are called is not kept"
    git add -A && git commit -q -m "As the tests want it"
    git tag 9999-backup
    script/release --check >"$work/log" 2>&1 || { cat "$work/log"; fail "something is in the way"; }

    # All that is in the way at once, and nothing but that.
    git tag 98.7.6
    git tag 98.7.7
    printf -- '-- Changed since.\n' >>core/src/store/scripts/renew.lua
    sed -i 's/98\.7\.6-polyfill/98.7.5-polyfill/' packages/polyfill/src/Status.php
    sed -i 's/^## 98\.7\.6 – .*/## 98.7.6 – 2026-01-01/' CHANGELOG.md
    sed -i 's/<!-- versions:end -->/Not PHP 8.3.\n&/' README.md
    if script/release --check --despite changelog >"$work/log" 2>&1; then fail "what is in the way goes unseen"; fi
    for wrong in 'version: packages/polyfill/src/Status.php says' 'uncommitted: [0-9]+ files' 'tag: 98.7.6 is there already' \
        'tag: 98.7.7 is newer' 'scripts: core/src/store/scripts is not what' 'tested: docs/tested.md: Not PHP 8.3' \
        'despite changelog: CHANGELOG.md.s first entry' '6 in the way'; do
        has "the report" "$work/log" "$wrong"
    done
    git tag -d 98.7.6 98.7.7 >/dev/null
    git checkout -q .

    # What fails, or is ended, leaves nothing, also of what is not committed.
    before=$(git rev-parse HEAD)
    leaves_nothing() { # WHAT
        [[ $(git rev-parse HEAD) == "$before" && -z $(git tag --list '98.*')$(git status --porcelain) ]] ||
            fail "$1 leaves something: $(git log --oneline -n 1; git tag; git status --porcelain)"
    }
    if script/release --finish nothing >"$work/log" 2>&1; then fail "a release of nothing is made"; fi
    has "its report" "$work/log" 'no release was made'
    leaves_nothing "a release that failed"
    printf '#!/bin/sh\nexit 1\n' >.git/hooks/pre-commit
    chmod 755 .git/hooks/pre-commit
    if script/release --finish source >"$work/log" 2>&1; then fail "a release without a commit is made"; fi
    leaves_nothing "a release that could not be committed"
    rm .git/hooks/pre-commit
    # git is the hook's parent.
    printf '#!/bin/bash\nread -r _ _ _ release _ </proc/$PPID/stat\nkill -TERM "$release"\n' >.git/hooks/post-commit
    chmod 755 .git/hooks/post-commit
    if (script/release --finish source; exit) >"$work/log" 2>&1; then fail "a release that was ended is made"; fi
    leaves_nothing "a release that was ended"
    rm .git/hooks/post-commit
    printf '* What else there is.\n' >>CHANGELOG.md
    if script/release --finish --despite uncommitted nothing >"$work/log" 2>&1; then fail "a release of nothing is made"; fi
    has "CHANGELOG.md" CHANGELOG.md '^\* What else there is\.$'
    has "CHANGELOG.md" CHANGELOG.md '^## 98\.7\.6 – unreleased$'
    git checkout -q .
    leaves_nothing "a release that failed"

    # What does not fail is dated, made, compared and tagged.
    script/release --finish source >"$work/log" 2>&1 || { cat "$work/log"; fail "no release is made"; }
    [[ $(git cat-file -t 98.7.6) == tag && $(git rev-parse "98.7.6^{commit}") == $(git rev-parse HEAD) ]] || fail "there is no tag"
    [[ -z $(git status --porcelain) ]] || fail "something is not committed"
    git tag -a -m "Another tag of this commit" zzz
    script/package --check-release >"$work/log.check" 2>&1 || { cat "$work/log.check"; fail "it is none"; }
    has "CHANGELOG.md" CHANGELOG.md "^## 98\.7\.6 – $(date -u +%F)\$"
    has "its report" "$work/log" '^ *cluster_lock-98\.7\.6\.tar\.gz$'
    has "its report" "$work/log" '^ *git push origin HEAD 98\.7\.6$'
    uploads "$work/log" >"$work/uploaded"
    printf '%s\n' release create 98.7.6 --verify-tag --title "cluster_lock 98.7.6" --notes-file - SHA256SUMS cluster_lock-98.7.6.tar.gz |
        diff - "$work/uploaded" || fail "another command uploads it"
    if script/release --set 98.7.6 >"$work/log" 2>&1; then fail "a version that is released is set again"; fi
    has "its report" "$work/log" 'is released: its tag is there'
    # The next one has an entry of its own.
    script/release --set 98.8.0-rc.1 >"$work/log" 2>&1 || { cat "$work/log"; fail "the next version cannot be set"; }
    has "CHANGELOG.md" CHANGELOG.md '^## 98\.8\.0-rc\.1 – unreleased$'
    has "CHANGELOG.md" CHANGELOG.md '^## 98\.7\.6 – '
    script/package --check-version >"$work/log" 2>&1 || { cat "$work/log"; fail "--set has forgotten a place"; }
    [[ ! -e core/tests/wire/98.8.0-rc.1 ]] || fail "scripts that are the same are kept twice"
    sed -i '0,/^## 98\.8\.0/s/^## 98\.8\.0.*/&\n\n* News./' CHANGELOG.md
    git commit -q -a -m "The next version"
    script/release --finish source >"$work/log" 2>&1 || { cat "$work/log"; fail "no release is made of the next version"; }
    uploads "$work/log" >"$work/uploaded"
    has "what uploads a version to be tried out" "$work/uploaded" '^--prerelease$'
}

# uploads LOG: runs what --finish says, with a gh that prints its arguments and wants notes
uploads() {
    mkdir -p "$work/bin"
    printf '#!/bin/sh\nprintf "%%s\\n" "$@"\ngrep -q .\n' >"$work/bin/gh"
    chmod 755 "$work/bin/gh"
    sed -n '/^   git push/,/^$/{/^   git push/!p}' "$1" | PATH=$work/bin:$PATH bash -euo pipefail
}

# prefers_binaries COMPOSER.JSON: PIE is to look for a binary of this PHP among the release's files, and to build from source
# where there is none.
prefers_binaries() {
    "$PHP" -n -r 'exit(json_decode(file_get_contents($argv[1]), true)["php-ext"]["download-url-method"]
        === ["pre-packaged-binary", "composer-default"] ? 0 : 1);' "$1"
}

# accepted_by_composer FOLDER. Debian 12's does not know php-ext, and would not have it published; before 2.9.5 it knows but
# one way of downloading, and not several.
accepted_by_composer() {
    local composer
    composer=$(COMPOSER_ALLOW_SUPERUSER=1 composer --version --no-ansi --no-interaction | sed -nE 's/^Composer (version )?([0-9.]+).*/\2/p')
    if dpkg --compare-versions "$composer" ge 2.6 && dpkg --compare-versions "$composer" lt 2.9.5; then
        sed -i '/"download-url-method"/d' "$1/composer.json"
    fi
    COMPOSER_ALLOW_SUPERUSER=1 composer validate --no-check-publish --no-interaction --working-dir="$1"
}

test_source() {
    local commit first=$work/first.tar.gz second=$work/second.tar.gz
    is_checkout || { skip source "this is not a checkout"; return; }
    commit=$(snapshot)
    make_source "$commit" "$first"
    # As somebody else with other habits.
    (
        umask 077
        export TZ=Pacific/Apia GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=tar.umask GIT_CONFIG_VALUE_0=0077
        make_source "$commit" "$second"
    )
    cmp "$first" "$second" || fail "the same commit gave two sources"
    tar -tzf "$first" | sed "s|^cluster_lock-$version/||" >"$work/files"
    for file in composer.json Cargo.lock build.rs src/lib.rs src/zend_shim.c core/Cargo.toml core/src/lib.rs \
        core/src/store/scripts/acquire.lua lab/fault-proxy/Cargo.toml packaging/pie/config.m4 packaging/pie/Makefile.frag \
        packaging/docker/Dockerfile stubs/cluster_lock.stubs.php script/build script/package LICENSE; do
        grep -qx "$file" "$work/files" || fail "the source lacks $file"
    done
    has_not "the source" "$work/files" '^(\.ci|\.github|bench|cli/tests|core/(fuzz|tests)|docs/tests|lab/(builds|chaos|demo|nfs)|packages/([^w][^/]*|wordpress/(screenshots|stand|tests))|php-tests|target)/'
    # shellcheck source=packaging/root.sh
    source packaging/root.sh
    grep . "$work/files" | strangers "the source" || fail "a stray file is in the source"
    unpack_source "$first" "$work/tree"
    # cargo is content with it as it is: every member of the workspace is there, and the lock file fits.
    (cd "$work/tree" && cargo metadata --format-version 1 --locked >/dev/null)
    prefers_binaries "$work/tree/composer.json" || fail "composer.json does not let PIE take a binary (packaging/README.md)"
    mkdir "$work/composer"
    cp "$work/tree/composer.json" "$work/composer/"
    accepted_by_composer "$work/composer" >"$work/log" 2>&1 || { cat "$work/log"; fail "composer does not accept composer.json"; }
    # Where it was unpacked, script/package does what it says: there is all that it reads.
    (cd "$work/tree" && script/package --list && script/package --check-version) >"$work/log" 2>&1 ||
        { cat "$work/log"; fail "script/package does not work in the unpacked source"; }
    has_not "script/package in the unpacked source" "$work/log" 'No such file|not found'
    if (cd "$work/tree" && script/package --test version) >"$work/log" 2>&1; then
        fail "script/package --test runs without its tests"
    fi
    has "script/package --test in the unpacked source" "$work/log" 'the tests are not part of a release.s source'
    say "$(wc -l <"$work/files") files, $(stat -c %s "$first" | numfmt --to=iec-i --suffix=B), $(sha256sum "$first" | cut -c 1-16)…"
}

test_binary() {
    local file folder=$work/extracted name size
    stage_built "$work/stage"
    mkdir "$work/first" "$work/second" "$folder"
    make_binary "$work/stage" "$work/first"
    make_binary "$work/stage" "$work/second"
    file=$(compgen -G "$work/first/*")
    cmp "$file" "$work/second/${file##*/}" || fail "the same extension gave two files"
    # What an interrupted run has left is not part of a release.
    touch "$work/second/${file##*/}.new"
    make_sums "$work/second"
    [[ $(awk '{ print $2 }' "$work/second/SHA256SUMS") == "${file##*/}" ]] || fail "SHA256SUMS has $(cat "$work/second/SHA256SUMS")"
    # What phpinfo() says, in PIE's words.
    "$PHP" -n -i >"$work/phpinfo"
    name=php_cluster_lock-${version}_php$PHP_MINOR-$(uname -m | sed s/aarch64/arm64/)-linux-
    if [[ $("$PHP" -n -r 'echo PHP_OS;') == Linux && $(ldd "$PHP" 2>&1) == *ld-musl-* ]]; then name+=musl; else name+=glibc; fi
    if grep -q '^Debug Build => yes' "$work/phpinfo"; then name+=-debug; fi
    if grep -q '^Thread Safety => enabled' "$work/phpinfo"; then name+=-zts; else name+=-nts; fi
    [[ ${file##*/} == "$name.tgz" ]] || fail "the file is ${file##*/}, and PIE would look for $name.tgz"
    # Composer unpacks it with PHP's phar; then PIE takes the .so from the top.
    "$PHP" -r '(new PharData($argv[1]))->extractTo($argv[2]);' "$file" "$folder"
    [[ $("$PHP" -n -d "extension=$folder/cluster_lock.so" -r 'echo phpversion("cluster_lock");') == "$version" ]] ||
        fail "$PHP does not load what was unpacked"
    has "THIRD-PARTY" "$folder/THIRD-PARTY" '^  redis [0-9.]*: BSD-3-Clause$'
    size=$(stat -c %s "$folder/cluster_lock.so")
    ((size <= 3500000)) || fail "the extension has $size bytes, and 3.5 MB is what it may have"
    say "${file##*/}: $(stat -c %s "$file") bytes, cluster_lock.so $size"
}

test_debs() {
    local deb root=$work/root so
    need_packages debhelper dh-php lintian
    stage_built "$work/stage"
    mkdir "$work/first" "$work/second" "$root"
    make_debs "$work/stage" "$work/first"
    # As somebody else, who is not root either, where the kernel allows that.
    (
        umask 077
        if unshare --user --map-user=1000 --map-group=1000 true 2>/dev/null; then
            # shellcheck disable=SC2016 # expanded inside
            unshare --user --map-user=1000 --map-group=1000 bash -euc '
                source script/lib.sh; source packaging/make.sh; find_php
                released=$1; make_debs "${@:2}"' bash "$released" "$work/stage" "$work/second"
        else
            make_debs "$work/stage" "$work/second"
        fi
    )
    # A host of releases may change other signs in a file's name, and then its sum is that of another file.
    mkdir "$work/names"
    version=98.7.6-rc.1 make_debs "$work/stage" "$work/names"
    [[ $(cd "$work/names" && compgen -G '*98.7.6-rc.1_*.deb' | grep -vc '[^A-Za-z0-9._-]') == 3 ]] ||
        fail "files of a version that is tried out are called $(cd "$work/names" && echo *)"
    [[ $(dpkg-deb -f "$work/names"/cluster-lock-common_*.deb Version) == '98.7.6~rc.1' ]] || fail "it does not come before its release"
    for deb in "$work"/first/*.deb; do
        cmp "$deb" "$work/second/${deb##*/}" || fail "the same files gave two packages"
        dpkg-deb -x "$deb" "$root"
    done
    deb=$(compgen -G "$work/first/cluster-lock-php${PHP_MINOR}_*.deb")
    dpkg-deb -e "$deb" "$work/control"
    [[ $(dpkg-deb -f "$deb" Version) == "${version/-/\~}" ]] || fail "the package's version is $(dpkg-deb -f "$deb" Version)"
    has "the package" "$work/control/control" "^Depends: .*phpapi-$("$PHP_CONFIG" --phpapi).*libc6"
    has "the package's conffiles" "$work/control/conffiles" "^/etc/php/$PHP_MINOR/mods-available/cluster_lock.ini$"
    has "the package's postinst" "$work/control/postinst" 'php_invoke enmod'
    has "the package's ini" "$root/etc/php/$PHP_MINOR/mods-available/cluster_lock.ini" '^; priority=20$'
    so=$root$("$PHP_CONFIG" --extension-dir)/cluster_lock.so
    [[ $("$PHP" -n -d "extension=$so" -r 'echo phpversion("cluster_lock");') == "$version" ]] || fail "$PHP does not load $so"
    "$PHP" -n -l "$root/usr/share/cluster-lock-php/stubs/cluster_lock.stubs.php" >/dev/null
    "$PHP" -n -l "$root/usr/share/cluster-lock-php/wordpress/cluster-lock.php" >/dev/null
    # Licences that ask for it: BSD's and ISC's texts go with the binary.
    gzip -dc "$root/usr/share/doc/cluster-lock-php$PHP_MINOR/THIRD-PARTY.gz" >"$work/third-party"
    has "THIRD-PARTY" "$work/third-party" '^  redis [0-9.]*: BSD-3-Clause$'
    has "THIRD-PARTY" "$work/third-party" 'Redistributions in binary form must reproduce'
    [[ $("$root/usr/bin/cluster-lock" --version) == *" $version" ]] || fail "the command does not tell its version"
    [[ -s $root/usr/share/man/man1/cluster-lock.1.gz ]] || fail "there is no manual page"
    bash -n "$root/usr/share/bash-completion/completions/cluster-lock"
    # The maintainer's address is that of whoever builds it (DEBEMAIL).
    lintian --allow-root --fail-on error,warning --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog \
        "$work"/first/*.deb
    say "$(cd "$work/first" && printf '%s ' *.deb)"
}

# phpize_here OPTION...: the sequence in packaging/pie's copy, the current folder; options are make's
phpize_here() {
    local -a php=("--with-php-config=$PHP_CONFIG")
    "$(dirname "$PHP_CONFIG")/$(basename "$PHP_CONFIG" | sed s/php-config/phpize/)"
    ./configure "${php[@]}"
    make "$@"
    NO_INTERACTION=1 REPORT_EXIT_STATUS=1 make test "$@"
    # As sudo would: without cargo.
    make install INSTALL_ROOT="$work/installed" "$@" CARGO=false
}

# That it was installed, and PHP loads it.
loads_installed() {
    local so
    so=$work/installed$("$PHP_CONFIG" --extension-dir)/cluster_lock.so
    [[ $("$PHP" -n -d "extension=$so" -r 'echo phpversion("cluster_lock");') == "$version" ]] || fail "$PHP does not load $so"
    [[ $(cd "$work/installed" && find . -type f | wc -l) == 1 ]] || fail "more was installed than the extension"
}

test_phpize() {
    script/build >"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "script/build failed"; }
    cp -r packaging/pie "$work/pie"
    cd "$work/pie"
    export CLUSTER_LOCK_SOURCE=$ROOT
    phpize_here CARGO_TARGET_DIR="$(target_dir)" PHP_EXECUTABLE="$PHP" >"$work/log" 2>&1 ||
        { tail -n 60 "$work/log"; fail "the sequence failed"; }
    has "make test" "$work/log" 'Tests passed +: +2 '
    loads_installed
    # A Rust that is too old is refused by configure, in words.
    printf '#!/bin/sh\necho "rustc 1.85.0 (4d91de4e4 2025-02-17)"\n' >"$work/rustc"
    chmod 755 "$work/rustc"
    if ./configure RUSTC="$work/rustc" >"$work/log" 2>&1; then fail "configure takes Rust 1.85"; fi
    has "configure's refusal" "$work/log" 'is 1\.85, and cluster_lock needs 1\.88 or later'
    # One that fails is heard to its end: rustup's says in its second line what to do.
    printf '#!/bin/sh\n%s\n%s\nexit 1\n' \
        'echo "error: rustup could not choose a version of rustc to run, because no default is configured." >&2' \
        "echo \"help: run 'rustup default stable' to download the latest stable release of Rust.\" >&2" >"$work/rustc"
    local tool
    for tool in RUSTC CARGO; do
        if ./configure "$tool=$work/rustc" >"$work/log" 2>&1; then fail "configure takes a $tool that fails"; fi
        has "configure's refusal" "$work/log" "^configure: error: .*/rustc --version fails with exit status 1:"
        has "configure's refusal" "$work/log" '^error: rustup could not choose a version of rustc to run, because no default'
        has "configure's refusal" "$work/log" "^help: run 'rustup default stable' to download"
        has "configure's refusal" "$work/log" '^If this is rustup.s without a default toolchain: .*rustup default stable'
    done
}

# The server that the examples start, and the settings that the nodes have, but for the places.
test_examples() {
    local port secret=$work/redis_password ini=$work/cluster_lock.ini file
    stage_built "$work/stage"
    port=$(free_port)
    (umask 077 && od -An -N 32 -t x1 /dev/urandom | tr -d ' \n' >"$secret")
    trap stop_all EXIT
    TMPDIR=$work start "$work/redis.log" sh packaging/examples/redis.sh "$secret" --port "$port" --bind 127.0.0.1 --dir "$work"
    wait_until "the examples' Redis" eval "redis-cli -p $port ping | grep NOAUTH" || { cat "$work/redis.log"; fail "no Redis"; }
    sed -e "s|@redis:6379|@127.0.0.1:$port|; s|/run/secrets/redis_password|$secret|" packaging/examples/cluster_lock.ini >"$ini"
    echo "extension=$work/stage/cluster_lock.so" >>"$ini"
    # What others may not: not even to look at the keys.
    [[ $(redis-cli -p "$port" keys '*' 2>&1) == *NOAUTH* ]] || fail "the examples' Redis lets anybody in"
    CLUSTER_LOCK_NODE=web1 "$PHP" -n -c "$ini" -r '
        // A server without a trace of locks lets nobody in for the time of grace: the first caller is told to wait.
        exit(ini_get("cluster_lock.node") === "web1" && cluster_lock("hello", 0) === false && error_get_last() === null ? 0 : 1);' ||
        fail "the settings of the examples do not lead to a lock server that asks for patience"
    CLUSTER_LOCK_NODE=web1 "$work/stage/bin/cluster-lock" init --php-ini "$ini" >"$work/log" 2>&1 ||
        { cat "$work/log"; fail "cluster-lock init does not end the time of grace"; }
    "$PHP" -n -c "$ini" -r 'exit(cluster_lock("hello", 0) && cluster_unlock("hello") ? 0 : 1);' ||
        fail "no lock with the settings of the examples"
    # What the Dockerfiles and examples name is there.
    for file in redis.sh cluster_lock.ini nginx.conf; do
        has "compose.yml" packaging/examples/compose.yml "^ *- \./$file:"
        has "kustomization.yaml" packaging/examples/kustomization.yaml "^ *files: \[$file\]"
    done
    while read -r file; do
        [[ -f packaging/examples/$file ]] || fail "kustomization.yaml names $file, which is not there"
    done < <(sed -n 's/^  - \(kubernetes\/\)/\1/p' packaging/examples/kustomization.yaml)
    stop_all
}

# ---- thorough ------------------------------------------------------------------------------------------------

test_dockerfile() {
    local file taken
    # Whatever they take from the project is there.
    for file in packaging/docker/*Dockerfile; do
        while read -r taken; do
            [[ -f $taken ]] || fail "$file takes $taken, which is not there"
        done < <(sed -nE 's/^COPY (packaging[^ ]*) .*/\1/p; s/.*,source=([^,]+),.*/\1/p' "$file")
    done
    # shellcheck disable=SC2046 # several words
    apt-cache show $(sed -n 's/.*apt-get install -y --no-install-recommends \(.*\) \\$/\1/p' packaging/docker/*Dockerfile) >/dev/null
}

test_sbom() {
    local file
    script/bootstrap sbom
    is_checkout || fail "this is not a checkout"
    make_source "$(snapshot)" "$work/source.tar.gz"
    unpack_source "$work/source.tar.gz" "$work/a/one path"
    unpack_source "$work/source.tar.gz" "$work/b/another"
    mkdir "$work/first" "$work/second"
    make_sbom - "$work/first" "$work/a/one path"
    make_sbom - "$work/second" "$work/b/another"
    for file in "cluster_lock-$version.cdx.json" "cluster-lock-$version.cdx.json"; do
        cmp "$work/first/$file" "$work/second/$file" || fail "the same source gave two lists"
        has_not "$file" "$work/first/$file" "$work|$HOME/"
        # As the licences that go with the binaries, the same crates in the same versions.
        python3 - "$work/first/$file" >"$work/listed" <<-'PYTHON'
			import json, sys
			document = json.load(open(sys.argv[1]))
			assert document["bomFormat"] == "CycloneDX", document["bomFormat"]
			for crate in document["components"]:
			    print(crate["name"], crate["version"], len(crate["licenses"]) and crate["purl"].split("?")[0])
		PYTHON
        has "$file" "$work/listed" '^redis [0-9.]+ pkg:cargo/redis@[0-9.]+$'
        has "$file" "$work/listed" "^cluster-lock-core $version "
        say "$file: $(wc -l <"$work/listed") crates"
    done
}

test_install() {
    local root=$work/root suite obstacle
    obstacle=$(systems_obstacle)
    if [[ -n $obstacle ]]; then
        skip install "$obstacle"
        return
    fi
    # shellcheck source=/dev/null
    suite=$(source /etc/os-release && [[ $ID == debian ]] && echo "$VERSION_CODENAME") ||
        fail "the packages are for the Debian that they are built on, and this is another system"
    need_packages debhelper dh-php mmdebstrap debian-archive-keyring
    stage_built "$work/stage"
    mkdir "$work/debs"
    make_debs "$work/stage" "$work/debs"
    mkdir "$work/files"
    make_binary "$work/stage" "$work/files"
    make_tools "$work/stage" "$work/files"
    # A server, and a client for FastCGI; everything else is the packages' own business to ask for.
    make_root "fresh-$suite" "$suite" --variant=minbase --include=ca-certificates,redis-server,libfcgi-bin
    # A copy of its own each time; downloads are kept.
    cp -a "$cache/root-fresh-$suite" "$root"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -r "$work/debs" "$work/files" packaging/debian/installed.sh "$root/root/"
    mkdir -p "$cache/archives-$suite/partial"
    # Mounts and processes in namespaces that end with the command.
    # shellcheck disable=SC2016 # expanded inside
    unshare --mount --pid --fork --kill-child --propagation private -- bash -euc '
        mount --bind "$2" "$1/var/cache/apt/archives"
        mount --rbind /dev "$1/dev"
        mount -t proc proc "$1/proc"
        exec chroot "$1" env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin VERSION="$3" PHP="$4" \
            bash /root/installed.sh' bash "$root" "$cache/archives-$suite" "$version" "$PHP_MINOR"
}

test_pie() {
    local commit=HEAD a="$work/a/one path" b="$work/b/another/path" first second
    is_checkout || fail "this is not a checkout"
    commit=$(snapshot)
    make_source "$commit" "$work/source.tar.gz"
    unpack_source "$work/source.tar.gz" "$work/pie"
    (
        cd "$work/pie/packaging/pie"
        unset CLUSTER_LOCK_SOURCE CARGO_TARGET_DIR
        phpize_here
    ) >"$work/log" 2>&1 || { tail -n 60 "$work/log"; fail "the sequence failed"; }
    has "make test" "$work/log" 'Tests passed +: +2 '
    loads_installed
    say "phpize, configure, make, make test, make install: ok"
    with_pie
    first=$(built_in "$a") second=$(packaged_in "$b")
    cmp "$first" "$second" || fail "two builds gave two extensions"
    if grep -aFq -e "$HOME/" -e "$work" "$first"; then fail "the extension knows this machine's paths"; fi
    say "two builds in two places: the same $(stat -c %s "$first") bytes, and none of this machine's paths"
}

# built_in FOLDER: the extension, built from $work/source.tar.gz there
built_in() {
    unpack_source "$work/source.tar.gz" "$1/tree"
    build_tree "$1/tree" "$1/target" cluster-lock >&2
    echo "$1/target/release/libcluster_lock.so"
}

# packaged_in FOLDER: the same by script/package as it was unpacked there, taken out of what it made
packaged_in() {
    unpack_source "$work/source.tar.gz" "$1/tree"
    (
        cd "$1/tree"
        unset CLUSTER_LOCK_SOURCE CARGO_TARGET_DIR
        script/package binary
        cd target/packages
        sha256sum --check SHA256SUMS
        tar -xzf php_cluster_lock-*.tgz cluster_lock.so
    ) >&2
    echo "$1/tree/target/packages/cluster_lock.so"
}

# With PIE itself, where it is installed: no Debian release has it, and its phar comes from a place that not every machine
# reaches.
with_pie() {
    local pie
    pie=$(command -v pie || true)
    if [[ -z $pie ]]; then
        say "PIE itself: skipped, it is not installed (packaging/README.md says how it was tried)"
        return
    fi
    (
        export PIE_WORKING_DIRECTORY=$work/pie-home
        cd "$work/pie"
        "$pie" repository:add path "$work/pie"
        "$pie" repository:remove packagist.org
        "$pie" build 'cluster-lock/cluster_lock:*@dev'
    )
}

test_cargo-php() {
    local so=$work/extensions/libcluster_lock.so ini=$work/php.ini
    is_checkout || fail "this is not a checkout"
    make_source "$(snapshot)" "$work/source.tar.gz"
    unpack_source "$work/source.tar.gz" "$work/tree"
    cargo install cargo-php --version 0.2.2 --locked --root "$packages/cargo-php"
    mkdir "$work/extensions"
    touch "$ini"
    cd "$work/tree"
    # The places are given: by itself it takes PHP's own.
    cargo_php() {
        PATH=$packages/cargo-php/bin:$PATH CARGO_TARGET_DIR=$packages/cargo-php-target \
            cargo php "$@" --yes --install-dir "$work/extensions" --ini-path "$ini"
    }
    cargo_php install --release
    [[ $("$PHP" -n -c "$ini" -d "extension_dir=$work/extensions" -r 'echo phpversion("cluster_lock");') == "$version" ]] ||
        fail "$PHP does not load what cargo php installed: $(cat "$ini")"
    cargo_php remove
    [[ ! -e $so ]] || fail "cargo php remove left $so"
    has_not "cargo php remove's php.ini" "$ini" '^extension='
}

# ---- the run -------------------------------------------------------------------------------------------------

# run_tests [quick|NAME...]
run_tests() {
    local name t code failed=() began
    local -a wanted=("$@")
    if ((${#wanted[@]} == 0)); then mapfile -t wanted < <(printf '%s\n' "${tests[@]%%|*}"); fi
    if [[ ${wanted[*]} == quick ]]; then wanted=("${quick[@]}"); fi
    for name in "${wanted[@]}"; do
        declare -F "test_$name" >/dev/null || die "there is no test \"$name\" (--list)"
    done
    find_php
    mkdir -p "$packages"
    for name in "${wanted[@]}"; do
        for t in "${tests[@]}"; do
            if [[ ${t%%|*} == "$name" ]]; then heading "$name: ${t#*|}"; fi
        done
        began=$SECONDS
        work=$(mktemp -d "$packages/test.XXXXXX")
        # Not `if (...)`: that would switch errexit off inside.
        set +e
        (
            set -e
            "test_$name"
        )
        code=$?
        set -e
        rm -rf --one-file-system "$work"
        if ((code)); then failed+=("$name"); fi
        say "$name: $( ((code)) && echo FAILED || echo ok), $((SECONDS - began)) s"
    done
    ((${#failed[@]} == 0)) || die "FAILED: ${failed[*]}"
    good "Packages: ok, ${#wanted[@]} tests, $SECONDS s"
}
