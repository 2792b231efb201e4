# shellcheck shell=bash
# Fetches and unpacks what the guest needs beyond the host's own system. Sourced by script/nfs-lab.
# Nothing is installed on the host: packages are unpacked under $guest_cache, and the guest lays them over
# the host's root file system as if they were installed.

guest_cache=$(target_dir)/nfs-lab
# shellcheck disable=SC2034 # for boot.sh
guest_kernel=$guest_cache/root/usr/bin/linux.uml

guest_packages=(user-mode-linux nfs-kernel-server nfs-common kmod wordpress)

# As root, apt would drop to a user that cannot write into the cache.
apt_download() { (cd "$1" && shift && apt-get -qq -o APT::Sandbox::User=root download "$@" >/dev/null); }

# Why this machine cannot run the lab; prints nothing when it can.
obstacle() {
    local program
    for program in cc apt-get apt-cache dpkg-deb mkfs.ext4 redis-server redis-cli ip unshare nsenter /usr/bin/python3; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || {
            echo "$program was not found (script/bootstrap nfs-lab installs it)"
            return
        }
    done
    if [[ -e $guest_cache/ready ]]; then return; fi
    if ! apt-cache show user-mode-linux >/dev/null 2>&1 && ((EUID == 0)); then apt-get update -qq || true; fi
    apt-cache show user-mode-linux >/dev/null 2>&1 ||
        echo "apt knows no package user-mode-linux for $(dpkg --print-architecture)"
}

# Libraries and the like that the packages need and the host does not have. WordPress is left out: only one of its
# files is used, and it would drag in a web server and a database.
missing_dependencies() {
    apt-get -s install --no-install-recommends user-mode-linux nfs-kernel-server kmod 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\) .*/\1/p'
}

build_guest() {
    local began=$SECONDS debs=$guest_cache/debs new=$guest_cache/root.new name deb
    local -a wanted
    mkdir -p "$guest_cache"
    # Two runs at once must not build into each other's folders.
    exec {build_lock}>"$guest_cache/lock"
    flock "$build_lock"
    if [[ $(cat "$guest_cache/ready" 2>/dev/null) != "${guest_packages[*]}" ]]; then
        rm -rf "$guest_cache/ready" "$guest_cache/root" "$new" "$debs"
        mkdir -p "$debs" "$new"/usr/{bin,sbin,lib,lib64}
        mapfile -t wanted < <({
            printf '%s\n' "${guest_packages[@]}"
            missing_dependencies
        } | sort -u)
        say "downloading ${wanted[*]}"
        if ! apt_download "$debs" "${wanted[@]}"; then
            # Package lists that are out of date name files that are gone.
            ((EUID == 0)) || die "apt-get download failed; try apt-get update"
            apt-get update -qq
            apt_download "$debs" "${wanted[@]}"
        fi
        # As on the host, where /bin, /sbin and /lib are links: a folder laid over such a link would hide all of it.
        for name in bin sbin lib lib64; do ln -s "usr/$name" "$new/$name"; done
        for deb in "$debs"/*.deb; do
            dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --no-same-owner -C "$new"
        done
        ln -s uml/modules "$new/usr/lib/modules"
        mv "$new" "$guest_cache/root"
        rm -rf "$debs"
        echo "${guest_packages[*]}" >"$guest_cache/ready"
        say "the guest is built, $((SECONDS - began)) s, in $guest_cache"
    fi
    exec {build_lock}>&-
}

# build_registers FILE: what User-Mode Linux has to be preloaded with on processors with AMX, and may be on others.
build_registers() { cc -O2 -Wall -Wextra -Werror -shared -fPIC -o "$1" "$ROOT/lab/nfs/registers.c"; }
