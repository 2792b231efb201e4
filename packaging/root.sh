# shellcheck shell=bash
# What stands in the project's root, and so may be in a release's source. Sourced by script/test and packaging/test.sh.

in_root=(
    .ci .dockerignore .gitattributes .github .gitignore
    CHANGELOG.md CONTRIBUTING.md DESIGN.md LICENSE README.md SECURITY.md
    Cargo.lock Cargo.toml build.rs composer.json rustfmt.toml
    bench cli core demo docs fuzz lab packages packaging php-tests script src stubs wordpress
)

# strangers WHAT: fails when one of the paths on standard input is in none of these. A report that a test has left, say.
strangers() {
    local found
    found=$(cut -d/ -f1 | sort -u | grep -vxF -f <(printf '%s\n' "${in_root[@]}")) || return 0
    warn "$1 has what is not known to packaging/root.sh:" "$found"
    return 1
}
