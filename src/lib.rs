//! The extension: all that knows PHP, nothing that knows Redis.
