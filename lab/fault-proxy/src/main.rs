//! `fault-proxy --to HOST:PORT [--listen HOST:PORT]`: see README.md for the commands on its input.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fault_proxy::{Command, Proxy};

const USAGE: &str = "usage: fault-proxy --to HOST:PORT [--listen 127.0.0.1:0]";

fn start() -> Result<Proxy, String> {
    let (mut listen, mut to) = ("127.0.0.1:0".to_owned(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match option.as_str() {
            "--to" => to = Some(value),
            "--listen" => listen = value,
            _ => return Err(USAGE.into()),
        }
    }
    let to = to.ok_or(USAGE)?;
    Proxy::start_on(&*listen, &*to).map_err(|e| format!("fault-proxy: from {listen} to {to}: {e}"))
}

fn main() -> ExitCode {
    let proxy = match start() {
        Ok(proxy) => Arc::new(proxy),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", proxy.address().port());
    let watched = Arc::clone(&proxy);
    std::thread::spawn(move || {
        for count in 1.. {
            while !watched.await_fired(count, Duration::from_secs(3600)) {}
            println!("fired");
        }
    });
    for line in std::io::stdin().lines().map_while(Result::ok) {
        // Locked, so that what a command does is not told before the command itself.
        let mut out = std::io::stdout().lock();
        let told = match line.parse::<Command>() {
            Ok(command) => {
                proxy.apply(command);
                writeln!(out, "{}", line.trim())
            }
            Err(error) => writeln!(out, "error: {error}: {line}"),
        };
        if told.is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}
