# FrankenPHP with cluster_lock:
#   docker build -f packaging/docker/frankenphp.Dockerfile -t my-php . in the project's folder: built from source
# Everything else is as in Dockerfile: --build-context packages=FOLDER, --build-arg PHP=…, the environment at run time.
# A release's file for it is one that ends in -zts.tgz.
ARG PHP=8.4
ARG FRANKENPHP=1
ARG DEBIAN=bookworm
ARG RUST=1.88

# Only to copy the compiler from: what is built has to be built with the headers of the PHP that loads it.
FROM rust:${RUST}-slim-${DEBIAN} AS rust

FROM dunglas/frankenphp:${FRANKENPHP}-php${PHP}-${DEBIAN} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# libclang reads PHP's headers, Python the licences of what is linked in.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libclang-dev python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
WORKDIR /source
COPY . .
RUN script/package binary tools

# --build-context packages=FOLDER stands for this stage, and then nothing is built.
FROM scratch AS packages
COPY --from=build /source/target/packages/*gz /source/target/packages/SHA256SUMS /

FROM dunglas/frankenphp:${FRANKENPHP}-php${PHP}-${DEBIAN}
RUN --mount=type=bind,from=packages,target=/packages \
    --mount=type=bind,source=packaging/docker/install.sh,target=/install.sh \
    sh /install.sh /packages
ENV CLUSTER_LOCK_DSN=redis://redis:6379 CLUSTER_LOCK_NODE=
COPY packaging/docker/cluster_lock.ini /usr/local/etc/php/conf.d/zz-cluster_lock.ini
# Its user, its ports and its health check stay as the image has them.
