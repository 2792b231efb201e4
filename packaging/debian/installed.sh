#!/bin/bash
# Inside a fresh Debian: the packages in /root/debs are installed, used, upgraded and purged. For script/package, which
# gives it a system of its own; on a machine that is somebody's it would stop at the first line.
set -euo pipefail
[[ $$ -le 2 && -d /root/debs ]] || { echo "$0: not in the system that script/package makes" >&2; exit 1; }
: "${VERSION:?}" "${PHP:?}"

say() { printf '   %s\n' "$*"; }
fail() {
    echo "installed.sh: $*" >&2
    exit 1
}
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/bin:$PATH
apt() { apt-get -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o APT::Keep-Downloaded-Packages=true "$@" >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; fail "apt-get $*"; }; }
loaded() { [[ $(php -m 2>&1) == *$'\n'cluster_lock$'\n'* ]]; }
ini=/etc/php/$PHP/mods-available/cluster_lock.ini

# ---- installed, with what it depends on ----
apt update
before=$(dpkg-query -W -f '${Package}\n' | sort)
apt install "php$PHP-cli"
! loaded || fail "cluster_lock is there before it was installed"

# ---- a release's files, in the words of docs/install.md ----
(
    cd /root/files
    php=/usr/bin/php$PHP
    tar -xzf php_cluster_lock-*_"php$PHP"-*.tgz cluster_lock.so
    install -m 644 cluster_lock.so "$($php -r 'echo ini_get("extension_dir");')/"
    echo 'extension=cluster_lock' >"$ini"
    phpenmod cluster_lock
    # The same again, as it is upgraded.
    dir=$($php -r 'echo ini_get("extension_dir");')
    install -m 644 cluster_lock.so "$dir/cluster_lock.so.new" && mv "$dir/cluster_lock.so.new" "$dir/cluster_lock.so"
    tar -xzf cluster-lock-*.tar.gz -C /usr/local --strip-components=1 --no-same-owner
)
loaded || fail "php -m does not know cluster_lock after its file was put there: $(php -m 2>&1)"
[[ $(php -d cluster_lock.dsn=local: -r 'var_dump(cluster_lock("hello"));') == "bool(true)" ]] || fail "no lock with a release's file"
[[ $(cluster-lock --version) == *" $VERSION" && $(command -v cluster-lock) == /usr/local/bin/cluster-lock ]] ||
    fail "the command of a release's file is not there"
say "a release's files: installed, loaded, a lock taken"
phpdismod cluster_lock
# That was the administrator's choice, which a package respects.
find /var/lib/php/modules -name cluster_lock -delete
rm "$ini" "$(php -r 'echo ini_get("extension_dir");')/cluster_lock.so"
(cd /usr/local && tar -tzf /root/files/cluster-lock-*.tar.gz | sed -n 's|^[^/]*/\(.*[^/]\)$|\1|p' | xargs rm)
rm -r /usr/local/share/cluster-lock-php /usr/local/share/doc/cluster-lock
hash -r

apt install /root/debs/*.deb
loaded || fail "php -m does not know cluster_lock after apt install: $(php -m 2>&1)"
[[ $(php -r 'echo phpversion("cluster_lock");') == "$VERSION" ]] || fail "another version is loaded"
[[ -L /etc/php/$PHP/cli/conf.d/20-cluster_lock.ini ]] || fail "it is not enabled with priority 20"
say "installed, and loaded by the command line: $(cd /root/debs && echo *.deb)"

# ---- used: a real server, two processes ----
redis-server --port 0 --unixsocket /tmp/redis.sock --unixsocketperm 777 --save '' --dir /tmp >/tmp/redis.log 2>&1 &
redis=$!
trap 'kill $redis 2>/dev/null' EXIT
for ((i = 0; i < 200; i++)); do
    if redis-cli -s /tmp/redis.sock ping >/dev/null 2>&1; then break; fi
    sleep 0.05
done
# An administrator's edit.
printf '\n; ours\ncluster_lock.dsn = "redis+unix:///tmp/redis.sock"\ncluster_lock.node = web1\n' >>"$ini"
edited=$(sha256sum "$ini")

cat >/tmp/hold.php <<'PHP'
<?php
cluster_lock('packaged', 0) or exit(1);
echo "held\n";
fgets(STDIN);
cluster_unlock('packaged') or exit(2);
PHP
coproc HOLDER { php /tmp/hold.php; }
holder=$HOLDER_PID
read -r -t 20 line <&"${HOLDER[0]}" || line=
[[ $line == held ]] || fail "a lock is not granted"
php -r 'exit(cluster_lock("packaged", 0) ? 1 : 0);' || fail "a lock that is held was granted again"
php -r 'exit(cluster_lock_info("packaged")["holders"][0]["node"] === "web1" ? 0 : 1);' || fail "the holder is not reported"
[[ $(redis-cli -s /tmp/redis.sock keys 'cluster_lock:*') == *packaged* ]] || fail "the lock is not in Redis"
[[ $(cluster-lock --version) == *" $VERSION" ]] || fail "the command has another version"
[[ $(cluster-lock --dsn redis+unix:///tmp/redis.sock list) == *packaged* ]] || fail "cluster-lock does not list the lock"
[[ -s /usr/share/man/man1/cluster-lock.1.gz ]] || fail "the command has no manual page"
echo >&"${HOLDER[1]}"
wait "$holder" || fail "the holder could not give its lock back"
php -r 'exit(cluster_lock("packaged", 0) ? 0 : 1);' || fail "the lock was not given back"
say "used: one process holds, another one waits its turn, in Redis, and the command lists it"

# ---- php-fpm, installed later ----
# The other one that satisfies it would be all of systemd.
apt install systemd-standalone-tmpfiles "php$PHP-fpm"
[[ -L /etc/php/$PHP/fpm/conf.d/20-cluster_lock.ini ]] || fail "php-fpm does not have it"
printf '[global]\nerror_log = /tmp/fpm.log\ndaemonize = no\n[www]\nuser = www-data\nlisten = /tmp/fpm.sock\npm = static\npm.max_children = 1\n' >/tmp/fpm.conf
"php-fpm$PHP" -F -y /tmp/fpm.conf &
fpm=$!
trap 'kill $redis $fpm 2>/dev/null' EXIT
for ((i = 0; i < 200; i++)); do
    if [[ -S /tmp/fpm.sock ]]; then break; fi
    sleep 0.05
done
echo '<?php echo phpversion("cluster_lock"), " ", cluster_lock("web") ? "held" : "not held", " by ", cluster_lock_status()["node"] ?? "web1";' >/tmp/page.php
answer=$(SCRIPT_FILENAME=/tmp/page.php SCRIPT_NAME=/page.php REQUEST_METHOD=GET cgi-fcgi -bind -connect /tmp/fpm.sock)
[[ $answer == *"$VERSION held"* ]] || fail "php-fpm does not lock: $answer $(cat /tmp/fpm.log)"
kill "$fpm"
wait "$fpm" || true
say "php-fpm: takes a lock"

# ---- disabled and enabled ----
phpdismod -v "$PHP" cluster_lock
! loaded || fail "phpdismod does not disable it"
# An upgrade is no reason to enable what the administrator has disabled.
upgrade() {
    local deb tree
    for deb in /root/debs/*.deb; do
        tree=$(mktemp -d)
        dpkg-deb -R "$deb" "$tree"
        sed -i "s/^Version: .*/&+$1/" "$tree/DEBIAN/control"
        mkdir -p "/root/debs-$1"
        dpkg-deb -Znone -b "$tree" "/root/debs-$1/${deb##*/}" >/dev/null
        rm -rf "$tree"
    done
    apt install "/root/debs-$1"/*.deb
    [[ $(dpkg-query -W -f '${Version}' "cluster-lock-php$PHP") == *"+$1" ]] || fail "it was not upgraded"
}
upgrade 1
! loaded || fail "the upgrade enabled what the administrator had disabled"
phpenmod -v "$PHP" cluster_lock
loaded || fail "phpenmod does not enable it"

# ---- upgraded, with an edited ini ----
upgrade 2
loaded || fail "after the upgrade it is not loaded"
[[ $(sha256sum "$ini") == "$edited" ]] || fail "the upgrade changed an edited ini: $(cat "$ini")"
php -r 'exit(cluster_lock("packaged", 0) ? 0 : 1);' || fail "no lock after the upgrade"
say "phpdismod, phpenmod, two upgrades: the edited ini and the choice are kept"

# ---- removed, and purged ----
apt remove 'cluster-lock*'
! loaded || fail "it is loaded after it was removed"
[[ $(php -r 'echo "quiet";' 2>&1) == quiet ]] || fail "php complains after the removal: $(php -r 'echo 1;' 2>&1)"
[[ $(sha256sum "$ini") == "$edited" ]] || fail "the removal took the settings with it"
apt purge 'cluster-lock*'
left=$(find / -xdev \( -path /proc -o -path /root -o -path /tmp -o -path /var/cache/apt \) -prune -o \
    \( -iname '*cluster?lock*' -print \))
left+=$(grep -rl cluster_lock /etc /var/lib/php /var/lib/dpkg 2>/dev/null || true)
[[ -z $left ]] || fail "the purge left $left"
apt autoremove --purge
# Its dependencies are gone too, but for those that are in use by what was asked for by name.
dpkg-query -W -f '${Package}\n' | sort | comm -13 <(echo "$before") - | tr '\n' ' ' >/tmp/more
say "purged: nothing of it is left (beside it, from its tests: $(cat /tmp/more))"
