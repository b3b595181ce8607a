//! What the configuration has to say: one finding, where it is, and what to do about it.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::source::{Source, Span};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is usable; something in it is old, ignored or suspicious.
    Warning,
    /// The configuration must not be used.
    Error,
}

/// Kinds of finding, each with a stable number and a stable name.
///
/// Numbers up to 740 mean what they mean in DAOS 2.x (block "server config"), so that tools
/// that know those keep working. Kinds that exist only here start at 760. A number is never
/// given a second meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// 701: the text is not YAML.
    Syntax,
    /// 702: no configuration file was found.
    NotFound,
    /// 703: `port` is unusable.
    ControlPort,
    /// 704: `telemetry_port` is unusable.
    TelemetryPort,
    /// 705: `access_points` is unusable.
    AccessPoints,
    /// 706: an even number of access points.
    EvenAccessPoints,
    /// 707: `provider` is unusable.
    Provider,
    /// 708: `servers:` is there but has no entry.
    NoServers,
    /// 709: two servers on one fabric interface and port.
    DuplicateFabric,
    /// 710: two writers of one log file.
    DuplicateLogFile,
    /// 711: two servers on one SCM mount point.
    DuplicateScmMount,
    /// 712: one SCM device used twice.
    DuplicateScmDevice,
    /// 713: one block device used twice.
    DuplicateBdevDevice,
    /// 717: `fault_path` is malformed.
    FaultPath,
    /// 722: both `fault_path` and `fault_cb`.
    FaultPathAndCallback,
    /// 736: a server uses a device that the include or exclude list rules out.
    BdevExcluded,
    /// 760: a key that does not exist.
    UnknownKey,
    /// 761: a key given twice.
    DuplicateKey,
    /// 762: a value of the wrong type.
    WrongType,
    /// 763: a number outside its range.
    OutOfRange,
    /// 764: a value that is malformed or not one of the allowed ones.
    BadValue,
    /// 765: a relative path where an absolute one is needed.
    RelativePath,
    /// 766: a value that is needed and absent.
    MissingValue,
    /// 767: a key or form of another DAOS generation, accepted.
    OldName,
    /// 768: two keys that exclude each other.
    ConflictingKeys,
    /// 769: two servers with one rank.
    DuplicateRank,
    /// 770: two servers on the same cores.
    CoreOverlap,
    /// 771: a list with too many or too few values.
    ValueCount,
    /// 772: a class that no plugin declares.
    UnknownClass,
    /// 773: a class that several plugins declare.
    AmbiguousClass,
    /// 774: a class-specific key that breaks its plugin's schema.
    ClassKey,
    /// 775: a key that the chosen class does not use.
    UnusedKey,
    /// 776: a plugin's schema that this host cannot fully check.
    PluginSchema,
    /// 777: a construct of DAOS 2.x that cannot be expressed here.
    NotExpressible,
    /// 778: the file cannot be read.
    Unreadable,
    /// 779: a key without a value.
    EmptyValue,
    /// 780: a value that is immutable after format was changed.
    ImmutableChanged,
    /// 781: one path inside another that would hide it.
    NestedPath,
    /// 782: an environment variable that the configuration sets itself.
    EnvOverridden,
    /// 783: `plugins:` names a plugin that was not found.
    UnknownPlugin,
    /// 784: two plugins of one server that cannot be in one process.
    ExclusiveRuntime,
}

impl Code {
    /// The stable number (701-799).
    #[must_use]
    pub fn number(self) -> u16 {
        self.parts().0
    }

    /// The stable name, in kebab case.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.parts().1
    }

    fn parts(self) -> (u16, &'static str) {
        match self {
            Self::Syntax => (701, "syntax"),
            Self::NotFound => (702, "not-found"),
            Self::ControlPort => (703, "control-port"),
            Self::TelemetryPort => (704, "telemetry-port"),
            Self::AccessPoints => (705, "access-points"),
            Self::EvenAccessPoints => (706, "even-access-points"),
            Self::Provider => (707, "provider"),
            Self::NoServers => (708, "no-servers"),
            Self::DuplicateFabric => (709, "duplicate-fabric"),
            Self::DuplicateLogFile => (710, "duplicate-log-file"),
            Self::DuplicateScmMount => (711, "duplicate-scm-mount"),
            Self::DuplicateScmDevice => (712, "duplicate-scm-device"),
            Self::DuplicateBdevDevice => (713, "duplicate-bdev-device"),
            Self::FaultPath => (717, "fault-path"),
            Self::FaultPathAndCallback => (722, "fault-path-and-callback"),
            Self::BdevExcluded => (736, "bdev-excluded"),
            Self::UnknownKey => (760, "unknown-key"),
            Self::DuplicateKey => (761, "duplicate-key"),
            Self::WrongType => (762, "wrong-type"),
            Self::OutOfRange => (763, "out-of-range"),
            Self::BadValue => (764, "bad-value"),
            Self::RelativePath => (765, "relative-path"),
            Self::MissingValue => (766, "missing-value"),
            Self::OldName => (767, "old-name"),
            Self::ConflictingKeys => (768, "conflicting-keys"),
            Self::DuplicateRank => (769, "duplicate-rank"),
            Self::CoreOverlap => (770, "core-overlap"),
            Self::ValueCount => (771, "value-count"),
            Self::UnknownClass => (772, "unknown-class"),
            Self::AmbiguousClass => (773, "ambiguous-class"),
            Self::ClassKey => (774, "class-key"),
            Self::UnusedKey => (775, "unused-key"),
            Self::PluginSchema => (776, "plugin-schema"),
            Self::NotExpressible => (777, "not-expressible"),
            Self::Unreadable => (778, "unreadable"),
            Self::EmptyValue => (779, "empty-value"),
            Self::ImmutableChanged => (780, "immutable-changed"),
            Self::NestedPath => (781, "nested-path"),
            Self::EnvOverridden => (782, "env-overridden"),
            Self::UnknownPlugin => (783, "unknown-plugin"),
            Self::ExclusiveRuntime => (784, "exclusive-runtime"),
        }
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A second place that matters to a finding ("first given here").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// What that place has to do with it.
    pub message: String,
    /// Line, counted from 1; absent when the place is a command-line option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in characters, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// One finding about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding it is.
    pub code: Code,
    /// The number of that kind, see [`Code::number`].
    pub number: u16,
    /// The key it is about, as a path (`servers[0].bdev_list[1]`); empty for the whole file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The file, as it was named when it was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line, counted from 1. Absent for values that came from the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in characters, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// Number of characters that the caret underlines, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// The command-line option that set the value, when one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Other places that matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    /// The text of the line, printable characters only, cut to a readable width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_line: Option<String>,
    /// Where the caret starts in `source_line`, in characters counted from 0.
    #[serde(skip)]
    caret: u32,
}

impl Diagnostic {
    /// A finding without a place.
    #[must_use]
    pub fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            number: code.number(),
            key: String::new(),
            file: None,
            line: None,
            column: None,
            length: None,
            option: None,
            message: message.into(),
            hint: None,
            related: Vec::new(),
            source_line: None,
            caret: 0,
        }
    }

    /// An error without a place.
    #[must_use]
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A warning without a place.
    #[must_use]
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the key it is about.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Adds the file, when nothing finer is known.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    pub(crate) fn at(mut self, source: &Source, span: Span) -> Self {
        self.file = Some(source.name().to_owned());
        if span.line == 0 {
            return self;
        }
        let view = source.view(span);
        self.line = Some(span.line);
        self.column = Some(span.column);
        self.length = Some(view.length);
        self.caret = view.caret;
        self.source_line = Some(view.text);
        self
    }

    pub(crate) fn by_option(mut self, option: &str) -> Self {
        self.option = Some(option.to_owned());
        self
    }

    pub(crate) fn related(mut self, message: impl Into<String>, span: Option<Span>) -> Self {
        self.related.push(Related {
            message: message.into(),
            line: span.map(|s| s.line),
            column: span.map(|s| s.column),
        });
        self
    }

    /// Whether it is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Several lines: message, place, the line with a caret, hint and related places.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            f,
            "{severity}[{} {}]: {}",
            self.number,
            self.code.name(),
            printable(&self.message)
        )?;
        let number = self.line.map(|l| l.to_string()).unwrap_or_default();
        let margin = " ".repeat(number.len().max(1));
        if let Some(option) = &self.option {
            write!(f, "\n{margin}--> command line option {option}")?;
        } else if let Some(file) = &self.file {
            write!(f, "\n{margin}--> {}", printable(file))?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, ":{line}:{column}")?;
            }
        }
        if let (Some(text), Some(length)) = (&self.source_line, self.length) {
            let carets = "^".repeat(length.max(1) as usize);
            let indent = " ".repeat(self.caret as usize);
            write!(
                f,
                "\n{margin} |\n{number} | {text}\n{margin} | {indent}{carets}"
            )?;
        }
        for related in &self.related {
            write!(f, "\n{margin} = note: {}", printable(&related.message))?;
            if let (Some(line), Some(column)) = (related.line, related.column) {
                write!(f, " (line {line}, column {column})")?;
            }
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{margin} = help: {}", printable(hint))?;
        }
        Ok(())
    }
}

/// Text from a file goes to terminals and logs: no control characters, no line breaks.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Everything that keeps a configuration from being used, and the warnings beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file (or other name) that was loaded.
    pub file: String,
    /// At least one error, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl ConfigErrors {
    pub(crate) fn one(file: &str, diagnostic: Diagnostic) -> Self {
        Self {
            file: file.to_owned(),
            diagnostics: vec![diagnostic],
        }
    }

    /// The errors without the warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.is_error())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors().count();
        let plural = if count == 1 { "" } else { "s" };
        write!(
            f,
            "failed to load config from {}: {count} error{plural}",
            printable(&self.file)
        )?;
        for diagnostic in &self.diagnostics {
            write!(f, "\n\n{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Puts findings into the order of the file; those without a line come last.
pub(crate) fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|d| (d.line.unwrap_or(u32::MAX), d.column.unwrap_or(u32::MAX)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source::new("a.yml", "name: daos\nprot: 10001 # \u{1b}[31m\n".to_owned())
    }

    #[test]
    fn renders_place_snippet_and_help() {
        let span = Span {
            line: 2,
            column: 1,
            length: 4,
            ..Span::default()
        };
        let d = Diagnostic::error(Code::UnknownKey, "unknown key \"prot\"")
            .at(&source(), span)
            .hint("did you mean \"port\"?");
        assert_eq!(
            d.to_string(),
            "error[760 unknown-key]: unknown key \"prot\"\n --> a.yml:2:1\n  |\n\
             2 | prot: 10001 # \u{fffd}[31m\n  | ^^^^\n  = help: did you mean \"port\"?"
        );
    }

    #[test]
    fn json_has_stable_fields() {
        let d = Diagnostic::warning(Code::OldName, "m").key("engines");
        let json = serde_json::to_value(&d).unwrap();
        assert_eq!(json["code"], "old-name");
        assert_eq!(json["number"], 767);
        assert_eq!(json["severity"], "warning");
        assert_eq!(json["key"], "engines");
        assert!(json.get("line").is_none());
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let d = Diagnostic::error(Code::BadValue, "bad \u{1b}[2J\nvalue").hint("\u{7}");
        assert!(d.to_string().chars().all(|c| c == '\n' || !c.is_control()));
        assert_eq!(d.to_string().lines().count(), 2);
    }
}
