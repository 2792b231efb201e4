# shellcheck shell=bash
# Shared by the scripts next to it: messages, which PHP to use, servers that are started and stopped.
# Sourced, never run.

# Bash knows it without the environment.
export HOME=${HOME:-~}
# Python would leave its bytecode in the checkout.
export PYTHONDONTWRITEBYTECODE=1
# Texts are UTF-8, whatever this machine's locale is.
export PYTHONUTF8=1
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export ROOT
# Where it finds the package stand, which bench, lab/chaos and docs/tests share.
export PYTHONPATH=$ROOT/lab${PYTHONPATH:+:$PYTHONPATH}

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' red='' green='' plain=''
fi

heading() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '   %s\n' "$*"; }
good() { printf '%s%s%s\n' "$green" "$*" "$plain"; }
warn() { printf '%s%s%s\n' "$red" "$*" "$plain" >&2; }
die() {
    warn "$(basename "$0"): $*"
    exit 1
}

# skip WHAT WHY: what is not run here, because the place lacks what it needs; script/test counts it.
skip() {
    say "skipped: $2"
    if [[ -n ${CLUSTER_LOCK_SKIPPED:-} ]]; then echo "$1" >>"$CLUSTER_LOCK_SKIPPED"; fi
}

# Where cargo puts its results, as an absolute path.
target_dir() { (cd "$ROOT" && realpath -m "${CARGO_TARGET_DIR:-target}"); }

# Where script/build leaves the extension and the ini file that loads it.
MODULES=$(target_dir)/modules
export MODULES

# Where script/bootstrap leaves tools of which Debian has no package, for all checkouts.
TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/cluster_lock/tools
export TOOLS

# The linters that .ci/requirements.txt pins, for this Python.
linters() { echo "$TOOLS/linters-$( (python3 -VV && cat "$ROOT/.ci/requirements.txt") | sha256sum | cut -c 1-16)/bin"; }

# Sets and exports PHP and PHP_CONFIG (the two that the build itself reads), PHP_MINOR, such as 8.2, and where it has one
# PHP_FPM: the one given, or the one installed with that PHP, or the one of that version in PATH or /usr/sbin.
find_php() {
    local config_minor candidate
    PHP=${PHP:-$(command -v php || true)}
    PHP_CONFIG=${PHP_CONFIG:-$(command -v php-config || true)}
    [[ -n $PHP ]] || die "no php found: run script/bootstrap, or set PHP=/path/to/php"
    [[ -n $PHP_CONFIG ]] || die "no php-config found: run script/bootstrap, or set PHP_CONFIG=/path/to/php-config"
    PHP_MINOR=$("$PHP" -n -r 'echo PHP_MAJOR_VERSION, ".", PHP_MINOR_VERSION;')
    config_minor=$("$PHP_CONFIG" --version | cut -d. -f1,2)
    [[ $PHP_MINOR == "$config_minor" ]] ||
        die "$PHP is PHP $PHP_MINOR but $PHP_CONFIG belongs to PHP $config_minor: set PHP and PHP_CONFIG to a pair"
    export PHP PHP_CONFIG PHP_MINOR
    if [[ -n ${PHP_FPM:-} ]]; then
        candidate=$(PATH=$PATH:/usr/sbin:/sbin command -v "$PHP_FPM") || die "PHP_FPM names no program: $PHP_FPM"
        is_fpm_of "$PHP_MINOR" "$candidate" || die "$candidate is no php-fpm of PHP $PHP_MINOR, which $PHP is"
        export PHP_FPM=$candidate
        return
    fi
    for candidate in "$("$PHP_CONFIG" --prefix)/sbin/php-fpm"{"$PHP_MINOR",} "php-fpm$PHP_MINOR" php-fpm; do
        candidate=$(PATH=$PATH:/usr/sbin:/sbin command -v "$candidate") || continue
        if is_fpm_of "$PHP_MINOR" "$candidate"; then
            export PHP_FPM=$candidate
            return
        fi
    done
}

# is_fpm_of MINOR PROGRAM
is_fpm_of() { [[ $("$2" -n -v 2>/dev/null) == "PHP $1."*" (fpm-fcgi)"* ]]; }

# An extension that the system's php.ini loads already would hide the one just built.
refuse_system_wide_copy() {
    if "$PHP" -m 2>/dev/null | grep -qx cluster_lock; then
        die "$PHP loads a cluster_lock from its own php.ini already; disable that one first (phpdismod cluster_lock)"
    fi
}

# The npm packages that drive a browser through the WordPress stand, exactly as package-lock.json names them.
npm_packages() {
    local here=$ROOT/packages/wordpress/tests
    [[ $here/node_modules/.package-lock.json -nt $here/package-lock.json ]] ||
        (cd "$here" && npm ci --silent --no-audit --no-fund)
}

# ---- servers -------------------------------------------------------------------------------------------------

started=()

# start LOGFILE COMMAND...: runs the command in the background. It gets SIGTERM should this script be killed.
start() {
    local log=$1
    shift
    setpriv --pdeathsig TERM -- "$@" >>"$log" 2>&1 &
    started+=("$!")
}

# Stops what start() started, last one first: SIGTERM, and after 5 s SIGKILL.
stop_all() {
    local i pid tries
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        pid=${started[i]}
        kill -TERM "$pid" 2>/dev/null || continue
        for ((tries = 0; tries < 100; tries++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    started=()
}

# wait_until WHAT COMMAND...: repeats the command until it succeeds; fails after 10 s or when the server
# started last has ended.
wait_until() {
    local what=$1 tries
    shift
    for ((tries = 0; tries < 200; tries++)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        if ! kill -0 "${started[-1]}" 2>/dev/null; then
            warn "$what ended right after its start"
            return 1
        fi
        sleep 0.05
    done
    warn "$what did not get ready within 10 s"
    return 1
}

# A TCP port of 127.0.0.1 that nobody uses at the moment, nor a test has taken for itself, by a name that stands for it; below
# those that the kernel gives to outgoing connections.
free_port() {
    # shellcheck disable=SC2016 # PHP's variables, not the shell's
    "$PHP" -n -r 'do {
            $port = random_int(12_000, 31_999);
            $name = @stream_socket_server("udg://\0cluster_lock-port-$port", flags: STREAM_SERVER_BIND);
        } while (!$name || !@stream_socket_server("tcp://127.0.0.1:$port"));
        echo $port;'
}
