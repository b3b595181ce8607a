//! Which log lines are wanted: a level, and other levels for plugins and parts of a program, in the notation of
//! the original's D_LOG_MASK.

use std::fmt;
use tracing::level_filters::LevelFilter;

/// Levels: one for everything, and others by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    base: LevelFilter,
    /// Lower case. Of a name given twice the later one holds.
    named: Vec<(String, LevelFilter)>,
}

/// Why a text is no mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskError(String);

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MaskError {}

impl Mask {
    /// The same level for everything.
    pub fn new(base: LevelFilter) -> Self {
        Self {
            base,
            named: Vec::new(),
        }
    }

    /// Reads a mask, `INFO` or `ERR,mgmt=DEBUG,bdev-acme=TRACE`; a level without a name holds for everything else.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn parse(text: &str) -> Result<Self, MaskError> {
        Self::new(LevelFilter::INFO).overlaid(text)
    }

    /// This one with the levels of another text in the place of its own; what that does not name stays.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn overlaid(&self, text: &str) -> Result<Self, MaskError> {
        let mut mask = self.clone();
        for item in text.split(',').map(str::trim).filter(|i| !i.is_empty()) {
            match item.split_once('=') {
                None => mask.base = level(item)?,
                Some((name, value)) => mask.set(check_name(name)?, level(value)?),
            }
        }
        Ok(mask)
    }

    /// The items of a text that have a name, with their levels.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn names_in(text: &str) -> Result<Vec<String>, MaskError> {
        let mask = Self::parse(text)?;
        Ok(mask.named.into_iter().map(|(name, _)| name).collect())
    }

    /// Sets the level of a plugin or part.
    pub fn set(&mut self, name: &str, level: LevelFilter) {
        let name = name.to_ascii_lowercase();
        self.named.retain(|(known, _)| *known != name);
        self.named.push((name, level));
    }

    /// Level of a plugin or part by its name.
    pub fn of_name(&self, name: &str) -> LevelFilter {
        let hit = self
            .named
            .iter()
            .rev()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        hit.map_or(self.base, |(_, level)| *level)
    }

    /// Level of a module by its path: that of its crate (a built-in plugin `bdev-file` is the crate `bdev_file`), or
    /// of a part of ours (`log` is `daos_engine::log`).
    pub fn of_target(&self, target: &str) -> LevelFilter {
        let mut path = target.split("::");
        let (krate, part) = (
            path.next().unwrap_or_default(),
            path.next().unwrap_or_default(),
        );
        let ours = krate.starts_with("daos_");
        let hit = self
            .named
            .iter()
            .rev()
            .find(|(name, _)| same(name, krate) || (ours && same(name, part)));
        hit.map_or(self.base, |(_, level)| *level)
    }

    /// The most detailed level of all.
    pub fn most(&self) -> LevelFilter {
        let named = self.named.iter().map(|(_, level)| *level);
        named.fold(self.base, LevelFilter::max)
    }
}

/// Whether a name means a crate or module: `-` is `_` there.
fn same(name: &str, module: &str) -> bool {
    name.len() == module.len()
        && name
            .bytes()
            .zip(module.bytes())
            .all(|(a, b)| a == b || (a == b'-' && b == b'_'))
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(self.base))?;
        for (name, level) in &self.named {
            write!(f, ",{name}={}", word(*level))?;
        }
        Ok(())
    }
}

fn word(level: LevelFilter) -> &'static str {
    match level {
        LevelFilter::OFF => "DISABLED",
        LevelFilter::ERROR => "ERR",
        LevelFilter::WARN => "WARN",
        LevelFilter::INFO => "INFO",
        LevelFilter::DEBUG => "DEBUG",
        LevelFilter::TRACE => "TRACE",
    }
}

fn check_name(name: &str) -> Result<&str, MaskError> {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_-.@:".contains(&c);
    if name.is_empty() || !name.bytes().all(good) {
        return Err(MaskError(format!(
            "\"{name}\" is no name of a plugin or subsystem"
        )));
    }
    Ok(name)
}

fn level(name: &str) -> Result<LevelFilter, MaskError> {
    Ok(match name.trim().to_ascii_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" | "DBUG" => LevelFilter::DEBUG,
        "INFO" | "NOTE" => LevelFilter::INFO,
        "WARN" | "WARNING" => LevelFilter::WARN,
        "ERR" | "ERROR" | "CRIT" | "ALRT" | "EMRG" | "EMIT" | "FATAL" => LevelFilter::ERROR,
        "DISABLED" => LevelFilter::OFF,
        _ => {
            return Err(MaskError(format!(
                "\"{name}\" is no level; use DEBUG, INFO, WARN or ERR"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_the_original_are_understood() {
        assert_eq!(Mask::parse("").unwrap().to_string(), "INFO");
        assert_eq!(Mask::parse("warning").unwrap().to_string(), "WARN");
        let mask = Mask::parse("ERR,mgmt=DEBUG, LOG=INFO,bdev-acme=TRACE").unwrap();
        assert_eq!(mask.to_string(), "ERR,mgmt=DEBUG,log=INFO,bdev-acme=TRACE");
        assert_eq!(mask.most(), LevelFilter::TRACE);
        for wrong in ["LOUD", "INFO,a b=DEBUG", "=DEBUG", "x=", "x=LOUD"] {
            assert!(Mask::parse(wrong).is_err(), "{wrong} was accepted");
        }
        assert_eq!(Mask::names_in("ERR,a=INFO,B=DEBUG").unwrap(), ["a", "b"]);
    }

    #[test]
    fn the_nearest_name_decides() {
        let mask = Mask::parse("WARN,bdev-file=DEBUG,log=TRACE,x=ERR").unwrap();
        for (target, level) in [
            ("bdev_file::data", LevelFilter::DEBUG),
            ("bdev_file", LevelFilter::DEBUG),
            ("bdev_files", LevelFilter::WARN),
            ("daos_engine::log::ring", LevelFilter::TRACE),
            ("other::log", LevelFilter::WARN),
            ("", LevelFilter::WARN),
        ] {
            assert_eq!(mask.of_target(target), level, "{target}");
        }
        assert_eq!(mask.of_name("bdev-file"), LevelFilter::DEBUG);
        assert_eq!(mask.of_name("X"), LevelFilter::ERROR);
        assert_eq!(mask.of_name("y"), LevelFilter::WARN);
    }

    #[test]
    fn a_mask_over_another_keeps_what_it_does_not_name() {
        let mask = Mask::parse("WARN,a=DEBUG,b=INFO").unwrap();
        assert_eq!(
            mask.overlaid("b=TRACE").unwrap().to_string(),
            "WARN,a=DEBUG,b=TRACE"
        );
        assert_eq!(
            mask.overlaid("ERR").unwrap().to_string(),
            "ERR,a=DEBUG,b=INFO"
        );
    }
}
