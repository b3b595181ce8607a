//! Reading.

use std::collections::HashSet;

/// Most hosts of a list; more is a slip of the pen.
pub const MAX_HOSTS: usize = 16_384;

/// Why a list makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} in the host list: {why}")]
pub struct Error {
    entry: String,
    why: String,
}

fn error(entry: &str, why: impl Into<String>) -> Error {
    Error {
        entry: entry.to_owned(),
        why: why.into(),
    }
}

/// The hosts of a list, in order, each once. Entries are separated by commas and white space; numbers in brackets
/// (`node[1-3,7]`, `10.0.[0-1].[1-9]`, `a:[10001-10004]`) stand for a host each, with as many zeros in front as the
/// first number of a range has. Brackets around colons belong to an IPv6 address.
///
/// # Errors
/// An entry makes no sense, or there are more than [`MAX_HOSTS`].
pub fn hosts(list: &str) -> Result<Vec<String>, Error> {
    let mut known = HashSet::new();
    let mut all = Vec::new();
    for entry in entries(list)? {
        for host in expanded(entry)? {
            if known.insert(host.clone()) {
                if all.len() == MAX_HOSTS {
                    return Err(error(entry, format!("more than {MAX_HOSTS} hosts")));
                }
                all.push(host);
            }
        }
    }
    Ok(all)
}

/// Splits a list where separators are outside of brackets.
fn entries(list: &str) -> Result<Vec<&str>, Error> {
    let mut entries = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, c) in list.char_indices() {
        match c {
            '[' if inside => return Err(error(&list[start..], "brackets within brackets")),
            ']' if !inside => return Err(error(&list[start..], "\"]\" without \"[\"")),
            '[' | ']' => inside = c == '[',
            _ if !inside && (c == ',' || c.is_whitespace()) => {
                entries.push(&list[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if inside {
        return Err(error(&list[start..], "\"[\" without \"]\""));
    }
    entries.push(&list[start..]);
    entries.retain(|entry| !entry.is_empty());
    Ok(entries)
}

/// All hosts that an entry stands for.
fn expanded(entry: &str) -> Result<Vec<String>, Error> {
    let mut all = vec![String::new()];
    let mut rest = entry;
    while let Some((before, after)) = rest.split_once('[') {
        // `entries` has seen to it that there is one.
        let (inside, after) = after.split_once(']').unwrap_or((after, ""));
        let parts = if inside.contains(':') {
            vec![format!("[{inside}]")]
        } else {
            if before.is_empty() && rest.len() == entry.len() {
                return Err(error(entry, "a name is missing before the brackets"));
            }
            ranges(inside).map_err(|why| error(entry, why))?
        };
        if all.len().saturating_mul(parts.len()) > MAX_HOSTS {
            return Err(error(entry, format!("more than {MAX_HOSTS} hosts")));
        }
        all = all
            .iter()
            .flat_map(|start| {
                parts
                    .iter()
                    .map(move |part| format!("{start}{before}{part}"))
            })
            .collect();
        rest = after;
    }
    for host in &mut all {
        host.push_str(rest);
    }
    Ok(all)
}

/// The numbers of `1-3,007` as they are written.
fn ranges(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| -> Result<u32, String> {
            // parse() takes a sign, too.
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let number = digits.then(|| text.parse().ok()).flatten();
            number.ok_or_else(|| format!("{part:?} is neither a number nor a range as 1-8"))
        };
        let (from, to) = (number(first)?, number(last)?);
        if from > to {
            return Err(format!("the range {part:?} ends before it begins"));
        }
        // Counted before anything is made of it.
        if (to - from) as usize >= MAX_HOSTS.saturating_sub(all.len()) {
            return Err(format!("more than {MAX_HOSTS} hosts"));
        }
        let width = if first.starts_with('0') {
            first.len()
        } else {
            0
        };
        all.extend((from..=to).map(|n| format!("{n:0width$}")));
    }
    Ok(all)
}

/// The numbers of a set of ranks, `0-3,7`, in order, each once; none for an empty text.
///
/// # Errors
/// In words, when it is none, or has more than [`MAX_HOSTS`].
pub fn numbers(text: &str) -> Result<Vec<u32>, String> {
    let text = text.trim();
    // As some tools write it.
    let text = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut all: Vec<u32> = ranges(text)?
        .iter()
        .filter_map(|number| number.parse().ok())
        .collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Adds the default port to `host`, `1.2.3.4`, `[::1]`, `fe80::1`.
///
/// # Errors
/// There is no host, or the port is none.
pub fn with_port(entry: &str, port: u16) -> Result<String, Error> {
    let (host, port) = match entry.rsplit_once(':') {
        // Colons inside brackets, or several without them, belong to an IPv6 address.
        Some((host, port))
            if !port.contains(']') && (!host.contains(':') || host.starts_with('[')) =>
        {
            let number = port.parse::<u16>().ok().filter(|p| *p != 0);
            let number =
                number.ok_or_else(|| error(entry, format!("{port:?} is no port (1-65535)")))?;
            (host.to_owned(), number)
        }
        Some(_) if !entry.starts_with('[') => (format!("[{entry}]"), port),
        _ => (entry.to_owned(), port),
    };
    if host.is_empty() || host == "[]" {
        return Err(error(entry, "it names no host"));
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        for (list, expected) in [
            ("", ""),
            ("a", "a"),
            ("a, b\n\tc", "a b c"),
            ("a,,a", "a"),
            ("node[1-3,7]", "node1 node2 node3 node7"),
            ("n[08-11]x", "n08x n09x n10x n11x"),
            ("n[1-2]:5,m", "n1:5 n2:5 m"),
            ("10.0.[0-1].[1-2]", "10.0.0.1 10.0.0.2 10.0.1.1 10.0.1.2"),
            ("a:[5-7]", "a:5 a:6 a:7"),
            ("[::1]:5,[fe80::2]", "[::1]:5 [fe80::2]"),
            ("[fe80::1]:[5-6]", "[fe80::1]:5 [fe80::1]:6"),
        ] {
            assert_eq!(hosts(list).unwrap().join(" "), expected, "{list}");
        }
        assert_eq!(hosts("n[1-16384]").unwrap().len(), MAX_HOSTS);
    }

    #[test]
    fn mistakes_are_told() {
        for (list, words) in [
            ("n[1-3", "without \"]\""),
            ("n1-3]", "without \"[\""),
            ("n[[1]]", "within"),
            ("n[3-1]", "ends before"),
            ("n[]", "neither"),
            ("n[1,]", "neither"),
            ("n[+1]", "neither"),
            ("n[a-b]", "neither"),
            ("n[1-2-3]", "neither"),
            ("[1-3]", "name is missing"),
            ("n[1-99999999999]", "neither"),
            ("n[0-4294967295]", "more than"),
            ("n[1-200][1-200]", "more than"),
            ("n[1-16384],m", "more than"),
        ] {
            let told = hosts(list).unwrap_err().to_string();
            assert!(told.contains(words), "{list}: {told}");
        }
    }

    #[test]
    fn sets_of_ranks_are_read() {
        assert_eq!(numbers("7,0-3,2"), Ok(vec![0, 1, 2, 3, 7]));
        assert_eq!(numbers("[0-1]"), Ok(vec![0, 1]));
        assert_eq!(numbers(" "), Ok(vec![]));
        for wrong in ["x", "1-", "-1", "3-1", "1,,2", "0-4294967295"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_default_port_is_added_where_none_is_given() {
        for (entry, expected) in [
            ("node1", "node1:10001"),
            ("node1:5", "node1:5"),
            ("10.0.0.1", "10.0.0.1:10001"),
            ("[::1]", "[::1]:10001"),
            ("[::1]:77", "[::1]:77"),
            ("fe80::1", "[fe80::1]:10001"),
        ] {
            assert_eq!(with_port(entry, 10001).unwrap(), expected);
        }
        for entry in ["", ":1", "node:0", "node:65536", "node:x", "[]"] {
            assert!(with_port(entry, 10001).is_err(), "{entry:?} was accepted");
        }
    }
}
