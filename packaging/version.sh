# shellcheck shell=bash
# Whether the version is the same wherever it is written. Sourced by script/package.
: "${ROOT:?}" "${version:?}"

drifted=0
drift() {
    warn "version: $*"
    drifted=$((drifted + 1))
}

# expect WHERE FOUND
expect() {
    if [[ $2 == "$version" ]]; then say "$version: $1"; else drift "$1 says \"$2\", Cargo.toml says $version"; fi
}

# expect_in FILE SED-SCRIPT; a release's source lacks some of the files
expect_in() {
    if [[ -f $1 ]]; then
        expect "$1" "$(sed -n "$2" "$1")"
    elif [[ -e .git ]]; then
        drift "$1 is not there any more"
    fi
}

# check_version version|release
check_version() {
    local name found file so=$MODULES/cluster_lock.so top crates number
    drifted=0
    for name in cargo python3; do
        command -v "$name" >/dev/null || die "$name was not found: run script/bootstrap, it says what is missing"
    done

    # Every crate takes the workspace's, and both lock files know it.
    crates=$(cargo metadata --no-deps --format-version 1 --locked --offline | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]: print(package["name"], package["version"])')
    while read -r name found; do expect "crate $name" "$found"; done <<<"$crates"
    for file in Cargo.lock core/fuzz/Cargo.lock; do
        if [[ -f $file ]]; then
            expect "$file" "$(awk -F '"' '/^name = "cluster-lock-core"/ { core = 1 } core && /^version/ { print $2; exit }' "$file")"
        fi
    done

    top=$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)
    expect "CHANGELOG.md, its first entry" "${top%% *}"

    # Composer takes it from the tag; one in the file would win over that.
    for file in composer.json packages/*/composer.json; do
        if [[ -f $file ]] && "$PHP" -n -r 'exit(isset(json_decode(file_get_contents($argv[1]), true)["version"]) ? 0 : 1);' "$file"; then
            drift "$file has a version of its own; the tag is its version"
        fi
    done

    # Where PHP code has to say it by itself.
    expect_in packages/wordpress/cluster-lock.php 's/^ \* Version: *//p'
    expect_in packages/wordpress/cluster-lock/includes/class-plugin.php "s/^.* const VERSION = '\(.*\)';/\1/p"
    expect_in packages/wordpress/cluster-lock/languages/cluster-lock.pot 's/^"Project-Id-Version: .* \([^ ]*\)\\n"$/\1/p'
    expect_in packages/polyfill/src/Status.php "s/^.* const VERSION = '\(.*\)-polyfill';/\1/p"

    # File names of a release.
    number='[0-9]+\.[0-9]+\.[0-9]+(-(alpha|beta|rc)\.[0-9]+)?'
    while IFS=: read -r file name; do expect "$file ($name)" "$(grep -oE "$number" <<<"$name" | head -n 1)"; done < <(
        grep -roE --include='*.md' "(cluster_lock|cluster-lock|cluster-lock-common|cluster-lock-php[0-9.]+)[-_]$number" \
            README.md docs packages packaging 2>/dev/null || true
    )

    # What was built, if it was built for this PHP.
    if [[ -f $so && $("$PHP" -n -d "extension=$so" -r 'echo extension_loaded("cluster_lock");' 2>/dev/null) == 1 ]]; then
        expect "$so, phpversion()" "$("$PHP" -n -d "extension=$so" -r 'echo phpversion("cluster_lock");')"
        expect "$so, cluster_lock_status()" "$("$PHP" -n -d "extension=$so" -r 'echo cluster_lock_status()["version"];')"
    fi
    file=$(target_dir)/release/cluster-lock
    if [[ -x $file ]]; then expect "$file --version" "$("$file" --version | awk '{ print $2 }')"; fi

    if [[ $1 == release ]]; then
        [[ $top =~ ^$version\ –\ [0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] ||
            drift "CHANGELOG.md's first entry is \"## $top\", not \"## $version – YEAR-MONTH-DAY\""
        [[ -z $(git status --porcelain) ]] || drift "there is what is not committed"
        # Without a "v": PIE puts the tag, as it is, into the name of the file that it looks for.
        [[ $(git rev-parse -q --verify "refs/tags/$version^{commit}") == "$(git rev-parse HEAD)" ]] ||
            drift "this commit is not tagged $version"
    fi
    ((drifted == 0)) || die "$drifted to be mended"
}
