//! A value in php.ini: quotes, `${ENV}`, comments, and the words that stand for something else.

/// What PHP makes of the right side of a line. `env` knows the environment.
///
/// # Errors
/// PHP would refuse the whole file, or make something else of it than what was meant.
pub(crate) fn read(raw: &str, env: impl Fn(&str) -> Option<String>) -> Result<String, String> {
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
    if is_word {
        match value.to_ascii_lowercase().as_str() {
            "on" | "yes" | "true" => return Ok("1".into()),
            "off" | "no" | "false" | "none" | "null" => return Ok(String::new()),
            _ => {}
        }
    }
    Ok(value)
}

/// Reads on behind the opening quote; returns what follows the closing one.
fn double_quoted<'a>(
    mut rest: &'a str,
    value: &mut String,
    env: &impl Fn(&str) -> Option<String>,
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

/// `{NAME}` or, since PHP 8.3, `{NAME:-DEFAULT}`.
fn variable<'a>(
    rest: &'a str,
    value: &mut String,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<&'a str, String> {
    let (inside, after) =
        rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).ok_or("a ${ is not closed")?;
    let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
    match env(name).filter(|found| !found.is_empty()) {
        Some(found) => value.push_str(&found),
        None => value.push_str(default),
    }
    Ok(after)
}
