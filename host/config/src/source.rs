//! The text of a configuration file and the places in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;

/// A place in the text. Line 0 means "unknown".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Counted from 1.
    pub(crate) line: u32,
    /// In characters, counted from 1.
    pub(crate) column: u32,
    /// In characters; 0 for maps and lists, whose end the parser does not report.
    pub(crate) length: u32,
    /// Byte range of a scalar in the text, when the parser reports one.
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A line ready to be shown above a caret.
pub(crate) struct View {
    pub(crate) text: String,
    pub(crate) caret: u32,
    pub(crate) length: u32,
}

/// The widest part of a line that is shown.
const WIDTH: usize = 100;

#[derive(Debug, Default)]
pub(crate) struct Source {
    name: String,
    text: String,
    /// Byte offsets of the beginnings of lines.
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(name: &str, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let lines = std::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        Self {
            name: name.to_owned(),
            text,
            lines,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The text of a scalar as it was written, quotes included.
    pub(crate) fn raw(&self, span: Span) -> Option<&str> {
        (span.end > span.start)
            .then(|| self.text.get(span.start as usize..span.end as usize))
            .flatten()
    }

    /// The line of `span`, cut to a window around it, with unprintable characters replaced
    /// one for one so that the caret stays under its column.
    pub(crate) fn view(&self, span: Span) -> View {
        let start = self.lines.get((span.line as usize).saturating_sub(1));
        let line = start
            .and_then(|start| self.text.get(*start..))
            .and_then(|rest| rest.lines().next())
            .unwrap_or("");
        let chars: Vec<char> = line
            .chars()
            .map(|c| match c {
                '\t' => ' ',
                c if c.is_control() => char::REPLACEMENT_CHARACTER,
                c => c,
            })
            .collect();
        let column = (span.column as usize).saturating_sub(1).min(chars.len());
        let first = if chars.len() <= WIDTH {
            0
        } else {
            column.saturating_sub(WIDTH / 2)
        };
        let last = chars.len().min(first + WIDTH);
        let text: String = chars[first..last].iter().collect();
        let length = (span.length.max(1) as usize).min((last - column.min(last)).max(1));
        View {
            text: text.trim_end().to_owned(),
            caret: u32::try_from(column - first).unwrap_or(0),
            length: u32::try_from(length).unwrap_or(1),
        }
    }
}

/// Where one value came from.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In the file: the key (absent for list items) and the value.
    File { key: Option<Span>, value: Span },
    /// From a command-line option, named as the user types it.
    Option(&'static str),
}

/// Where the values of a configuration came from, by key path.
///
/// Two configurations are equal when their values are; where those were written does not
/// matter, so this compares equal to anything of its type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) source: Arc<Source>,
    places: BTreeMap<String, Place>,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Origin {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self {
            source,
            places: BTreeMap::new(),
        }
    }

    pub(crate) fn set(&mut self, path: String, place: Place) {
        self.places.insert(path, place);
    }

    /// Forgets the items of a list that was replaced as a whole.
    pub(crate) fn replace(&mut self, path: &str, place: Place) {
        let items = format!("{path}[");
        self.places.retain(|p, _| !p.starts_with(&items));
        self.places.insert(path.to_owned(), place);
    }

    /// Whether a value was given at all, as opposed to being a default.
    pub(crate) fn given(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// The nearest known place: of the value itself, else of what contains it.
    fn find(&self, path: &str) -> Option<&Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Whether somebody wrote `path` itself.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Puts a finding at the value of `path`.
    pub(crate) fn at(&self, diagnostic: Diagnostic, path: &str) -> Diagnostic {
        self.place(diagnostic, path, false)
    }

    /// Puts a finding at the key of `path`.
    pub(crate) fn at_key(&self, diagnostic: Diagnostic, path: &str) -> Diagnostic {
        self.place(diagnostic, path, true)
    }

    fn place(&self, diagnostic: Diagnostic, path: &str, on_key: bool) -> Diagnostic {
        let diagnostic = diagnostic.key(path);
        match self.find(path) {
            Some(Place::File { key, value }) => {
                let span = if on_key {
                    key.unwrap_or(*value)
                } else {
                    *value
                };
                diagnostic.at(&self.source, span)
            }
            Some(Place::Option(option)) => diagnostic.by_option(option),
            None if self.source.name().is_empty() => diagnostic,
            None => diagnostic.in_file(self.source.name()),
        }
    }

    /// Names the place of `path` as the other half of a conflict.
    pub(crate) fn relate(&self, diagnostic: Diagnostic, path: &str, message: &str) -> Diagnostic {
        match self.find(path) {
            Some(Place::File { value, .. }) => diagnostic.related(message, Some(*value)),
            Some(Place::Option(option)) => {
                diagnostic.related(format!("{message} by {option}"), None)
            }
            None => diagnostic.related(message, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}x{}", "a".repeat(500), "b".repeat(500));
        let source = Source::new("f", text);
        let view = source.view(Span {
            line: 1,
            column: 501,
            length: 900,
            ..Span::default()
        });
        assert_eq!(view.text.chars().count(), WIDTH);
        assert_eq!(view.text.chars().nth(view.caret as usize), Some('x'));
        assert!(view.caret as usize + view.length as usize <= WIDTH);
    }

    #[test]
    fn a_place_outside_the_text_is_harmless() {
        let view = Source::new("f", String::new()).view(Span {
            line: u32::MAX,
            column: u32::MAX,
            length: u32::MAX,
            start: 7,
            end: 9,
        });
        assert_eq!((view.text.as_str(), view.caret, view.length), ("", 0, 1));
    }

    #[test]
    fn unknown_paths_fall_back_to_what_contains_them() {
        let mut origin = Origin::new(Arc::new(Source::new("f", "a:\n  b: 1\n".to_owned())));
        let value = Span {
            line: 2,
            column: 6,
            length: 1,
            ..Span::default()
        };
        origin.set("a".to_owned(), Place::File { key: None, value });
        let d = origin.at(
            Diagnostic::error(crate::Code::BadValue, "m"),
            "a.servers[0].c",
        );
        assert_eq!((d.line, d.column), (Some(2), Some(6)));
    }
}
