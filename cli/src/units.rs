//! Times as people read them.

use std::time::{Duration, SystemTime};

/// `12 ms`, `3.4 s`, `5 m 12 s`, `2 h 05 m`, `3 d 4 h`: short, and never more exact than is of use.
pub(crate) fn span(time: Duration) -> String {
    let (seconds, s) = (time.as_secs_f64(), time.as_secs());
    if seconds < 0.001 {
        format!("{} µs", time.as_micros())
    } else if seconds < 1.0 {
        format!("{} ms", time.as_millis())
    } else if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if s < 60 {
        format!("{s} s")
    } else if s < 3600 {
        format!("{} m {:02} s", s / 60, s % 60)
    } else if s < 86_400 {
        format!("{} h {:02} m", s / 3600, s % 3600 / 60)
    } else {
        format!("{} d {} h", s / 86_400, s % 86_400 / 3600)
    }
}

/// `512 B`, `1.5 MiB`.
#[allow(clippy::cast_precision_loss)] // one digit is shown
pub(crate) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = count as f64;
    let mut shown = format!("{count} B");
    for unit in units {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        shown = format!("{amount:.1} {unit}");
    }
    shown
}

/// How long ago `since` was at `now`; both Unix time in seconds. Clocks of two machines are never quite the same.
pub(crate) fn between(since: f64, now: f64) -> Duration {
    Duration::try_from_secs_f64(now - since).unwrap_or_default()
}

/// This machine's clock, as Unix time in seconds.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A number of seconds from the command line.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| time.as_secs() <= 31_536_000)
        .ok_or_else(|| "a number of seconds, 0 or more, is allowed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let cases = [
            (0.000_08, "80 µs"),
            (0.012, "12 ms"),
            (3.44, "3.4 s"),
            (59.9, "59 s"),
            (312.0, "5 m 12 s"),
            (7500.0, "2 h 05 m"),
            (273_600.0, "3 d 4 h"),
        ];
        for (seconds, shown) in cases {
            assert_eq!(span(Duration::from_secs_f64(seconds)), shown);
        }
    }

    #[test]
    fn bytes_in_their_unit() {
        assert_eq!([0, 1023, 1536, 3 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
    }

    #[test]
    fn a_clock_that_is_behind_makes_nothing_negative() {
        assert_eq!(between(10.0, 9.0), Duration::ZERO);
    }
}
