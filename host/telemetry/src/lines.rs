//! The lines of a process that are kept for the report of its end.

use std::collections::VecDeque;

/// Lines of a panic that are kept beside the first and the last ones: where it was, and what it said.
const OF_PANIC: usize = 2;

/// The first and the last lines, and what a panic said in between: the backtrace that follows it may have any number of lines.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    capacity: usize,
    most_first: usize,
    first: Vec<String>,
    last: VecDeque<String>,
    left_out: LeftOut,
}

/// Lines that are not kept.
#[derive(Clone, Debug, Default)]
struct LeftOut {
    count: usize,
    of_panic: Vec<String>,
    /// The next one is what a panic says.
    is_message: bool,
}

impl LeftOut {
    fn add(&mut self, line: String) {
        self.count += 1;
        let is_panic = line.contains(" panicked at ");
        if (is_panic || self.is_message) && self.of_panic.len() < OF_PANIC {
            self.of_panic.push(line);
            self.count -= 1;
        }
        self.is_message = is_panic;
    }
}

impl Lines {
    /// Keeps `capacity` lines, of which `first` are the first ones.
    pub fn new(capacity: usize, first: usize) -> Self {
        Self {
            capacity,
            most_first: first.min(capacity),
            ..Self::default()
        }
    }

    /// Takes a line.
    pub fn push(&mut self, line: String) {
        if self.first.len() < self.most_first {
            return self.first.push(line);
        }
        self.last.push_back(line);
        if self.last.len() > self.capacity - self.most_first
            && let Some(line) = self.last.pop_front()
        {
            self.left_out.add(line);
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Self::new(self.capacity, self.most_first);
    }

    /// Those that are kept, oldest first; one of them says how many are not.
    pub fn kept(&self) -> Vec<String> {
        let mut left_out = self.left_out.clone();
        let mut last = self.last.clone();
        if left_out.count + left_out.of_panic.len() > 0 {
            // Its line, and those of a panic, take the place of others.
            while !last.is_empty()
                && self.first.len() + 1 + left_out.of_panic.len() + last.len() > self.capacity
                && let Some(line) = last.pop_front()
            {
                left_out.add(line);
            }
        }
        let mut kept = self.first.clone();
        if left_out.count > 0 {
            kept.push(format!("... {} lines are left out ...", left_out.count));
        }
        kept.extend(left_out.of_panic);
        kept.extend(last);
        kept.truncate(self.capacity);
        kept
    }

    /// The last one.
    pub fn last(&self) -> Option<&str> {
        let last = self.last.back().or(self.first.last());
        last.map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(capacity: usize, first: usize, lines: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut kept = Lines::new(capacity, first);
        lines.into_iter().for_each(|line| kept.push(line));
        kept.kept()
    }

    fn numbered(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
        range.map(|n| format!("line {n}"))
    }

    #[test]
    fn the_first_and_the_last_are_kept() {
        assert_eq!(kept(4, 1, numbered(0..4)).len(), 4);
        assert_eq!(
            kept(4, 1, numbered(0..9)),
            ["line 0", "... 6 lines are left out ...", "line 7", "line 8"]
        );
        assert_eq!(
            kept(3, 0, numbered(0..9)),
            ["... 7 lines are left out ...", "line 7", "line 8"]
        );
        assert!(kept(0, 0, numbered(0..9)).is_empty());
        assert_eq!(kept(1, 1, numbered(0..9)), ["line 0"]);
    }

    #[test]
    fn what_a_panic_says_is_kept_with_any_backtrace_behind_it() {
        let panic = ["thread 'main' panicked at src/x.rs:7:5:", "the drum is wet"];
        let panic = || panic.map(str::to_owned);
        let lines = numbered(0..50).chain(panic()).chain(numbered(50..100));
        let kept = kept(8, 2, lines);
        assert_eq!(kept.len(), 8, "{kept:?}");
        assert_eq!(kept[..2], ["line 0", "line 1"]);
        assert_eq!(kept[2], "... 95 lines are left out ...");
        assert_eq!(kept[3..5], panic());
        assert_eq!(kept[5..], ["line 97", "line 98", "line 99"]);
    }

    /// As above, with the panic among the last lines until room is made for what is said of others.
    #[test]
    fn a_panic_is_not_lost_for_the_line_that_says_what_is() {
        let panic = ["thread 'main' panicked at src/x.rs:7:5:", "the drum is wet"];
        for after in 0..12 {
            let lines = numbered(0..20)
                .chain(panic.map(str::to_owned))
                .chain(numbered(20..20 + after));
            let kept = kept(8, 2, lines);
            assert!(kept.len() <= 8, "{kept:?}");
            for line in panic {
                assert!(kept.iter().any(|l| l == line), "{after}: {kept:?}");
            }
        }
    }

    #[test]
    fn what_is_forgotten_is_gone() {
        let mut lines = Lines::new(3, 1);
        numbered(0..9).for_each(|line| lines.push(line));
        lines.clear();
        assert_eq!((lines.kept().len(), lines.last()), (0, None));
        lines.push("line 0".to_owned());
        assert_eq!(lines.last(), Some("line 0"));
    }
}
