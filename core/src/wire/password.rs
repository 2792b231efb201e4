//! The password as it is now: from the DSN, or from a file that others may have replaced meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::dsn::{Password, Secret};
use crate::text;

/// The most bytes of a password in a file. The tokens of cloud services have some thousand.
const MOST: u64 = 64 << 10;

impl Password {
    /// The password itself. Of a file what stands there now, without the end of its last line.
    ///
    /// # Errors
    /// Which file cannot be used, and why; nothing of what stands in it.
    pub fn now(&self) -> Result<Secret, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => {
                read(path).map_err(|why| format!("the password file {}: {why}", text::path(path)))
            }
        }
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let said = |e: &io::Error| text::said(&text::os_error(e));
    // A pipe without a writer would be waited for, and a terminal become ours.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(|e| said(&e))?;
    if !file.metadata().map_err(|e| said(&e))?.is_file() {
        return Err("it is not a regular file".into());
    }
    let mut content = String::new();
    match file.take(MOST + 1).read_to_string(&mut content) {
        Ok(length) if length as u64 > MOST => return Err(format!("it is longer than {MOST} bytes")),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err("its content is not UTF-8".into()),
        Err(e) => return Err(said(&e)),
    }
    if content.ends_with('\n') {
        content.pop();
        if content.ends_with('\r') {
            content.pop();
        }
    }
    if content.is_empty() { Err("it is empty".into()) } else { Ok(Secret::new(content)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_anew_without_the_end_of_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let now = || Password::File(path.clone()).now().map(|secret| secret.reveal().to_owned());
        for (content, password) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("a b\r\n", "a b"),
            ("x\n\n", "x\n"),
            (" x ", " x "),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(now().unwrap(), password);
        }
        let long = "x".repeat(MOST.try_into().unwrap());
        fs::write(&path, &long).unwrap();
        assert_eq!(now().unwrap(), long);
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let fails = |why: &str| {
            let error = Password::File(path.clone()).now().unwrap_err();
            assert!(error.contains("/token: ") && error.contains(why), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        };
        fails("No such file");
        for (content, why) in [
            (b"".to_vec(), "empty"),
            (b"\n".to_vec(), "empty"),
            (b"hunter2\xff".to_vec(), "UTF-8"),
            ("hunter2".repeat(10_000).into_bytes(), "longer than"),
        ] {
            fs::write(&path, content).unwrap();
            fails(why);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fails("not a regular file");
        fs::remove_dir(&path).unwrap();
        // Which nobody writes to.
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        fails("not a regular file");
    }
}
