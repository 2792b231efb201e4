//! A value in php.ini: quotes, `${ENV}`, comments, and the words that stand for something else.

/// What PHP's constants begin with, of those that are there when php.ini is read.
const CONSTANTS: [&str; 7] = ["E_", "PHP_", "ZEND_", "PEAR_", "DEBUG_", "DEFAULT_", "UPLOAD_"];

/// What PHP makes of the right side of a line. `env` knows the environment; `is_setting`, what this file has set,
/// which comes before it.
///
/// # Errors
/// PHP would refuse the whole file, or make something else of it than what was meant, or that is not certain.
pub(super) fn read(
    raw: &str,
    env: &impl Fn(&str) -> Option<String>,
    is_setting: impl Fn(&str) -> bool,
) -> Result<String, String> {
    let env = |name: &str| {
        if name.contains(":-") {
            return Err(
                "what follows :- counts since PHP 8.3, and before it does not: leave it out".to_owned()
            );
        }
        if is_setting(name) {
            return Err(format!("${{{name}}} is a setting here, not of the environment: write its value"));
        }
        Ok(env(name).unwrap_or_default())
    };
    let mut value = String::new();
    let mut rest = raw.trim();
    let mut is_word = true;
    while let Some(first) = rest.chars().next() {
        let tail = rest.get(first.len_utf8()..).unwrap_or_default();
        match first {
            ';' => break,
            '"' => {
                is_word = false;
                rest = double_quoted(tail, &mut value, &env)?;
            }
            '\'' => {
                is_word = false;
                let (inside, after) = tail.split_once('\'').ok_or("a ' is not closed")?;
                value.push_str(inside);
                rest = after;
            }
            '$' if tail.starts_with('{') => {
                is_word = false;
                rest = variable(tail, &mut value, &env)?;
            }
            '=' | '&' | '|' | '^' | '~' | '!' | '(' | ')' => {
                return Err(format!("PHP takes {first} for an operator: put the value into double quotes"));
            }
            _ => {
                let end = rest.find([';', '"', '\'', '$', '=', '&', '|', '^', '~', '!', '(', ')']);
                let end = end.filter(|end| *end > 0).unwrap_or(if end.is_some() { 1 } else { rest.len() });
                let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
                // Blanks between parts go, those within a word stay.
                value.push_str(word.trim());
                rest = after;
            }
        }
        rest = rest.trim_start();
    }
    if !is_word {
        return Ok(value);
    }
    if CONSTANTS.iter().any(|begin| value.starts_with(begin)) {
        return Err("it may be one of PHP's constants: put the value into double quotes".into());
    }
    let is_named = |word: &str| {
        let names = ["on", "yes", "true", "off", "no", "false", "none", "null"];
        names.iter().any(|name| name.eq_ignore_ascii_case(word))
    };
    match value.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" => Ok("1".into()),
        "off" | "no" | "false" | "none" | "null" => Ok(String::new()),
        _ if value.split_ascii_whitespace().any(is_named) => {
            Err("a word of it has a meaning to PHP: put the value into double quotes".into())
        }
        _ => Ok(value),
    }
}

/// Whether a value that does not matter is certainly over at the end of its line.
pub(super) fn is_whole(raw: &str) -> bool {
    // error_reporting = E_ALL & ~E_DEPRECATED
    let is_of_flags = |text: &str| {
        text.split(['&', '|']).all(|flag| {
            let flag = flag.trim().trim_start_matches('~');
            flag.starts_with("E_") && flag.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        })
    };
    let bare = raw.split(';').next().unwrap_or_default();
    is_of_flags(bare) || read(&raw.replace(":-", ""), &|_| None, |_| false).is_ok() || {
        // Words and constants may mean what they want.
        !bare.contains(['"', '\'', '$', '=', '&', '|', '^', '~', '!', '(', ')'])
            && bare.split_ascii_whitespace().count() == 1
    }
}

/// Reads on behind the opening quote; returns what follows the closing one.
fn double_quoted<'a>(
    mut rest: &'a str,
    value: &mut String,
    env: &impl Fn(&str) -> Result<String, String>,
) -> Result<&'a str, String> {
    while let Some(first) = rest.chars().next() {
        let tail = rest.get(first.len_utf8()..).unwrap_or_default();
        match (first, tail.chars().next()) {
            ('"', _) => return Ok(tail),
            ('\\', Some(escaped @ ('"' | '\\' | '$'))) => {
                value.push(escaped);
                rest = tail.get(1..).unwrap_or_default();
            }
            ('$', Some('{')) => rest = variable(tail, value, env)?,
            _ => {
                value.push(first);
                rest = tail;
            }
        }
    }
    Err("a \" is not closed".into())
}

/// `{NAME}`.
fn variable<'a>(
    rest: &'a str,
    value: &mut String,
    env: &impl Fn(&str) -> Result<String, String>,
) -> Result<&'a str, String> {
    let (name, after) =
        rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).ok_or("a ${ is not closed")?;
    value.push_str(&env(name)?);
    Ok(after)
}
