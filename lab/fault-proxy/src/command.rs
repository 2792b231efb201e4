//! The commands of the binary, one a line.

use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use crate::fault::{Break, Direction, Ending, Fault, Side};

/// What [`crate::Proxy::apply`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets a fault, for both directions or for one.
    Set(Fault, Option<Direction>),
    /// Ends all connections now; new ones are made as ever.
    End(Ending),
    /// Closes this side of all connections, and the other side does not notice.
    HalfOpen(Side),
    /// Prepares a break.
    Prepare(Break),
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let command = match verb {
            "cut" => Self::End(Ending::Close),
            "reset" => Self::End(Ending::Reset),
            "half-open" => match words.next() {
                Some("client") => Self::HalfOpen(Side::Client),
                Some("server") => Self::HalfOpen(Side::Server),
                _ => return Err("half-open client|server".into()),
            },
            "drop-request" => prepared(Direction::Up, 0, Ending::Close, &mut words)?,
            "drop-reply" => prepared(Direction::Down, 0, Ending::Close, &mut words)?,
            "cut-after" | "reset-after" => {
                let ending = if verb == "cut-after" { Ending::Close } else { Ending::Reset };
                let after = number(&mut words)?;
                let direction = words.next().and_then(direction).ok_or("up or down?")?;
                prepared(direction, after, ending, &mut words)?
            }
            _ => {
                let fault = fault(verb, &mut words)?;
                Self::Set(fault, words.next().map(|w| direction(w).ok_or("up or down?")).transpose()?)
            }
        };
        match words.next() {
            None => Ok(command),
            Some(word) => Err(format!("\"{word}\" makes no sense here")),
        }
    }
}

fn prepared(
    direction: Direction,
    after: u64,
    ending: Ending,
    words: &mut SplitWhitespace<'_>,
) -> Result<Command, String> {
    let then = match words.next() {
        None => Fault::Pass,
        Some("then") => fault(words.next().unwrap_or_default(), words)?,
        Some(word) => return Err(format!("\"{word}\" makes no sense here")),
    };
    Ok(Command::Prepare(Break { direction, after, ending, then }))
}

fn fault(verb: &str, words: &mut SplitWhitespace<'_>) -> Result<Fault, String> {
    Ok(match verb {
        "pass" => Fault::Pass,
        "delay" => Fault::Delay(Duration::from_millis(number(words)?)),
        "drip" => Fault::Drip(Duration::from_millis(number(words)?)),
        "hold" => Fault::Hold,
        "black-hole" => Fault::BlackHole,
        "refuse" => Fault::Refuse,
        _ => return Err(format!("there is no \"{verb}\"")),
    })
}

fn number(words: &mut SplitWhitespace<'_>) -> Result<u64, String> {
    words.next().and_then(|w| w.parse().ok()).ok_or_else(|| "a number is missing".into())
}

fn direction(word: &str) -> Option<Direction> {
    match word {
        "up" => Some(Direction::Up),
        "down" => Some(Direction::Down),
        _ => None,
    }
}
