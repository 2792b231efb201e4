# php-fpm with cluster_lock, from the official images on Alpine, and so for musl:
#   docker build -f packaging/docker/alpine.Dockerfile -t my-php .     in the project's folder: built from source
# Everything else is as in Dockerfile: --build-context packages=FOLDER, --build-arg PHP=…, the environment at run time.
ARG PHP=8.4
ARG SAPI=fpm
ARG RUST=1.88

# Only to copy the compiler from: what is built has to be built with the headers of the PHP that loads it.
FROM rust:${RUST}-alpine AS rust

FROM php:${PHP}-${SAPI}-alpine AS build
# libclang reads PHP's headers, Python the licences of what is linked in; the scripts are written for GNU's tools.
# hadolint ignore=DL3018
RUN apk add --no-cache bash clang-dev coreutils findutils gcc grep musl-dev python3 sed tar
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
WORKDIR /source
COPY . .
RUN script/package binary tools

# --build-context packages=FOLDER stands for this stage, and then nothing is built.
FROM scratch AS packages
COPY --from=build /source/target/packages/*gz /source/target/packages/SHA256SUMS /

FROM php:${PHP}-${SAPI}-alpine
# cgi-fcgi asks php-fpm for the health check; libgcc unwinds a panic to where it becomes a PHP error.
# hadolint ignore=DL3018
RUN apk add --no-cache fcgi libgcc
RUN --mount=type=bind,from=packages,target=/packages \
    --mount=type=bind,source=packaging/docker/install.sh,target=/install.sh \
    sh /install.sh /packages
ENV CLUSTER_LOCK_DSN=redis://redis:6379 CLUSTER_LOCK_NODE=
COPY packaging/docker/cluster_lock.ini /usr/local/etc/php/conf.d/zz-cluster_lock.ini
COPY packaging/docker/ping.conf /usr/local/etc/php-fpm.d/zz-ping.conf

# www-data, as Alpine numbers it.
USER 82:82

# Whether php-fpm answers, not whether Redis does: a container that is restarted because its lock server is away takes the
# site down with it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/bin/sh", "-c", "\
    SCRIPT_NAME=/fpm-ping SCRIPT_FILENAME=/fpm-ping REQUEST_METHOD=GET cgi-fcgi -bind -connect 127.0.0.1:9000 \
    | grep -q pong"]
