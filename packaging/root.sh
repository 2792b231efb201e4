# shellcheck shell=bash
# What stands in the project's root, and so may be in a release's source. Sourced by script/test and packaging/test.sh.

in_root=(
    .cargo .ci .dockerignore .gitattributes .github .gitignore
    CHANGELOG.md CONTRIBUTING.md DESIGN.md LICENSE README.md SECURITY.md
    Cargo.lock Cargo.toml build.rs composer.json rustfmt.toml
    bench cli core docs lab packages packaging php-tests script src stubs
)

# standing FOLDER: what stands in the root of a checkout and is not ignored. Of a FIFO or a socket git itself says nothing.
standing() {
    local names
    names=$(find "$1" -mindepth 1 -maxdepth 1 ! -name .git -printf '%f\n')
    grep -vxF -f <(git -C "$1" check-ignore --stdin <<<"$names") <<<"$names"
}

# strangers WHAT: fails when one of the paths on standard input is in none of these. A report that a test has left, say.
strangers() {
    local found
    found=$(cut -d/ -f1 | sort -u | grep -vxF -f <(printf '%s\n' "${in_root[@]}")) || return 0
    warn "$1 has what is not known to packaging/root.sh:" "$found"
    return 1
}
