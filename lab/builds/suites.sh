# shellcheck shell=bash
# Tests with their reports, for script/matrix: what fails is run once more by itself, since the machine may be busy; what
# fails again has failed.
: "${cache:?}" "${ROOT:?}"

# The programs of the core's tests that concern the server.
server_tests=(contract faults_server redis sentinel cluster acknowledged secured endpoint credentials foreign_keys)

# has_step NAME: whether script/test has it
has_step() { grep -q "^    \"$1|" "$ROOT/script/test"; }

# twice FOLDER COMMAND...: runs it, which leaves its reports in FOLDER. What failed there, if the command says by its end
# that something did, is run by `COMMAND NAMES`, which leaves its reports in FOLDER/again.
twice() {
    local folder=$1 names
    shift
    rm -rf "$folder"
    mkdir -p "$folder"
    if "$@" "$folder" ''; then
        "$ROOT/lab/builds/reports.py" sound "$folder"
        return
    fi
    names=$("$ROOT/lab/builds/reports.py" again "$folder")
    if [[ -z $names ]]; then
        echo "no test failed, but their step of script/test did" >&2
        return 1
    fi
    echo "once more: ${names//$'\n'/, }"
    mkdir "$folder/again"
    "$@" "$folder/again" "$names" || true
    "$ROOT/lab/builds/reports.py" sound "$folder"
}

# phpunit_options NAMES: those that choose these tests, whichever their group is
phpunit_options() { printf '%s\n' --group default,slow --filter "/\\\\($(paste -sd '|' <<<"$1"))( |\$)/"; }

# step_of_test STEP INSIDE COMMAND... FOLDER NAMES: a step of script/test, by this command, which knows the folder $reports
# as INSIDE
step_of_test() {
    local step=$1 inside=$2 folder=${*: -2:1} names=${*: -1} options=()
    local -a command=("${@:3:$#-4}")
    if [[ -n $names ]]; then mapfile -t options < <(echo -- && phpunit_options "$names"); fi
    "${command[@]}" env "CLUSTER_LOCK_REPORTS=$inside${folder#"$reports"}" script/test "$step" "${options[@]}"
}

# server_suite PROGRAMS FOLDER NAMES: the core's tests of a server, with these redis-server and redis-cli before all others.
# As the step core builds them.
server_suite() {
    local programs=$1 folder=$2 exact=()
    if [[ -n $3 ]]; then mapfile -t exact < <(echo --exact && echo "$3"); fi
    # shellcheck disable=SC2046 # several words
    PATH=$programs:$PATH RUST_TEST_THREADS=${RUST_TEST_THREADS:-8} cargo test --workspace --exclude cluster-lock --locked --no-fail-fast \
        $(printf -- '--test %s ' "${server_tests[@]}") -- "${exact[@]}" 2>&1 | tee "$folder/core.log"
}
