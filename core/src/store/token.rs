//! What tells one acquisition from all others.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Names one acquisition, unguessably: 128 random bits in hexadecimal. Never shown to anyone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token([u8; 32]);

impl Token {
    /// A fresh token from the kernel's random number generator.
    pub fn random() -> Self {
        let mut raw = [0u8; 16];
        let mut filled = 0;
        // getrandom(2) never fails for 16 bytes once the system has booted; it may be interrupted.
        while filled < raw.len() {
            if let Ok(n) = rustix::rand::getrandom(
                raw.get_mut(filled..).unwrap_or_default(),
                rustix::rand::GetRandomFlags::empty(),
            ) {
                filled += n;
            }
        }
        let mut hex = [0u8; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(raw) {
            if let [hi, lo] = pair {
                *hi = HEX.get(usize::from(byte >> 4)).copied().unwrap_or_default();
                *lo = HEX.get(usize::from(byte & 15)).copied().unwrap_or_default();
            }
        }
        Self(hex)
    }

    /// The 32 hexadecimal digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}
