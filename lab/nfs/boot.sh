# shellcheck shell=bash
# Boots one guest and runs one job in it. Sourced by script/nfs-lab, which sets guest_room, guest_registers, guest_extension
# and guest_command.
# shellcheck source=lab/nfs/build.sh
source "$ROOT/lab/nfs/build.sh"

# Where a guest's memory and disk live: in memory if there is room, which keeps the disk's fsync out of the figures.
# It must not be the folder that the guest reads from: /dev/shm is not visible inside.
find_guest_room() {
    local free
    if [[ -w /dev/shm ]]; then
        free=$(df --output=avail -B1M /dev/shm | tail -n 1)
        if ((free > 3000)); then
            echo /dev/shm
            return
        fi
    fi
    echo "${TMPDIR:-/tmp}"
}

# Whether programs run on the guest's kernel here: its first one ends well, at which every kernel panics. Where ptrace(2) is
# forbidden, or a processor's registers are more than User-Mode Linux knows, none does.
guest_runs() {
    # A kernel that has panicked has failed, which the shell would tell. And grep reads to the end, so that the kernel can write to it.
    # shellcheck disable=SC2154 # set by script/nfs-lab
    { timeout -k 5 60 env LD_PRELOAD="$guest_registers" "$guest_kernel" mem=128M umid=try uml_dir="$guest_room/" \
        con0=null,fd:1 con=null ssl=null root=none rootfstype=hostfs rootflags=/ ro init=/usr/bin/true quiet loglevel=4 \
        panic=1 </dev/null 2>&1 || true; } 2>/dev/null |
        grep -aF 'exitcode=0x00000000' >/dev/null
}

# boot_guest FOLDER LIMIT LEASE JOB [ARGUMENT...]: the job's output goes to FOLDER/log, its results to
# FOLDER/results.jsonl; fails when the job fails or the guest has not ended after LIMIT seconds.
boot_guest() {
    # shellcheck disable=SC2154 # set by script/nfs-lab
    local folder=$1 limit=$2 lease=$3 job=$4 room=$guest_room/${1##*/} guest
    shift 4
    mkdir -p "$folder/report" "$room"
    # The kernel's command line cannot hold paths with spaces: it gets the folder alone, which has none.
    ln -sfn "$ROOT/lab" "$folder/source"
    ln -sfn "$guest_cache/root" "$folder/packages"
    # shellcheck disable=SC2154 # set by script/nfs-lab: the copy of the extension that this run tests
    cp "$guest_extension" "$folder/report/cluster_lock.so"
    # shellcheck disable=SC2154 # the same, of the command
    cp "$guest_command" "$folder/report/cluster-lock"
    printf '%s=%q\n' lab_job "$job" lab_lease "$lease" lab_php "$PHP" \
        lab_fpm "${PHP_FPM:-}" >"$folder/report/settings"
    printf '%s\n' "$@" >"$folder/report/arguments"
    truncate -s 512M "$room/disk"
    PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -O ^has_journal "$room/disk"
    env TMPDIR="$room" setpriv --pdeathsig TERM -- timeout -k 5 "$limit" \
        env LD_PRELOAD="$guest_registers" "$guest_kernel" \
        mem=1024M umid=guest uml_dir="$room/" con0=fd:0,fd:1 con=null ssl=null ubd0="$room/disk" \
        root=none rootfstype=hostfs rootflags=/ ro init="$folder/source/nfs/guest/init" quiet loglevel=4 panic=1 \
        lab_folder="$folder" </dev/null >"$folder/log" 2>&1 &
    guest=$!
    trap 'kill -TERM "$guest" 2>/dev/null; wait "$guest"; exit 143' TERM
    wait "$guest" || true
    trap - TERM
    rm -rf "$room"
    [[ $(cat "$folder/report/status" 2>/dev/null) == 0 ]]
}
