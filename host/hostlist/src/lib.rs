//! Lists of hosts and ranks as administrators write them: `node[1-128,200]:10001`, `0-3,7`.
//!
//! [`hosts`] reads a list, [`fold`] writes the shortest one that stands for the same hosts. What is folded
//! can be read back.

mod fold;
mod parse;

pub use fold::fold;
pub use parse::{Error, MAX_HOSTS, hosts, numbers, with_port};

/// Orders names as people count: `node2` before `node10`.
pub fn in_order(one: &str, other: &str) -> std::cmp::Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let (number, rest) = leading_number(one);
        let (number_of_other, rest_of_other) = leading_number(other);
        let order = match (number, number_of_other) {
            // Without zeros in front, the longer one is the larger one.
            (Some(a), Some(b)) => {
                let (short, short_of_other) =
                    (a.trim_start_matches('0'), b.trim_start_matches('0'));
                (short.len(), short, a.len()).cmp(&(short_of_other.len(), short_of_other, b.len()))
            }
            _ => one.chars().next().cmp(&other.chars().next()),
        };
        if order.is_ne() || one.is_empty() {
            return order;
        }
        (one, other) = match number {
            Some(_) => (rest, rest_of_other),
            None => (after_first(one), after_first(other)),
        };
    }
}

fn leading_number(text: &str) -> (Option<&str>, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    ((end > 0).then_some(number), rest)
}

fn after_first(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = [
            "node10", "node2", "a", "node2:5", "node02", "node1a", "node",
        ];
        names.sort_by(|a, b| in_order(a, b));
        assert_eq!(
            names,
            [
                "a", "node", "node1a", "node2", "node2:5", "node02", "node10"
            ]
        );
    }
}
