//! A DSN with a password: whatever is around it, and whether or not it is right, nothing that may be
//! shown contains the password.
#![no_main]

use arbitrary::Arbitrary;
use cluster_lock_core::dsn::{Dsn, redact};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "qX7kSecretW3z";

#[derive(Arbitrary, Debug)]
struct Login<'a> {
    scheme: u8,
    user: &'a str,
    before: &'a str,
    after: &'a str,
    hosts: &'a str,
    tail: &'a str,
    /// Where the password stands: in the authority, or in an option.
    option: bool,
}

fn text(login: &Login<'_>) -> String {
    let schemes = [
        "redis",
        "rediss",
        "valkey",
        "redis+unix",
        "redis+sentinel",
        "rediss+sentinel",
        "redis+cluster",
        "redis+quorum",
        "http",
    ];
    let scheme = schemes[usize::from(login.scheme) % schemes.len()];
    let Login { user, before, after, hosts, tail, .. } = login;
    if login.option {
        // What ends the option begins another one, and that is no password.
        let before = before.replace(['&', '#'], "");
        format!("{scheme}://{hosts}/{user}?sentinel_password={before}{SECRET}{after}&{tail}")
    } else {
        format!("{scheme}://{user}:{before}{SECRET}{after}@{hosts}/{tail}")
    }
}

fuzz_target!(|input: (Login<'_>, &str)| {
    let (login, any) = input;
    let Login { user, before, after, hosts, tail, .. } = &login;
    if [user, before, after, hosts, tail].iter().any(|part| part.replace(char::is_control, "").contains(SECRET)) {
        return; // a secret that is written somewhere else as well
    }
    let text = text(&login);
    let shown = match Dsn::parse(&text) {
        Ok(dsn) => format!("{dsn:?} {} {}", dsn.redacted(), dsn.backend()),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(SECRET), "{text:?} shows {shown:?}");
    assert!(!redact(&text).contains(SECRET), "{text:?}");

    // What is shown of a DSN that is right can be read again, and shows the same.
    if let Ok(dsn) = Dsn::parse(any) {
        let _ = format!("{dsn:?}");
        assert!(!dsn.redacted().is_empty());
    }
    let _ = redact(any);
});
