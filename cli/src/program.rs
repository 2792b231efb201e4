//! Other programs that are asked for something, and may not answer.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
}

/// What a program says that is given this to read; it is killed when it takes longer than that.
///
/// # Errors
/// In words: it cannot be started, or says nothing in time.
pub(crate) fn ask(command: &mut Command, input: Vec<u8>, patience: Duration) -> Result<Said, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let (send, receive) = mpsc::channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let collect = |stream: Option<Box<dyn Read + Send>>, is_out: bool| {
        let send = send.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            let _ = send.send((is_out, bytes));
        });
    };
    collect(stdout.map(|stream| Box::new(stream) as _), true);
    collect(stderr.map(|stream| Box::new(stream) as _), false);
    let mut said = Said { out: Vec::new(), err: Vec::new() };
    for _ in 0..2 {
        match receive.recv_timeout(patience) {
            Ok((true, bytes)) => said.out = bytes,
            Ok((false, bytes)) => said.err = bytes,
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it has not answered within {} s", patience.as_secs()));
            }
        }
    }
    let _ = child.wait();
    Ok(said)
}
