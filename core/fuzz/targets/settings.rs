//! Path maps, rules of interception, prefixes: read or refused, and then used.
#![no_main]

use std::fs::File;
use std::path::Path;
use std::sync::LazyLock;

use cluster_lock_core::file::{Exclude, Intercept};
use cluster_lock_core::settings::read;
use cluster_lock_core::{LockName, PathMap};
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<File> = LazyLock::new(|| File::open("/").expect("the root directory"));

fuzz_target!(|input: (&str, &str)| {
    let (text, path) = input;
    let path = Path::new("/").join(path);
    match PathMap::parse(text) {
        Ok(map) => {
            let shared = map.apply(&path);
            assert!(shared.is_absolute(), "{map:?} makes {shared:?} of {path:?}");
            assert_eq!(map.apply(&path), shared);
            assert!(LockName::for_path(&path, &map).as_bytes().len() <= 1024);
            // Entries stand in no order.
            let turned: Vec<&str> = text.split(':').rev().collect();
            if let Ok(turned) = PathMap::parse(&turned.join(":")) {
                let _ = turned.apply(&path);
            }
        }
        Err(error) => assert!(error.to_string().contains("/local/prefix=/shared/name")),
    }
    match Intercept::parse(text) {
        Ok(rules) => {
            let _ = rules.matches(&path, &*FILE);
            assert!(!rules.is_empty() || !rules.matches(&path, &*FILE));
        }
        Err(error) => assert!(error.to_string().contains("@network")),
    }
    // A glob of many stars takes long, as it does in a shell.
    if text.matches('*').count() < 8
        && let Ok(globs) = Exclude::parse(text)
    {
        let _ = globs.matches(&path);
    }
    if let Ok(prefix) = read::prefix(text) {
        assert!(prefix.bytes().all(|b| b.is_ascii_graphic() && !b"{}*?[]\\^".contains(&b)));
    }
});
