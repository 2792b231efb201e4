# shellcheck shell=bash
# Which jobs make up a run: name|limit in seconds|NFS lease in seconds|job and arguments. Sourced by script/nfs-lab.
# What takes longest comes first, so that two guests at a time end together. With a lease of 30 s a callback that a
# node misses costs a coherence job half a minute, and not the job.

all_idioms=open-each,kept-open,kept-open-r+,growing-log,resized-record,buffered-rewind,buffered-seek,put-append
all_idioms+=,shared-reader
ours=gate,replace,intercept-gate,intercept-replace

# plan_full [long]
plan_full() {
    local steps=200 many=1000 version
    if [[ ${1:-} == long ]]; then steps=1000 many=5000; fi
    echo "contend|330|90|contend versions=4.0,4.1-nonotify,4.1 variants=flock,$ours seconds=4 flock_seconds=12 per_node=3"
    for version in 4.0 4.1-nonotify 4.1; do
        echo "theme-$version|900|90|theme version=$version rounds=4 savers=12 compile_ms=100"
    done
    for version in 4.0 4.1 4.2; do
        echo "coherence-$version|$((steps * 2))|30|coherence versions=$version variants=naive,$ours idioms=$all_idioms steps=$steps"
    done
    echo "handoff|300|90|handoff versions=4.0,4.1-nonotify,4.1 variants=flock,gate,replace,intercept-gate holds=0.2,1.2 pairs=10 rounds=2"
    echo "coherence-many|$((many / 2))|30|coherence versions=4.0,4.1,4.2 variants=naive,$ours,intercept-prefix idioms=kept-open steps=$many"
    echo "cutoff|300|15|cutoff versions=4.0,4.1 variants=flock,gate,replace"
    echo "stale|300|90|stale versions=4.0,4.1 limit=15"
    echo "wordpress|300|90|wordpress version=4.1 variants=none,flock,intercept-gate,intercept-replace markers=40"
    echo "fresh|900|90|fresh versions=4.0,4.1 variants=none,gate changes=2000"
    echo "exclusion|300|90|exclusion versions=4.0,4.1 modes=gate,replace"
    echo "doctor|300|90|doctor versions=4.1,4.0"
    echo "delegation|300|90|delegation version=4.1 variants=flock,gate,replace trials=10"
}

# The limits are for what hangs, not for what is slow.
plan_short() {
    echo "doctor|300|90|doctor versions=4.1,4.0"
    echo "handoff|300|90|handoff versions=4.0 variants=flock,gate,replace,intercept-gate holds=0.2 pairs=10 rounds=1"
    echo "coherence|300|30|coherence versions=4.0,4.1,4.2 variants=naive,$ours idioms=kept-open steps=100"
    echo "stale|300|90|stale versions=4.1 limit=3"
    echo "wordpress|300|90|wordpress version=4.1 variants=none,intercept-gate markers=40"
    echo "fresh|300|90|fresh versions=4.1 variants=none,gate changes=100"
    # Alone.
    echo "contend|300|90|contend versions=4.0 variants=flock,gate,replace seconds=2 flock_seconds=6 per_node=3"
}
