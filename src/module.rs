//! The module entry that PHP loads: name, version, and the hooks of the life cycle.
//!
//! | hook | what happens |
//! |---|---|
//! | module startup | ini entries, functions, classes; no thread and no connection, fpm forks later |
//! | request startup | hides the password of a DSN that a pool or a virtual host has set |
//! | request shutdown | aborts half-written files, releases every lock |
//! | post deactivate | the same for what was acquired after that, and forgets the objects |
//! | server module's deactivate and activate, `frankenphp_handle_request()` | the same, for FrankenPHP's workers, whose requests have none of the above |
//! | module shutdown | stops the renewal threads, closes the connections |
// The macro's expansion exports get_module; the hooks are the shim's.
#![allow(unsafe_code)]

use std::ffi::c_int;

use ext_php_rs::prelude::*;
use ext_php_rs::zend::ModuleEntry;

unsafe extern "C" {
    fn clk_shim_minit(kind: c_int, module_number: c_int) -> c_int;
    fn clk_shim_mshutdown(kind: c_int, module_number: c_int) -> c_int;
    fn clk_shim_rinit(kind: c_int, module_number: c_int) -> c_int;
    fn clk_shim_rshutdown(kind: c_int, module_number: c_int) -> c_int;
    fn clk_shim_post_deactivate() -> c_int;
    fn clk_shim_minfo(module: *mut ModuleEntry);
}

/// The module.
#[php_module]
pub fn get_module(module: ModuleBuilder) -> ModuleBuilder {
    module
        .name("cluster_lock")
        .version(env!("CARGO_PKG_VERSION"))
        .startup_function(clk_shim_minit)
        .shutdown_function(clk_shim_mshutdown)
        .request_startup_function(clk_shim_rinit)
        .request_shutdown_function(clk_shim_rshutdown)
        .post_deactivate_function(clk_shim_post_deactivate)
        .info_function(clk_shim_minfo)
}
