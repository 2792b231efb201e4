//! Builds the C shim against the PHP found by `php-config`, and passes on what kind of PHP it is.
//!
//! `PHP` and `PHP_CONFIG` choose another PHP; always set both, and one target directory for each.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use ext_php_rs_build::{ApiVersion, PHPInfo, emit_check_cfg, emit_php_cfg_flags, find_php};

fn main() -> Result<(), Box<dyn Error>> {
    let mut shim = cc::Build::new();
    for entry in fs::read_dir("src")? {
        let path = entry?.path();
        let is_source = path.extension().is_some_and(|ext| ext == "c");
        if is_source || path.extension().is_some_and(|ext| ext == "h") {
            println!("cargo:rerun-if-changed={}", path.display());
        }
        if is_source {
            shim.file(path);
        }
    }
    for variable in ["PHP", "PHP_CONFIG", "PATH", "CLUSTER_LOCK_STRICT"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }

    let info = PHPInfo::get(&find_php()?)?;
    let version: ApiVersion = info.zend_version()?.try_into()?;
    emit_check_cfg();
    emit_php_cfg_flags(version);
    if info.debug()? {
        println!("cargo:rustc-cfg=php_debug");
    }
    if info.thread_safety()? {
        println!("cargo:rustc-cfg=php_zts");
    }

    shim.define("ZEND_COMPILE_DL_EXT", "1")
        // PHP's headers use memrchr() and leave this to whoever includes them.
        .define("_GNU_SOURCE", None)
        .flag("-fvisibility=hidden")
        .warnings(true)
        .extra_warnings(true)
        .flag("-Wno-unused-parameter")
        // For us, not for those who build it with a compiler that we have not seen.
        .warnings_into_errors(env::var_os("CLUSTER_LOCK_STRICT").is_some());
    for folder in includes()?.split_whitespace() {
        // As system headers: PHP's own warnings are not ours to mend.
        shim.flag("-isystem").flag(folder.strip_prefix("-I").unwrap_or(folder));
    }
    shim.compile("zend_shim");

    // PHP unloads extensions before it destroys the tables that point into them, and a renewal
    // thread or a thread-local destructor may still run then.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    Ok(())
}

fn includes() -> Result<String, Box<dyn Error>> {
    let program = env::var_os("PHP_CONFIG").unwrap_or_else(|| "php-config".into());
    let output = Command::new(&program)
        .arg("--includes")
        .output()
        .map_err(|e| format!("{}: {e} (Debian: apt install php-dev)", Path::new(&program).display()))?;
    if !output.status.success() {
        return Err(format!("{} --includes failed", Path::new(&program).display()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
