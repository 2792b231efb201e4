dnl For phpize, and so for PIE: the build itself is cargo's, see Makefile.frag.

PHP_ARG_ENABLE([cluster_lock],
  [whether to build cluster_lock],
  [AS_HELP_STRING([--disable-cluster_lock], [Do not build cluster_lock])],
  [yes])

if test "$PHP_CLUSTER_LOCK" != "no"; then
  cluster_lock_rust=1.88
  cluster_lock_without="Without Rust there is what was built elsewhere: a package, or the extension alone, for this PHP (docs/install.md)."

  dnl rustup's own place comes last: sudo leaves it out of PATH.
  AC_PATH_PROG([CARGO], [cargo], [no], [$PATH$PATH_SEPARATOR$HOME/.cargo/bin])
  if test "$CARGO" = "no"; then
    AC_MSG_ERROR([cargo was not found. cluster_lock is written in Rust: install Rust $cluster_lock_rust or later (https://rustup.rs, or the packages cargo and rustc where they are new enough), or say where it is with CARGO=/path/to/cargo. $cluster_lock_without])
  fi
  dnl cargo looks for rustc in PATH; rustup keeps both in one folder.
  cluster_lock_bin=`AS_DIRNAME(["$CARGO"])`
  AC_PATH_PROG([RUSTC], [rustc], [no], [$PATH$PATH_SEPARATOR$cluster_lock_bin])
  if test "$RUSTC" = "no"; then
    AC_MSG_ERROR([$CARGO is there, but rustc is not: install Rust $cluster_lock_rust or later. $cluster_lock_without])
  fi

  AC_MSG_CHECKING([whether rustc is $cluster_lock_rust or later])
  dnl What they say of themselves is all that their user gets to see. rustup's two are there before any Rust is.
  for cluster_lock_tool in "$CARGO" "$RUSTC"; do
    cluster_lock_said=`"$cluster_lock_tool" --version 2>&1`
    cluster_lock_status=$?
    if test $cluster_lock_status -ne 0; then
      AC_MSG_RESULT([no])
      AC_MSG_ERROR([$cluster_lock_tool --version fails with exit status $cluster_lock_status:
$cluster_lock_said
If this is rustup's without a default toolchain: run 'rustup default stable', as the user who runs configure (to another user, root under sudo among them, RUSTUP_HOME says where that one's toolchains are). Else install Rust $cluster_lock_rust or later anew. $cluster_lock_without])
    fi
  done
  cluster_lock_have=`AS_ECHO(["$cluster_lock_said"]) | $SED -n 's/^rustc \([[0-9]]*\.[[0-9]]*\).*/\1/p'`
  if test -z "$cluster_lock_have"; then
    AC_MSG_RESULT([no])
    AC_MSG_ERROR([$RUSTC --version says no version that is understood here:
$cluster_lock_said])
  fi
  if test `echo "$cluster_lock_have" | tr . ' ' | $AWK '{ print @S|@1 * 1000 + @S|@2 }'` -lt `echo "$cluster_lock_rust" | tr . ' ' | $AWK '{ print @S|@1 * 1000 + @S|@2 }'`; then
    AC_MSG_RESULT([no, $cluster_lock_have])
    AC_MSG_ERROR([$RUSTC is $cluster_lock_have, and cluster_lock needs $cluster_lock_rust or later. Debian 13 has 1.85: take Rust from https://rustup.rs (rustup update, if it is there already). $cluster_lock_without])
  fi
  AC_MSG_RESULT([yes, $cluster_lock_have])

  dnl The bindings to PHP's headers are made with libclang. Where it is looked for is libclang's users' business: a
  dnl warning only.
  AC_MSG_CHECKING([for libclang])
  cluster_lock_clang=no
  for cluster_lock_dir in "$LIBCLANG_PATH" `llvm-config --libdir 2>/dev/null` /usr/lib/llvm*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib; do
    if test -n "$cluster_lock_dir" && ls "$cluster_lock_dir"/libclang*.so* >/dev/null 2>&1; then
      cluster_lock_clang=$cluster_lock_dir
      break
    fi
  done
  AC_MSG_RESULT([$cluster_lock_clang])
  if test "$cluster_lock_clang" = "no"; then
    AC_MSG_WARN([libclang was not found. If the build fails for want of it, install it (Debian: clang libclang-dev), or say where it is with LIBCLANG_PATH=/folder])
  fi

  AC_ARG_VAR([CLUSTER_LOCK_SOURCE], [the folder with Cargo.toml, where this one was copied out of it])
  test -n "$CLUSTER_LOCK_SOURCE" || CLUSTER_LOCK_SOURCE=`cd "$abs_srcdir/../.." && pwd`
  if test ! -f "$CLUSTER_LOCK_SOURCE/Cargo.lock"; then
    AC_MSG_ERROR([$CLUSTER_LOCK_SOURCE is not cluster_lock's source: phpize and configure run in its folder packaging/pie])
  fi

  dnl A bare name would be looked for by cargo's build scripts, each in its own way.
  case $PHP_CONFIG in
    */*) ;;
    *) cluster_lock_php_config=$PHP_CONFIG; unset PHP_CONFIG; AC_PATH_PROG([PHP_CONFIG], [$cluster_lock_php_config]) ;;
  esac

  dnl What PHP_NEW_EXTENSION would do for sources in C.
  PHP_MODULES="$PHP_MODULES \$(phplibdir)/cluster_lock.la"
  PHP_ADD_BUILD_DIR([modules])
  PHP_SUBST([CARGO])
  PHP_SUBST([RUSTC])
  PHP_SUBST([PHP_CONFIG])
  PHP_SUBST([CLUSTER_LOCK_SOURCE])
  PHP_ADD_MAKEFILE_FRAGMENT([$abs_srcdir/Makefile.frag], [$abs_srcdir], [.])
fi
