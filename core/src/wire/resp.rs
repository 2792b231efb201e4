//! Redis' protocol: how a command is written, and where a reply ends.

/// Writes a command behind what is in `packed`.
pub(super) fn pack(packed: &mut Vec<u8>, command: &[&[u8]]) {
    let mut decimal = itoa::Buffer::new();
    let mut number = |packed: &mut Vec<u8>, kind: u8, n: usize| {
        packed.push(kind);
        packed.extend_from_slice(decimal.format(n).as_bytes());
        packed.extend_from_slice(b"\r\n");
    };
    number(packed, b'*', command.len());
    for word in command {
        number(packed, b'$', word.len());
        packed.extend_from_slice(word);
        packed.extend_from_slice(b"\r\n");
    }
}

/// The length of the first whole reply in `bytes`; `None` while it is not there whole.
pub(super) fn length(bytes: &[u8], depth: u8) -> Result<Option<usize>, ()> {
    let Some(line) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (kind, text) = bytes.get(..line).and_then(<[u8]>::split_first).ok_or(())?;
    let mut end = line + 2;
    let number = || std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()).ok_or(());
    match kind {
        b'+' | b'-' | b':' => {}
        b'$' => {
            // Nil has no body.
            if let Ok(length) = usize::try_from(number()?) {
                end = end.checked_add(length).and_then(|end| end.checked_add(2)).ok_or(())?;
            }
        }
        b'*' if depth < 8 => {
            for _ in 0..number()? {
                match length(bytes.get(end..).unwrap_or_default(), depth + 1)? {
                    Some(length) => end += length,
                    None => return Ok(None),
                }
            }
        }
        _ => return Err(()),
    }
    Ok((end <= bytes.len()).then_some(end))
}

/// A whole integer reply: `:123\r\n`.
pub(super) fn integer(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_reply() {
        let whole: [&[u8]; 6] = [
            b"+OK\r\n",
            b":-1\r\n",
            b"$-1\r\n",
            b"$3\r\na\r\n\r\n",
            b"*-1\r\n",
            b"*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
        ];
        for reply in whole {
            let more = [reply, b"+next"].concat();
            assert_eq!(length(&more, 0), Ok(Some(reply.len())), "{reply:?}");
            for cut in 0..reply.len() {
                assert_eq!(length(&reply[..cut], 0), Ok(None), "{reply:?} {cut}");
            }
        }
        let wrong: [&[u8]; 4] = [b"?\r\n", b"\r\n", b"$x\r\n", b"*1\r\n!\r\n"];
        for reply in wrong {
            assert_eq!(length(reply, 0), Err(()), "{reply:?}");
        }
        assert_eq!(length(&b"*1\r\n".repeat(9), 0), Err(()));
    }
}
