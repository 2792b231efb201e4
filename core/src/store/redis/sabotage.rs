//! Breaks the protocol on purpose, for the chaos run's own test (`script/chaos --broken`) and for
//! nothing else: a checker that finds nothing has to be shown that it can find something. Compiled
//! with the feature `sabotage` only, which a release build refuses, and for the test that each has its place.
//!
//! `CLUSTER_LOCK_SABOTAGE` names the mistake, or several with a `+` between them; each is one that such scripts have been
//! seen to make. `clock` is none, but what another one needs to show itself: the servers' clocks are set back by two
//! seconds, every five. Three more are not in
//! the scripts, and stand where they are made: `deaf` (sentinels are asked for the primary once, and nobody listens to
//! them afterwards), `map` (of a cluster, which server has which slots is read once, and nobody listens to `MOVED`) and
//! `majority` (of independent servers, one fewer than a majority is enough).

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature \"sabotage\" is for the chaos run's own test: no release may have it");

/// What a mistake replaces in the scripts.
const MISTAKES: [(&str, &[(&str, &str)]); 11] = [
    // Whoever releases frees the lock, as `DEL` does: also one whose lease has run out.
    (
        "release",
        &[
            ("string.sub(state, 1, 3 + #me) == 'X- ' .. me", "string.sub(state, 1, 2) == 'X-'"),
            (
                "if mode == 'X' and holder == me then\n    mode, previous =",
                "if mode == 'X' then\n    mode, previous =",
            ),
        ],
    ),
    // A holder is given up long before its lease has run out.
    ("lease", &[("expiry() <= now", "expiry() - lease / 2 <= now")]),
    // Fencing tokens are counted: a server that forgets begins again.
    (
        "fence",
        &[
            ("math.max(fence + 1, now_us, floor)", "fence + 1"),
            ("if last >= token then", "if true then"),
            ("'%.0f', last + 1", "'%016.0f', last + 1"),
            ("keep = keep + math.floor((token - us) / 1000)", ""),
        ],
    ),
    // With a grace period: a server that has lost its memory lets in whoever comes; who has left was the last; of two whose
    // records are put back the last one has it.
    ("grace", &[("grace = math.max(0, over - now)", "grace = 0")]),
    ("left", &[("while grace == 0 and mode", "while (grace == 0 or state and mode == 'F') and mode")]),
    ("reclaim", &[("own > fence or beside", "true")]),
    // The last one to come is served first.
    (
        "order",
        &[
            ("redis.call('ZRANGE', QUEUE, 0, 0)", "redis.call('ZRANGE', QUEUE, -1, -1)"),
            ("redis.call('ZRANGE', QUEUE, 0, piece - 1)", "redis.call('ZRANGE', QUEUE, 0, piece - 1, 'REV')"),
        ],
    ),
    // A run covers whoever waits when it is complete.
    ("covers", &[("string.format('(%.0f', run)", "'+inf'")]),
    // Ranks are times of arrival, whatever fencing tokens there are.
    ("rank", &[("tonumber(last or 0) + 1, fence + 1, run + 1)", "tonumber(last or 0) + 1)")]),
    // A run counts whoever holds the lock.
    (
        "former",
        &[(
            "local newest = run_done()",
            "local newest = math.max(run, run_done())
    redis.call('SET', key .. ':d', string.format('%016.0f', newest), 'PX', 60000)",
        )],
    ),
    (
        "clock",
        &[(
            "redis.call('TIME')",
            "(function() local time = redis.call('TIME')
            time[1] = string.format('%.0f', time[1] - 2 * math.floor(time[1] / 5))
            return time end)()",
        )],
    ),
];

#[cfg(feature = "sabotage")]
fn wanted() -> Vec<String> {
    let names = std::env::var("CLUSTER_LOCK_SABOTAGE").unwrap_or_default();
    names.split('+').map(str::to_owned).collect()
}

/// Whether this is the mistake to make.
#[cfg(feature = "sabotage")]
pub(crate) fn is(mistake: &str) -> bool {
    wanted().iter().any(|name| name == mistake)
}

/// The script with the mistake in it, if it has a place there.
#[cfg(feature = "sabotage")]
pub(super) fn spoil(mut text: String) -> String {
    let wanted = wanted();
    for (_, replacements) in MISTAKES.iter().filter(|(name, _)| wanted.iter().any(|wanted| wanted == name)) {
        for (right, wrong) in *replacements {
            text = text.replace(right, wrong);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::MISTAKES;

    #[test]
    fn what_a_mistake_replaces_is_in_the_scripts() {
        let scripts = [
            include_str!("../scripts/common.lua"),
            include_str!("../scripts/acquire.lua"),
            include_str!("../scripts/release.lua"),
        ];
        for (name, replacements) in MISTAKES {
            for (right, _) in replacements {
                assert!(scripts.iter().any(|script| script.contains(right)), "{name}: {right}");
            }
        }
    }
}
