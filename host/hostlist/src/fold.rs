//! Writing.

use crate::in_order;
use std::collections::{BTreeMap, HashSet};

/// Digits that are folded at most; longer numbers stand as they are.
const DIGITS: usize = 9;

/// A host around the number that is folded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Around<'h> {
    before: &'h str,
    after: &'h str,
    /// Digits of the number, where zeros fill it up; else 0.
    width: usize,
}

/// The shortest list that stands for these hosts (`host`, `host:port`), in the order of people. The last number of a
/// name is folded, and the ports of hosts of one name.
pub fn fold<'h>(hosts: impl IntoIterator<Item = &'h str>) -> String {
    let mut hosts: Vec<&str> = hosts.into_iter().collect();
    hosts.sort_by(|a, b| in_order(a, b));
    hosts.dedup();
    let (mut parts, alone) = folded(&hosts, last_number_of_name);
    let (by_port, alone) = folded(&alone, port);
    parts.extend(by_port);
    parts.extend(alone.into_iter().map(|host| (host, host.to_owned())));
    parts.sort_by(|(a, _), (b, _)| in_order(a, b));
    let parts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    parts.join(",")
}

/// Text before, number, text after.
type Split<'h> = (&'h str, &'h str, &'h str);

/// Groups of more than one host, each with its first host; and the hosts that are in none.
fn folded<'h>(
    hosts: &[&'h str],
    split: impl Fn(&'h str) -> Option<Split<'h>>,
) -> (Vec<(&'h str, String)>, Vec<&'h str>) {
    let padded: HashSet<(&str, &str, usize)> = hosts
        .iter()
        .filter_map(|host| split(host))
        .filter(|(_, number, _)| number.len() > 1 && number.starts_with('0'))
        .map(|(before, number, after)| (before, after, number.len()))
        .collect();
    let mut groups: BTreeMap<Around<'h>, Vec<(u32, &'h str)>> = BTreeMap::new();
    let mut alone = Vec::new();
    for host in hosts {
        let Some((before, number, after)) = split(host) else {
            alone.push(*host);
            continue;
        };
        let width = match padded.contains(&(before, after, number.len())) {
            true => number.len(),
            false => 0,
        };
        let around = Around {
            before,
            after,
            width,
        };
        match number.parse() {
            Ok(number) => groups.entry(around).or_default().push((number, host)),
            Err(_) => alone.push(host),
        }
    }
    let mut parts = Vec::new();
    for (around, mut members) in groups {
        members.sort_unstable();
        match members[..] {
            [] => {}
            [(_, host)] => alone.push(host),
            [(_, first), ..] => {
                let numbers: Vec<u32> = members.iter().map(|(number, _)| *number).collect();
                let ranges = ranges(&numbers, around.width);
                parts.push((
                    first,
                    format!("{}[{ranges}]{}", around.before, around.after),
                ));
            }
        }
    }
    (parts, alone)
}

/// `1-3,7` of sorted numbers.
fn ranges(numbers: &[u32], width: usize) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[u32]| match run {
        [] => String::new(),
        [one] => format!("{one:0width$}"),
        [first, .., last] => format!("{first:0width$}-{last:0width$}"),
    };
    runs.map(run).collect::<Vec<_>>().join(",")
}

fn last_number_of_name(host: &str) -> Option<Split<'_>> {
    if host.contains(['[', ']']) {
        return None;
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = name[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| {
            at + name[at..].chars().next().map_or(0, char::len_utf8)
        });
    foldable(host, start, end)
}

fn port(host: &str) -> Option<Split<'_>> {
    let (name, port) = host.rsplit_once(':')?;
    // The colon of an IPv6 address without a port is none.
    if port.contains(']') || (name.contains(':') && !name.starts_with('[')) {
        return None;
    }
    port.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    foldable(host, name.len() + 1, host.len())
}

/// Nothing if it could not be read back.
fn foldable(host: &str, start: usize, end: usize) -> Option<Split<'_>> {
    let number = &host[start..end];
    (start > 0 && (1..=DIGITS).contains(&number.len()))
        .then(|| (&host[..start], number, &host[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn lists_are_short() {
        for (hosts, expected) in [
            ("", ""),
            ("a", "a"),
            ("node1 node2 node3 node7", "node[1-3,7]"),
            ("node10:5 node9:5 node2:6", "node2:6,node[9-10]:5"),
            ("n08x n09x n10x n100x", "n[08-10]x,n100x"),
            ("n1 n01", "n1,n01"),
            (
                "10.0.0.1:1 10.0.0.2:1 10.0.1.1:1",
                "10.0.0.[1-2]:1,10.0.1.1:1",
            ),
            ("127.0.0.1:5 127.0.0.1:6", "127.0.0.1:[5-6]"),
            ("[::1]:5 [::1]:6 [::2]:5", "[::1]:[5-6],[::2]:5"),
            ("a:5 b:5", "a:5,b:5"),
            ("1 2", "1,2"),
        ] {
            assert_eq!(fold(hosts.split_whitespace()), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_folded_can_be_read_back(
            names in proptest::collection::vec(r"[a-c.-]{0,2}[0-9]{0,3}[a-b]?[0-9]{0,11}(:[0-9]{1,2})?", 0..40)
        ) {
            let names: BTreeSet<String> = names.into_iter().filter(|n| !n.is_empty()).collect();
            let folded = fold(names.iter().map(String::as_str));
            let read: BTreeSet<String> = hosts(&folded).unwrap().into_iter().collect();
            prop_assert_eq!(names, read, "{}", folded);
        }
    }
}
