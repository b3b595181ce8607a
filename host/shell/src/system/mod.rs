//! The members of a system, over its management service.

mod members;
mod ranks;

pub(crate) use members::query;
pub(crate) use ranks::{clear_exclude, erase, exclude, leader, parse, start, stop};

/// Ranks as the shortest set that stands for them: `0-3,7`.
pub(crate) fn set(ranks: &[u32]) -> String {
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let runs = sorted.chunk_by(|a, b| a + 1 == *b);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::set;

    #[test]
    fn ranks_are_told_as_a_set() {
        for (ranks, text) in [
            (&[][..], ""),
            (&[7], "7"),
            (&[3, 1, 2, 0, 7, 7], "0-3,7"),
            (&[u32::MAX - 1, u32::MAX], "4294967294-4294967295"),
        ] {
            assert_eq!(set(ranks), text);
        }
    }
}
