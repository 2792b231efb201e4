//! A server that says anything: no panic, no memory without bound, and a connection is either broken for
//! good or has read a whole reply.
#![no_main]

#[path = "../server.rs"]
mod server;

use std::time::Duration;

use cluster_lock_core::wire::{Connection, Fault};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8], &[u8])| {
    let (greets, first, second) = input;
    let greeting: &[u8] = if greets { b"+OK\r\n" } else { b"" };
    let says = [greeting, first, second].concat();
    let server = server::address();
    server::will_say(says);
    let limit = Duration::from_millis(200);
    let Ok((mut connection, _)) = Connection::open(&server, None, limit, limit, "fuzz") else { return };
    for _ in 0..4 {
        let healthy = connection.is_healthy();
        match connection.call(&[b"PING"]) {
            Ok(_) | Err(Fault::Refused(..)) => assert!(connection.is_healthy()),
            Err(Fault::Broken(why)) => {
                assert!(!connection.is_healthy(), "it broke ({why}) and passes for healthy");
                assert!(!why.is_empty() && healthy);
                return;
            }
        }
    }
    if connection.post(&[b"PING"]).is_ok() && connection.gather().is_err() {
        assert!(!connection.is_healthy());
    }
});
