# shellcheck shell=bash
# What a release consists of, one function for each part. Sourced by script/package. The same source, the same Rust and
# the same PHP make the same bytes.
: "${ROOT:?}"

# Where the parts go.
packages=$(target_dir)/packages
export packages

# The version: Cargo.toml of the workspace is the one place where it is written by hand.
version=$(awk -F '"' '/^\[/ { inside = $0 == "[workspace.package]" } inside && $1 ~ /^version/ { print $2; exit }' \
    "$ROOT/Cargo.toml")
[[ -n $version ]] || die "Cargo.toml has no version under [workspace.package]"

is_checkout() { [[ -e $ROOT/.git ]]; }

# What a release's files carry as their date. Not exported as SOURCE_DATE_EPOCH: cargo would compile C code anew for it.
released=$(if is_checkout; then git -C "$ROOT" log -1 --format=%ct; else stat -c %Y "$ROOT/Cargo.toml"; fi)

# pack FOLDER FILE: the folder's content, in the same order and with the same dates and owners, whoever packs it
pack() {
    local top
    mapfile -t top < <(cd "$1" && LC_ALL=C ls -A)
    LC_ALL=C tar -C "$1" --sort=name --format=ustar --mtime="@$released" --owner=0 --group=0 --numeric-owner \
        --mode=u=rwX,go=rX -cf - "${top[@]}" | gzip -n -9 >"$2.new"
    mv -f "$2.new" "$2"
}

# ---- source --------------------------------------------------------------------------------------------------

# make_source COMMIT FILE: what .gitattributes leaves of it; also what Composer and PIE download
make_source() {
    git -C "$ROOT" -c tar.umask=0022 -c core.autocrlf=false archive --format=tar --prefix="cluster_lock-$version/" "$1" | gzip -n -9 >"$2.new"
    mv -f "$2.new" "$2"
}

# unpack_source FILE FOLDER: the project's folder from it. Dated now: cargo takes what is older than its last build for
# built, though it may be of another commit.
unpack_source() {
    rm -rf "$2"
    mkdir -p "$2"
    tar -xmf "$1" -C "$2" --strip-components=1
}

# ---- what is built -------------------------------------------------------------------------------------------

# build_tree TREE TARGET [CRATE...]: the extension and the command. The paths of this machine stay out of them.
build_tree() {
    local tree=$1 target=$2 crates=("${@:3}") crate flags
    if ((${#crates[@]} == 0)); then crates=(cluster-lock cluster-lock-cli); fi
    # Separated as cargo wants it: paths may have spaces.
    flags=--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo$'\x1f'--remap-path-prefix=$(realpath "$tree")=/cluster_lock
    flags+=$'\x1f'--remap-path-prefix=$(realpath -m "$target")=/target
    # These stand instead of the caller's, and of those in .cargo/config.toml.
    if [[ $(libc) == musl ]]; then flags+=$'\x1f'-Ctarget-feature=-crt-static; fi
    if [[ -n ${RUSTFLAGS:-} ]]; then flags+=$'\x1f'${RUSTFLAGS// /$'\x1f'}; fi
    # One by one: together, each would get what the other one asks of the crates that both use.
    for crate in "${crates[@]}"; do
        (cd "$tree" && CARGO_ENCODED_RUSTFLAGS=$flags CARGO_TARGET_DIR=$target \
            cargo build --release --locked --package "$crate")
    done
}

# stage TREE BUILT FOLDER: what was built, and what goes with it, as the packages below want it
stage() {
    local tree=$1 built=$2 folder=$3
    rm -rf "$folder"
    mkdir -p "$folder/share"
    install -m 644 "$built/libcluster_lock.so" "$folder/cluster_lock.so"
    cp "$tree"/{LICENSE,README.md,CHANGELOG.md,SECURITY.md} "$folder/"
    cp -r "$tree/stubs" "$folder/share/"
    mkdir "$folder/share/wordpress"
    cp -r "$tree"/packages/wordpress/{cluster-lock.php,cluster-lock} "$folder/share/wordpress/"
    install -D -m 755 "$built/cluster-lock" "$folder/bin/cluster-lock"
    "$folder/bin/cluster-lock" man --dir "$folder/man"
    mkdir "$folder/completions"
    "$folder/bin/cluster-lock" completions bash >"$folder/completions/cluster-lock"
    "$folder/bin/cluster-lock" completions zsh >"$folder/completions/_cluster-lock"
    "$folder/bin/cluster-lock" completions fish >"$folder/completions/cluster-lock.fish"
    python3 "$ROOT/packaging/third-party.py" "$tree" >"$folder/THIRD-PARTY"
}

# The C library of this PHP, as PIE calls it. Its program names the loader that it is started by.
libc() {
    if grep -aq '/ld-musl-' "$("$PHP" -n -r 'echo PHP_BINARY;')"; then echo musl; else echo glibc; fi
}

# What PIE calls this PHP and this machine: its src/Platform/PrePackagedBinaryAssetName.php.
platform() {
    local arch
    case $(uname -m) in
        aarch64) arch=arm64 ;;
        *) arch=$(uname -m) ;;
    esac
    "$PHP" -n -r "echo 'php', PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION, '-$arch-linux-$(libc)',
        PHP_DEBUG ? '-debug' : '', PHP_ZTS ? '-zts' : '-nts';"
}

# make_binary STAGE OUT: the extension alone, named and laid out as PIE would look for it (packaging/README.md)
make_binary() {
    local folder
    folder=$(mktemp -d)
    cp "$1"/{cluster_lock.so,LICENSE,THIRD-PARTY} "$folder/"
    pack "$folder" "$2/php_cluster_lock-${version}_$(platform).tgz"
    rm -rf "$folder"
}

# make_tools STAGE OUT: the command, and what no PHP version owns, to be unpacked in /usr/local or anywhere else
make_tools() {
    local folder name
    name=cluster-lock-$version-$(uname -m)-linux-$(libc)
    folder=$(mktemp -d)
    mkdir -p "$folder/$name/share/doc/cluster-lock" "$folder/$name/share/man/man1"
    cp -r "$1/bin" "$folder/$name/"
    cp "$1"/man/*.1 "$folder/$name/share/man/man1/"
    cp -r "$1/share" "$folder/$name/share/cluster-lock-php"
    cp "$1"/{LICENSE,THIRD-PARTY,CHANGELOG.md} "$folder/$name/share/doc/cluster-lock/"
    install -D -m 644 -t "$folder/$name/share/bash-completion/completions" "$1/completions/cluster-lock"
    install -D -m 644 -t "$folder/$name/share/zsh/site-functions" "$1/completions/_cluster-lock"
    install -D -m 644 -t "$folder/$name/share/fish/vendor_completions.d" "$1/completions/cluster-lock.fish"
    pack "$folder" "$2/$name.tar.gz"
    rm -rf "$folder"
}

# make_sbom STAGE OUT TREE: what is linked into the extension and into the command, as CycloneDX. The same for every PHP and
# machine, so it is that of one.
make_sbom() {
    local out=$2 work tool
    tool=$(compgen -G "$TOOLS/cargo-cyclonedx-*/bin/cargo-cyclonedx" | tail -n 1) ||
        die "cargo-cyclonedx is missing: run script/bootstrap sbom"
    work=$(mktemp -d)
    # It writes beside each Cargo.toml.
    mkdir "$work/tree"
    (cd "$3" && tar -cf - --exclude ./target --exclude ./.git .) | tar -xf - -C "$work/tree"
    # It names no serial number when it is told of a date, and knows our own crates by where they are.
    (cd "$work/tree" && SOURCE_DATE_EPOCH=$released "$tool" cyclonedx --quiet --format json --spec-version 1.5 \
        --target x86_64-unknown-linux-gnu --no-build-deps --override-filename sbom)
    sed "s|$work/tree|/cluster_lock|g" "$work/tree/sbom.json" >"$out/cluster_lock-$version.cdx.json"
    sed "s|$work/tree|/cluster_lock|g" "$work/tree/cli/sbom.json" >"$out/cluster-lock-$version.cdx.json"
    rm -rf "$work"
}

# make_debs STAGE OUT: the packages of Debian and its relatives, for the PHP that the stage was built for
make_debs() {
    local stage=$1 out=$2 work tree deb name
    local maintainer="${DEBFULLNAME:-cluster_lock contributors} <${DEBEMAIL:-cluster_lock@localhost}>"
    command -v dh_php >/dev/null || die "debhelper and dh-php are missing: run script/bootstrap package"
    work=$(mktemp -d)
    tree=$work/cluster-lock-php-$version
    mkdir -p "$tree"
    cp -r "$ROOT/packaging/debian" "$tree/debian"
    cp -r "$stage" "$tree/built"
    sed "s/@PHP@/$PHP_MINOR/g; s/@MAINTAINER@/$maintainer/" "$tree/debian/control.in" >"$tree/debian/control"
    sed 's/^$/./; s/^/ /' "$stage/LICENSE" | tail -n +5 >>"$tree/debian/copyright"
    # A pre-release sorts before its release: 1.0.0-rc.1 is 1.0.0~rc.1.
    cat >"$tree/debian/changelog" <<-END
		cluster-lock-php (${version/-/\~}) unstable; urgency=medium

		  * Release $version: see CHANGELOG.md.

		 -- $maintainer  $(date -u -R -d "@$released")
	END
    # What dpkg-buildpackage would pass on from control: nobody needs to be root for this.
    (cd "$tree" && DEB_RULES_REQUIRES_ROOT=no CLUSTER_LOCK_PHP=$PHP_MINOR debian/rules binary) >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        die "debhelper failed"
    }
    # GitHub gives a file with a "~" in its name another one, which SHA256SUMS does not know.
    for deb in "$work"/*.deb; do
        name=${deb##*/}
        mv -f "$deb" "$out/${name/\~/-}"
    done
    rm -rf "$work"
}

# What this folder holds, for those who download it.
make_sums() {
    (
        cd "$1" || exit
        # An interrupted run leaves what is not finished.
        mapfile -t files < <(find . -maxdepth 1 -type f ! -name SHA256SUMS ! -name '.*' ! -name '*.new' -printf '%f\n' | LC_ALL=C sort)
        sha256sum -- "${files[@]}" >SHA256SUMS
    )
}
