# shellcheck shell=bash
# The ways to run PHP besides php and php-fpm, each under the name that the tests know it by (php-tests/Support/Sapis.php).
# Sourced by script/test. Those of Debian's PHP are unpacked from its packages and not installed: Apache would become
# a service, and php-cgi one of the system's alternatives.

# find_sapis: exports PHP_CGI, PHPDBG, PHP_EMBED (libphp.so or libphp.a), APACHE (the program), APACHE_MODULES (their folder)
# and APACHE_PHP (its module), as far as this PHP has them, and says what it has not.
find_sapis() {
    local prefix apxs
    prefix=$("$PHP_CONFIG" --prefix)
    if [[ $prefix == /usr ]]; then
        unpack_sapis
    else
        PHP_CGI=$prefix/bin/php-cgi
        PHPDBG=$prefix/bin/phpdbg
        PHP_EMBED=$(compgen -G "$prefix/lib/libphp.*" | head -n 1 || true)
        apxs=$("$PHP_CONFIG" --configure-options | grep -oP -- '--with-apxs2=\K\S+' | tr -d "'" || true)
        if [[ -n $apxs ]]; then
            APACHE_MODULES=$("$apxs" -q LIBEXECDIR)
            APACHE=$("$apxs" -q SBINDIR)/$("$apxs" -q PROGNAME)
            APACHE_PHP=$APACHE_MODULES/libphp.so
        fi
    fi
    export PHP_CGI PHPDBG PHP_EMBED APACHE APACHE_MODULES APACHE_PHP
    without php-cgi PHP_CGI
    without phpdbg PHPDBG
    without embed PHP_EMBED
    without Apache APACHE_PHP
}

# without WHAT VARIABLE: is that file missing, it is left out
without() {
    [[ -e ${!2:-} ]] && return
    unset "$2"
    skip "$1" "$1, which $PHP has not"
}

# download FOLDER PACKAGE...: the packages, and the libraries that they need and this system has not
download() {
    local folder=$1 needed
    shift
    needed=$(apt-get -s install --no-install-recommends "$@" | sed -n 's/^Inst \(lib[^ ]*\) .*/\1/p') || return
    mkdir -p "$folder"
    # As root, apt would become a user that cannot write here.
    (cd "$folder" && printf '%s\n' "$@" "$needed" | sort -u | xargs apt-get -qq -o APT::Sandbox::User=root download)
}

unpack_sapis() {
    local folder new deb lock
    local packages=(apache2-bin "libapache2-mod-php$PHP_MINOR" "libphp$PHP_MINOR-embed" "php$PHP_MINOR-cgi" "php$PHP_MINOR-phpdbg")
    folder=$(target_dir)/sapis/$PHP_MINOR
    mkdir -p "$folder"
    exec {lock}>"$folder/lock"
    flock "$lock"
    if [[ ! -e $folder/root ]]; then
        say "to unpack: ${packages[*]}"
        new=$folder/new
        rm -rf "$new"
        if ! download "$new/debs" "${packages[@]}"; then
            # Package lists that are out of date name files that are gone.
            ((EUID == 0)) || die "the packages cannot be had; try apt-get update"
            apt-get update -qq
            download "$new/debs" "${packages[@]}"
        fi
        for deb in "$new"/debs/*.deb; do dpkg-deb -x "$deb" "$new"; done
        # The name that programs know it by is one of the system's alternatives.
        ln -s "libphp$PHP_MINOR.so" "$new/usr/lib/libphp.so"
        rm -rf "$new/debs"
        mv "$new" "$folder/root"
    fi
    exec {lock}>&-
    PHP_CGI=$folder/root/usr/bin/php-cgi$PHP_MINOR
    PHPDBG=$folder/root/usr/bin/phpdbg$PHP_MINOR
    PHP_EMBED=$folder/root/usr/lib/libphp.so
    APACHE=$folder/root/usr/sbin/apache2
    APACHE_MODULES=$folder/root/usr/lib/apache2/modules
    APACHE_PHP=$APACHE_MODULES/libphp$PHP_MINOR.so
}
