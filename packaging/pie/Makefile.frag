# Outside of this folder: make clean would take single files out of it.
CARGO_TARGET_DIR ?= $(CLUSTER_LOCK_SOURCE)/target/pie

cluster_lock_built = $(CARGO_TARGET_DIR)/$(if $(CARGO_BUILD_TARGET),$(CARGO_BUILD_TARGET)/)release/libcluster_lock.so
cluster_lock_files := $(addprefix $(CLUSTER_LOCK_SOURCE)/,Cargo.toml Cargo.lock build.rs core/Cargo.toml) \
	$(shell find "$(CLUSTER_LOCK_SOURCE)/src" "$(CLUSTER_LOCK_SOURCE)/core/src" -type f)

# What make test and make install read.
$(phplibdir)/cluster_lock.la: $(phplibdir)/cluster_lock.so
	@echo "dlname='cluster_lock.so'" >$@

# cargo would know by itself what is out of date. But it would build everything anew for sudo make install, in that other
# environment. By itself it looks for settings above this folder, which may have been copied out of the source. Renamed into
# place, since a PHP may have the old one loaded.
$(phplibdir)/cluster_lock.so: $(cluster_lock_files)
	+@PHP="$(PHP_EXECUTABLE)" PHP_CONFIG="$(PHP_CONFIG)" RUSTC="$(RUSTC)" CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)" \
	$(CARGO) build --release --locked --package cluster-lock --manifest-path "$(CLUSTER_LOCK_SOURCE)/Cargo.toml" \
		--config "$(CLUSTER_LOCK_SOURCE)/.cargo/config.toml" || { \
		echo >&2; \
		echo "cluster_lock was not built. cargo says above why; the usual reasons:" >&2; \
		echo " - no network: the crates named in Cargo.lock come from crates.io. Where there is a network, run" >&2; \
		echo "   'cargo vendor' in the source, and take the source here with the folder and the lines that it prints." >&2; \
		echo " - 'Unable to find libclang': install it (Debian: clang libclang-dev), or set LIBCLANG_PATH." >&2; \
		echo " - another Rust than configure found: it was $(RUSTC)." >&2; \
		exit 1; }
	@mkdir -p "$(phplibdir)"
	@cp "$(cluster_lock_built)" "$(phplibdir)/.cluster_lock.so"
	@mv -f "$(phplibdir)/.cluster_lock.so" $@
