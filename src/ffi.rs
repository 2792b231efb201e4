//! The border to the C shim, from its side: mirrors what `zend_shim.h` calls of Rust, item by item.
//!
//! Every function here is called by the shim, never unwinds into it, and returns before the shim
//! raises anything (see `zend_shim.h` for why).
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{OsStr, c_int};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

use cluster_lock_core::settings::{Scope, TABLE};
use cluster_lock_core::{Mode, nfs, registry};
use ext_php_rs::types::Zval;

use crate::arguments::Checked;
use crate::php::HeldSignals;
use crate::reply::{Class, Reply, Trouble, Value};
use crate::request::call::Frame;
use crate::request::files::{Asking, Handle};
use crate::request::{builds, call, files, leaving, names, objects, runs, writes};
use crate::settings::By;
use crate::{hidden_dsn, info, request, settings, words};

/// `clk_bytes`
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    ptr: *const u8,
    len: usize,
}

impl Bytes {
    const NONE: Self = Self { ptr: ptr::null(), len: 0 };

    fn of(bytes: Option<&[u8]>) -> Self {
        bytes.map_or(Self::NONE, |bytes| Self { ptr: bytes.as_ptr(), len: bytes.len() })
    }

    fn get<'a>(self) -> Option<&'a [u8]> {
        if self.ptr.is_null() {
            return None;
        }
        // SAFETY: the shim passes bytes of a zend_string or of a buffer that it keeps alive and
        // unchanged for the length of the call, and nothing here outlives the call.
        Some(unsafe { std::slice::from_raw_parts(self.ptr, self.len) })
    }

    fn or_empty<'a>(self) -> &'a [u8] {
        self.get().unwrap_or_default()
    }
}

/// `clk_seconds`
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Seconds {
    value: f64,
    given: bool,
}

impl Seconds {
    fn get(self) -> Option<f64> {
        self.given.then_some(self.value)
    }
}

/// `clk_reply`
#[repr(C)]
pub(crate) struct RawReply {
    value: u32,
    trouble: u32,
    argument: u32,
    integer: i64,
    real: f64,
    id: u64,
    message: Bytes,
    log: Bytes,
    path: Bytes,
}

const NULL: u32 = 0;
const FALSE: u32 = 1;
const TRUE: u32 = 2;
const INT: u32 = 3;
const FLOAT: u32 = 4;
const ARRAY: u32 = 5;
const AGAIN: u32 = 6;
const BAILOUT: u32 = 7;

const FINE: u32 = 0;
const WARNING: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const THROW_LOCK: u32 = 3;
const THROW_TIMEOUT: u32 = 4;
const THROW_LOST: u32 = 5;
const THROW_CONNECTION: u32 = 6;
const THROW_ERROR: u32 = 7;

/// What the bytes of the last reply point into.
#[derive(Default)]
struct Texts {
    message: Option<String>,
    log: Option<String>,
    path: Option<Vec<u8>>,
}

// A program may call exit() in the middle of a request and shut PHP down after that: what is a thread's is gone then, and
// nothing here may panic outside of `guarded`.
thread_local! {
    static TEXTS: RefCell<Texts> = RefCell::default();
    /// Where the last panic happened; PHP shows it with the error.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `work`; a panic becomes PHP's `Error`.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Reply> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        let place = PANIC.try_with(RefCell::take).unwrap_or_default();
        Reply::throw(Class::Error, words::internal(&place))
    })
}

/// Runs `work` for its effect; a panic is not told, since nobody could be.
fn quietly<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    guarded(work).unwrap_or(otherwise)
}

/// The same for what is no question, but work: in its middle no signal ends the process.
fn work_quietly<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    let _held = HeldSignals::new();
    quietly(otherwise, work)
}

/// Answers a call that gives no array.
///
/// # Safety
/// `out` points to a `clk_reply` of the caller.
unsafe fn reply(out: *mut RawReply, work: impl FnOnce() -> Reply) {
    let _held = HeldSignals::new();
    let reply = guarded(work).unwrap_or_else(|panicked| panicked);
    let raw = raw(reply, None);
    // SAFETY: the caller's promise; the old content needs no drop.
    unsafe { out.write(raw) };
}

/// Answers a call that may find an argument at fault.
///
/// # Safety
/// As [`reply`].
unsafe fn answer(out: *mut RawReply, work: impl FnOnce() -> Checked) {
    // SAFETY: the caller's promise.
    unsafe { reply(out, || work().unwrap_or_else(Into::into)) }
}

/// Answers a call that may give an array.
///
/// # Safety
/// As [`reply`]; and `array` points to an initialised zval that needs no destruction.
unsafe fn answer_array(out: *mut RawReply, array: *mut Zval, work: impl FnOnce() -> Checked) {
    let _held = HeldSignals::new();
    let reply = guarded(|| work().unwrap_or_else(Into::into)).unwrap_or_else(|panicked| panicked);
    // SAFETY: the caller's promise.
    let raw = raw(reply, unsafe { array.as_mut() });
    // SAFETY: the caller's promise; the old content needs no drop.
    unsafe { out.write(raw) };
}

fn raw(reply: Reply, array: Option<&mut Zval>) -> RawReply {
    let Reply { value, trouble, log, id, path } = reply;
    let (mut integer, mut real) = (0, 0.0);
    let value = match value {
        Value::Null => NULL,
        Value::False => FALSE,
        Value::True => TRUE,
        Value::Int(number) => {
            integer = number;
            INT
        }
        Value::Float(number) => {
            real = number;
            FLOAT
        }
        Value::Again => AGAIN,
        Value::Bailout => BAILOUT,
        Value::Array(table) => match array {
            Some(zval) => {
                zval.set_hashtable(table);
                ARRAY
            }
            None => NULL,
        },
    };
    let mut argument = 0;
    let (trouble, message) = match trouble {
        None => (FINE, None),
        Some(Trouble::Warning(message)) => (WARNING, Some(message)),
        Some(Trouble::Argument(bad)) => {
            argument = bad.number;
            (BAD_ARGUMENT, Some(bad.message))
        }
        Some(Trouble::Throw(class, message)) => (thrown(class), Some(message)),
    };
    let texts = Texts { message, log, path };
    let message = Bytes::of(texts.message.as_deref().map(str::as_bytes));
    let log = Bytes::of(texts.log.as_deref().map(str::as_bytes));
    let path = Bytes::of(texts.path.as_deref());
    // Their bytes stay where they are.
    let kept = TEXTS.try_with(|place| place.replace(texts)).is_ok();
    let (message, log, path) =
        if kept { (message, log, path) } else { (Bytes::NONE, Bytes::NONE, Bytes::NONE) };
    RawReply { value, trouble, argument, integer, real, id, message, log, path }
}

fn thrown(class: Class) -> u32 {
    match class {
        Class::Lock => THROW_LOCK,
        Class::Timeout => THROW_TIMEOUT,
        Class::Lost => THROW_LOST,
        Class::Connection => THROW_CONNECTION,
        Class::Error => THROW_ERROR,
    }
}

/// The module starts.
#[unsafe(no_mangle)]
extern "C" fn clk_process_begin() {
    // Our own copy of Rust's runtime, so no other extension's panics are concerned.
    std::panic::set_hook(Box::new(|panic| {
        let _ = PANIC.try_with(|place| place.replace(panic.to_string()));
    }));
    quietly((), settings::begin);
}

/// The module ends.
#[unsafe(no_mangle)]
extern "C" fn clk_process_end() {
    quietly((), || {
        request::gone();
        registry::shutdown();
    });
}

/// The request ends.
#[unsafe(no_mangle)]
extern "C" fn clk_request_end() {
    quietly((), || request::with_used(request::Request::end));
}

/// Waits for what the request is owed of locks that it has given back. True: `out` tells something of that, and is to be asked
/// for again.
#[unsafe(no_mangle)]
unsafe extern "C" fn clk_owed(out: *mut RawReply) -> bool {
    let Some(told) = quietly(None, leaving::next_told) else { return false };
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || told) };
    true
}

/// The request's objects are gone.
#[unsafe(no_mangle)]
extern "C" fn clk_request_gone() {
    quietly((), request::gone);
}

/// What was configured for the request is gone.
#[unsafe(no_mangle)]
extern "C" fn clk_request_settings_gone() {
    quietly((), settings::request_gone);
}

/// Whether this request has said who it is.
#[unsafe(no_mangle)]
extern "C" fn clk_identity_known() -> bool {
    quietly(true, || request::with(|request| request.is_identified()))
}

/// A fiber ends.
#[unsafe(no_mangle)]
extern "C" fn clk_fiber_ended(fiber: usize) {
    quietly((), || request::with_used(|request| request.fiber_ended(fiber)));
}

/// Says who this request is.
#[unsafe(no_mangle)]
extern "C" fn clk_identity(sapi: Bytes, script: Bytes, uri: Bytes) {
    let (sapi, script, uri) = (sapi.or_empty(), script.or_empty(), uri.or_empty());
    work_quietly((), || request::with(|request| request.identify(sapi, script, uri)));
}

/// A lock is about to be asked for. Whether the shim is to tell who calls.
#[unsafe(no_mangle)]
extern "C" fn clk_call_begin() -> bool {
    quietly(false, call::begin)
}

/// One of the functions that run, the innermost first; whether that is enough.
#[unsafe(no_mangle)]
extern "C" fn clk_call_frame(class: Bytes, function: Bytes, file: Bytes, line: u32) -> bool {
    let (class, function, file) = (class.or_empty(), function.or_empty(), file.or_empty());
    work_quietly(true, || call::tell(&Frame { class, function, file, line }))
}

/// `clk_ini_entry`
#[repr(C)]
struct IniEntry {
    name: Bytes,
    default: Bytes,
    anywhere: bool,
    is_switch: bool,
}

/// How many settings there are.
#[unsafe(no_mangle)]
extern "C" fn clk_ini_entries() -> usize {
    TABLE.len()
}

/// One of them, if there are that many.
#[unsafe(no_mangle)]
unsafe extern "C" fn clk_ini_entry_at(index: usize, out: *mut IniEntry) -> bool {
    let Some(setting) = TABLE.get(index) else { return false };
    let entry = IniEntry {
        name: Bytes::of(Some(setting.full_name.as_bytes())),
        default: Bytes::of(Some(setting.default.as_bytes())),
        anywhere: setting.scope == Scope::Anywhere,
        is_switch: setting.is_switch,
    };
    // SAFETY: `out` is the shim's; the old content needs no drop.
    unsafe { out.write(entry) };
    true
}

/// PHP sets an ini entry.
#[unsafe(no_mangle)]
unsafe extern "C" fn clk_setting(name: Bytes, value: Bytes, by: u32, out: *mut RawReply) {
    let by = match by {
        1 => By::Request,
        2 => By::Start,
        3 => By::Pool,
        _ => By::Code,
    };
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || settings::update(name.or_empty(), value.or_empty(), by)) }
}

/// The next setting that was refused where nobody heard it; none: there is no other. Valid until the next call.
#[unsafe(no_mangle)]
extern "C" fn clk_unheard() -> Bytes {
    quietly(Bytes::NONE, || {
        let message = settings::unheard();
        TEXTS.with_borrow_mut(|texts| {
            texts.message = message;
            Bytes::of(texts.message.as_deref().map(str::as_bytes))
        })
    })
}

/// What PHP is to show of a DSN in its configuration; none: it may stay. Valid until the next call.
#[unsafe(no_mangle)]
extern "C" fn clk_hide_dsn(dsn: Bytes) -> Bytes {
    quietly(Bytes::NONE, || {
        let shown = std::str::from_utf8(dsn.or_empty()).ok().and_then(hidden_dsn::hide);
        TEXTS.with_borrow_mut(|texts| {
            texts.message = shown;
            Bytes::of(texts.message.as_deref().map(str::as_bytes))
        })
    })
}

/// The DSN that PHP is to keep; valid until the next setting.
#[unsafe(no_mangle)]
extern "C" fn clk_dsn_shown() -> Bytes {
    quietly(Bytes::NONE, || settings::dsn_shown(|shown| Bytes::of(shown.map(str::as_bytes))))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_lock(
    name: Bytes,
    timeout: Seconds,
    mode: i64,
    ttl: Seconds,
    resume: u64,
    out: *mut RawReply,
) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || names::lock(name.or_empty(), timeout.get(), mode, ttl.get(), resume)) }
}

/// Gives up a wait that was interrupted.
#[unsafe(no_mangle)]
extern "C" fn clk_give_up(wait: u64) {
    work_quietly((), || request::give_up(wait));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_unlock(name: Bytes, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || names::unlock(name.or_empty())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_enter(name: Bytes, timeout: Seconds, ttl: Seconds, resume: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || names::enter(name.or_empty(), timeout.get(), ttl.get(), resume)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_leave(name: Bytes, id: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || names::leave(name.or_empty(), id)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_run_begin(
    name: Bytes,
    timeout: Seconds,
    ttl: Seconds,
    resume: u64,
    out: *mut RawReply,
) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || runs::begin(name.or_empty(), timeout.get(), ttl.get(), resume)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_run_end(name: Bytes, id: u64, complete: bool, forgotten: bool, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || runs::end(name.or_empty(), id, complete, forgotten)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_fence(name: Bytes, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || names::fence(name.or_empty())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_info(name: Bytes, array: *mut Zval, out: *mut RawReply) {
    // SAFETY: `out` is the shim's, `array` its return value, which is null.
    unsafe { answer_array(out, array, || info::info(name.or_empty())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_list(prefix: Bytes, limit: i64, array: *mut Zval, out: *mut RawReply) {
    // SAFETY: `out` is the shim's, `array` its return value, which is null.
    unsafe { answer_array(out, array, || info::list(prefix.or_empty(), limit)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_break(name: Bytes, fence: i64, any_holder: bool, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || info::break_lock(name.or_empty(), (!any_holder).then_some(fence))) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_servers(array: *mut Zval, out: *mut RawReply) {
    // SAFETY: `out` is the shim's, `array` its return value, which is null.
    unsafe { answer_array(out, array, || Ok(info::servers())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_status(array: *mut Zval, out: *mut RawReply) {
    // SAFETY: `out` is the shim's, `array` its return value, which is null.
    unsafe { answer_array(out, array, || Ok(info::status())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_write_begin(path: Bytes, lock: Bytes, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || writes::begin(path.or_empty(), lock.get())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_write_open(id: u64, append: bool, exclusive: bool, resume: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || writes::open(id, append, exclusive, resume)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_write_push(id: u64, data: Bytes, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || writes::push(id, data.or_empty())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_write_commit(id: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || writes::commit(id)) }
}

#[unsafe(no_mangle)]
extern "C" fn clk_write_abort(id: u64) {
    work_quietly((), || writes::abort(id));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_build_find(path: Bytes, timeout: Seconds, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || builds::find(path.or_empty(), timeout.get())) }
}

#[unsafe(no_mangle)]
extern "C" fn clk_build_source(id: u64, path: Bytes) {
    work_quietly((), || builds::source(id, path.or_empty()));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_build_begin(id: u64, resume: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || builds::begin(id, resume)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_build_end(id: u64, content: Bytes, returned: Bytes, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || builds::end(id, content.get(), returned.get())) }
}

/// `clk_stream`
#[repr(C)]
#[derive(Clone, Copy)]
struct Stream {
    address: usize,
    fd: c_int,
}

impl Stream {
    fn handle(self) -> Handle {
        Handle::new(self.address, self.fd)
    }

    /// # Safety
    /// The stream is open, and stays so as long as what is returned is used.
    unsafe fn file<'a>(self) -> BorrowedFd<'a> {
        // SAFETY: the caller's promise; an open stream's descriptor is not -1.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

/// `clk_flock_wish`
#[repr(C)]
#[derive(Clone, Copy)]
struct FlockWish {
    exclusive: bool,
    at_once: bool,
    by_name: bool,
    loud: bool,
}

/// Whether a lock on a file may concern us.
#[unsafe(no_mangle)]
extern "C" fn clk_flock_watching() -> bool {
    quietly(false, files::is_watching)
}

/// Whether this request has locked any file.
#[unsafe(no_mangle)]
extern "C" fn clk_flock_any() -> bool {
    quietly(false, files::any)
}

/// Whether this stream has a lock. Asked whenever a stream is closed.
#[unsafe(no_mangle)]
extern "C" fn clk_flock_holds(address: usize) -> bool {
    quietly(false, || files::holds(address))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_flock_begin(stream: Stream, typed: Bytes, wish: FlockWish, out: *mut RawReply) {
    // SAFETY: the shim passes a stream that is open during the call.
    let file = unsafe { stream.file() };
    let typed = Path::new(OsStr::from_bytes(typed.or_empty()));
    let FlockWish { exclusive, at_once, by_name, loud } = wish;
    let mode = if exclusive { Mode::Exclusive } else { Mode::Shared };
    let asking = Asking { mode, at_once, by_name, loud };
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || files::begin(stream.handle(), file, typed, asking)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_flock_take(id: u64, stream: Stream, out: *mut RawReply) {
    // SAFETY: the shim passes a stream that is open during the call.
    let file = unsafe { stream.file() };
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || files::take(id, file)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_flock_release(stream: Stream, out: *mut RawReply) {
    // SAFETY: the shim passes a stream that is open during the call.
    let file = unsafe { stream.file() };
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || files::release(stream.handle(), file)) }
}

#[unsafe(no_mangle)]
extern "C" fn clk_flock_share(with: Stream, stream: Stream) {
    work_quietly((), || files::share(with.handle(), stream.handle()));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_flock_closing(stream: Stream) {
    // SAFETY: the shim passes a stream that is open during the call.
    let file = unsafe { stream.file() };
    work_quietly((), || files::closing(stream.handle(), file));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_flock_closed(stream: Stream, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || files::closed(stream.handle())) }
}

/// Makes this node ask the file server about a path.
#[unsafe(no_mangle)]
extern "C" fn clk_refresh_path(path: Bytes) {
    work_quietly((), || nfs::refresh_path(Path::new(OsStr::from_bytes(path.or_empty()))));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_object_new(name: Bytes, mode: i64, ttl: Seconds, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || objects::new(name.or_empty(), mode, ttl.get())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_object_acquire(id: u64, timeout: Seconds, resume: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || objects::acquire(id, timeout.get(), resume)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_object_release(id: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || objects::release(id)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_object_refresh(id: u64, ttl: Seconds, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { answer(out, || objects::refresh(id, ttl.get())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_object_is_held(id: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || objects::is_held(id)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_object_remaining(id: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || objects::remaining(id)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_object_fence(id: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || objects::fence(id)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clk_object_destruct(id: u64, out: *mut RawReply) {
    // SAFETY: `out` is the shim's.
    unsafe { reply(out, || objects::destruct(id)) }
}

#[unsafe(no_mangle)]
extern "C" fn clk_object_free(id: u64) {
    work_quietly((), || objects::free(id));
}
