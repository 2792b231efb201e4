//! Many times, in few numbers.

use std::time::Duration;

use serde::Serialize;

/// What is told of many measured times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) count: usize,
    #[serde(rename = "min_seconds", serialize_with = "seconds")]
    pub(crate) min: Duration,
    #[serde(rename = "p50_seconds", serialize_with = "seconds")]
    pub(crate) p50: Duration,
    #[serde(rename = "p99_seconds", serialize_with = "seconds")]
    pub(crate) p99: Duration,
    #[serde(rename = "max_seconds", serialize_with = "seconds")]
    pub(crate) max: Duration,
}

fn seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

impl Spread {
    /// Of no times at all there is none.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        // The smallest that is not exceeded by more than the rest (nearest rank).
        let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Self {
            count: times.len(),
            min: *times.first()?,
            p50: at(50)?,
            p99: at(99)?,
            max: *times.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_ranks() {
        let ms = Duration::from_millis;
        let of = |n: u64| Spread::of((1..=n).rev().map(ms).collect());
        assert_eq!(of(0), None);
        let one = Spread { count: 1, min: ms(1), p50: ms(1), p99: ms(1), max: ms(1) };
        assert_eq!(of(1), Some(one));
        let hundred = Spread { count: 100, min: ms(1), p50: ms(50), p99: ms(99), max: ms(100) };
        assert_eq!(of(100), Some(hundred));
    }
}
