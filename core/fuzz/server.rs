//! A server in a thread of its own that says to whoever connects first what it was told to, and nothing
//! to who comes after.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};
use std::thread;

use cluster_lock_core::dsn::{Address, Server};

static SAYS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = tempfile::tempdir().expect("a directory").keep().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let says = std::mem::take(&mut *SAYS.lock().expect("no panic with it"));
            // The client may have gone, or go while it is spoken to.
            let _ = stream.write_all(&says);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    path
});

pub fn address() -> Server {
    Server { address: Address::Unix(PATH.clone()), tls: None, user: None, password: None, database: 0, grace: None }
}

pub fn will_say(says: Vec<u8>) {
    *SAYS.lock().expect("no panic with it") = says;
}
