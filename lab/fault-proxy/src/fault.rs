//! What can be wrong with the way between a program and its server.

use std::time::Duration;

/// A way that bytes take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the program to the server: requests.
    Up,
    /// From the server to the program: replies.
    Down,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The program's.
    Client,
    /// The server's.
    Server,
}

/// What happens to all bytes, until another fault is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: they are passed on.
    Pass,
    /// They are passed on this much later.
    Delay(Duration),
    /// They are passed on one by one, with this much time before each.
    Drip(Duration),
    /// They are kept, and so is the news that a peer has closed; passed on when the fault ends.
    Hold,
    /// They are lost, and so is the news that a peer has closed, until the fault ends.
    BlackHole,
    /// They are passed on, but new connections are refused.
    Refuse,
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order: both peers read the end of the stream (FIN).
    Close,
    /// At once: both peers get "connection reset" (RST).
    Reset,
}

/// One connection breaks, once: the one that carries the last of `after` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    /// The direction in which the bytes are counted, over all connections.
    pub direction: Direction,
    /// How many are passed on; with 0 the first one to come breaks the connection, and is lost.
    pub after: u64,
    /// How it ends.
    pub ending: Ending,
    /// What happens from then on, so that a test can look at the server before the program tries again.
    pub then: Fault,
}
