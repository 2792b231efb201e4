//! Where in PHP code a lock is asked for: for reports, unless `cluster_lock.report_call` is off.
//!
//! The shim shows the code that runs, from the innermost on, just before a lock is asked for, and nothing of it is kept but
//! this copy. It stands beside the request's table because it is asked for on the way of every lock, and needs no check for
//! a fork: each call is told anew.

use std::borrow::Cow;
use std::cell::RefCell;

use cluster_lock_core::Call;

use crate::settings;

/// The most bytes told of a function's name. What is told stands in the server's memory once for every waiter.
const MAX_FUNCTION: usize = 256;
/// The most bytes told of a file's path: of a longer one its end.
const MAX_FILE: usize = 512;

/// Code in these namespaces locks for its caller, who is told instead: this project's packages, and what of Symfony's stands
/// between an application and a store.
const WRAPPERS: [&[u8]; 2] = [b"ClusterLock\\", b"Symfony\\Component\\Lock\\"];

/// One function that runs, as PHP knows it; empty is what it has not.
pub(crate) struct Frame<'a> {
    /// The class that it is a method of.
    pub(crate) class: &'a [u8],
    pub(crate) function: &'a [u8],
    pub(crate) file: &'a [u8],
    /// Where in the file it is.
    pub(crate) line: u32,
}

thread_local! {
    static CALL: RefCell<Call> = RefCell::default();
}

/// The call of a lock that is about to be asked for.
pub(super) fn with<T>(read: impl FnOnce(&Call) -> T) -> T {
    CALL.with_borrow(read)
}

/// Forgets the last one. Whether the next is to be told.
pub(crate) fn begin() -> bool {
    CALL.with_borrow_mut(|call| {
        call.file.clear();
        call.function.clear();
    });
    settings::with(|settings| settings.values.report_call)
}

/// One of the functions that run, the innermost first; whether that is enough. Where there are only wrappers it is the
/// innermost.
pub(crate) fn tell(frame: &Frame<'_>) -> bool {
    let named = if frame.class.is_empty() { frame.function } else { frame.class };
    let wraps = WRAPPERS.iter().any(|namespace| named.starts_with(namespace));
    CALL.with_borrow_mut(|call| {
        if !wraps || call.is_unknown() {
            set(call, frame);
        }
    });
    !wraps
}

fn set(call: &mut Call, frame: &Frame<'_>) {
    call.function.clear();
    if !frame.class.is_empty() {
        call.function.push_str(&text(name(frame.class)));
        call.function.push_str("::");
    }
    // With a namespace or a path, as versions of PHP have it: file and line tell that.
    let is_closure = frame.function.windows(CLOSURE.len()).any(|part| part == CLOSURE);
    call.function.push_str(&if is_closure { Cow::Borrowed("{closure}") } else { text(name(frame.function)) });
    call.file.clear();
    let file = without_secrets(frame.file);
    match file.len().checked_sub(MAX_FILE) {
        Some(over @ 1..) => {
            // From the beginning of a character on.
            let end = file.get(over..).unwrap_or_default();
            let whole = end.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or_default();
            call.file.push('…');
            call.file.push_str(&text(end.get(whole..).unwrap_or_default()));
        }
        _ => call.file.push_str(&text(&file)),
    }
    call.line = frame.line;
}

const CLOSURE: &[u8] = b"{closure";

/// A class's or function's name, cut between two characters. Behind a NUL byte, the name of an anonymous class has a path.
fn name(name: &[u8]) -> &[u8] {
    let shown = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let begins = |end: &usize| shown.get(*end).is_some_and(|byte| byte & 0xc0 != 0x80);
    let end = (MAX_FUNCTION - 3..=MAX_FUNCTION).rev().find(begins).unwrap_or(MAX_FUNCTION);
    shown.get(..end).unwrap_or(shown)
}

/// What is told of a file that PHP knows by an address (`vault://user:password@host/a.php?key=…`): neither who may read it
/// nor its query. Of `data:` the rest is code.
fn without_secrets(file: &[u8]) -> Cow<'_, [u8]> {
    let is_of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let end = file.iter().position(|byte| !is_of_scheme(byte)).unwrap_or(file.len());
    let (scheme, rest) = file.split_at_checked(end).unwrap_or((file, b""));
    if scheme.eq_ignore_ascii_case(b"data") && rest.starts_with(b":") {
        return Cow::Borrowed(b"data:");
    }
    let Some(address) = rest.strip_prefix(b"://") else { return Cow::Borrowed(file) };
    let (address, query) = match address.iter().position(|&byte| byte == b'?') {
        Some(end) => address.split_at_checked(end).unwrap_or((address, b"")),
        None => (address, &b""[..]),
    };
    let shown = match address.iter().rposition(|&byte| byte == b'@') {
        _ if address.starts_with(b"/") => address,
        Some(at) => address.get(at + 1..).unwrap_or_default(),
        // The question mark may stand in a password.
        None if query.contains(&b'@') => b"",
        None => address,
    };
    Cow::Owned([scheme, b"://", shown].concat())
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
