//! Small values with a form of their own: PCI addresses, environment variables, words.

use crate::model::EnvVar;

/// A PCI address in its normal form, `0000:81:00.0`: four or more hexadecimal digits of
/// domain, two of bus, two of device, one of function, lower case.
///
/// Accepts colons or dots between the parts, upper case, and an absent domain (0000). VMD
/// addresses with a wide domain (`5d0505:01:00.0`) are kept. Anything else is `None`.
///
/// ```
/// assert_eq!(daos_config::normalise_pci("0000.81.00.0").as_deref(), Some("0000:81:00.0"));
/// assert_eq!(daos_config::normalise_pci("DA:00.1").as_deref(), Some("0000:da:00.1"));
/// assert_eq!(daos_config::normalise_pci("/dev/sdc"), None);
/// ```
#[must_use]
pub fn normalise_pci(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let (domain, rest) = match parts.as_slice() {
        [domain, rest @ ..] if rest.len() == 3 => (*domain, rest),
        rest if rest.len() == 3 => ("0000", rest),
        _ => return None,
    };
    let hex = |part: &str, min: usize, max: usize| {
        let fits = (min..=max).contains(&part.len());
        if fits && part.bytes().all(|b| b.is_ascii_hexdigit()) {
            u32::from_str_radix(part, 16).ok()
        } else {
            None
        }
    };
    let domain = hex(domain, 4, 8)?;
    let bus = hex(rest[0], 2, 2)?;
    let device = hex(rest[1], 2, 2).filter(|d| *d < 32)?;
    let function = hex(rest[2], 1, 1).filter(|f| *f < 8)?;
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

/// A PCI address in its normal form, with the namespace that may follow it (`0000:81:00.0/2`): the
/// controller, and the whole. Anything else is `None`.
pub(crate) fn normalise_namespace(text: &str) -> Option<(String, String)> {
    let (address, namespace) = match text.split_once('/') {
        Some((address, id)) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {
            (address, Some(id))
        }
        Some(_) => return None,
        None => (text, None),
    };
    let controller = normalise_pci(address)?;
    let whole = match namespace {
        Some(id) => format!("{controller}/{id}"),
        None => controller.clone(),
    };
    Some((controller, whole))
}

/// Splits `NAME=value`. The value may be empty and may contain '='.
pub(crate) fn env_var(text: &str) -> Result<EnvVar, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("\"{text}\" is not of the form NAME=value"))?;
    let name = name.trim_end();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word)
    {
        return Err(format!(
            "\"{name}\" is not the name of an environment variable (letters, digits and '_')"
        ));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("the value of {name} contains a control character"));
    }
    Ok(EnvVar {
        name: name.to_owned(),
        value: value.to_owned(),
    })
}

/// The lines of a bare block of `NAME=value` lines. YAML folds such a block into one line, so
/// the text is taken as it was written, unless it was quoted or a literal block.
pub(crate) fn env_block<'a>(value: &'a str, raw: Option<&'a str>) -> Vec<&'a str> {
    let text = match raw {
        Some(raw) if raw.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => raw,
        _ => value,
    };
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

/// Whether `text` can be a system, user, group or interface name.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=127).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.@:".contains(c))
        && !text.starts_with(['-', '.'])
}

const LEVELS: &[&str] = &[
    "DEBUG", "DBUG", "INFO", "NOTE", "WARN", "ERROR", "ERR", "CRIT", "ALRT", "FATAL", "EMRG",
    "EMIT",
];

/// Checks `LEVEL[,SUBSYSTEM=LEVEL...]`; the error names the part that is wrong.
pub(crate) fn log_mask(text: &str) -> Result<(), String> {
    for (index, part) in text.split(',').map(str::trim).enumerate() {
        let level = match part.split_once('=') {
            Some((subsystem, level)) if crate::values::is_name(subsystem) => level,
            Some((subsystem, _)) => {
                return Err(format!("\"{subsystem}\" is not the name of a subsystem"));
            }
            None if index == 0 => part,
            None => return Err(format!("\"{part}\" must be of the form SUBSYSTEM=LEVEL")),
        };
        log_level(level)?;
    }
    Ok(())
}

/// Checks the name of a level.
pub(crate) fn log_level(level: &str) -> Result<(), String> {
    if !LEVELS.iter().any(|l| l.eq_ignore_ascii_case(level)) {
        let near = crate::keys::suggestion(level, LEVELS.iter().copied());
        return Err(format!("\"{level}\" is not a log level; {near}"));
    }
    Ok(())
}

/// A path reduced for comparison: no repeated or trailing slashes, no `.`, and `..` resolved
/// by name. Links are not followed: the path may not exist yet.
pub(crate) fn plain_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// Whether `inner` lies below `outer`; both as [`plain_path`] returns them.
pub(crate) fn is_below(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.starts_with('/') || outer == "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_pci_addresses() {
        let both = |text: &str| normalise_namespace(text);
        assert_eq!(
            both("0000.DA.00.1/12"),
            Some(("0000:da:00.1".to_owned(), "0000:da:00.1/12".to_owned()))
        );
        assert_eq!(
            both("81:00.0"),
            Some(("0000:81:00.0".to_owned(), "0000:81:00.0".to_owned()))
        );
        for other in [
            "0000:81:00.0/",
            "0000:81:00.0/x",
            "/dev/sdc",
            "0000:81:00.0/1/2",
        ] {
            assert_eq!(both(other), None, "{other}");
        }
    }

    #[test]
    fn pci_addresses() {
        for (given, normal) in [
            ("0000:81:00.0", Some("0000:81:00.0")),
            ("0000.81.00.0", Some("0000:81:00.0")),
            ("0000:DA:1f.7", Some("0000:da:1f.7")),
            ("81:00.0", Some("0000:81:00.0")),
            ("5d0505:01:00.0", Some("5d0505:01:00.0")),
            ("0000:81:20.0", None),
            ("0000:81:00.8", None),
            ("0000:81:00", None),
            ("81:00", None),
            ("00:00:81:00.0", None),
            ("000:81:00.0", None),
            ("0000:8:00.0", None),
            ("+000:81:00.0", None),
            ("", None),
            ("...", None),
        ] {
            assert_eq!(normalise_pci(given).as_deref(), normal, "{given}");
        }
    }

    #[test]
    fn env_vars_keep_equal_signs() {
        let var = env_var("OPTS=a=1,b=2").unwrap();
        assert_eq!((var.name.as_str(), var.value.as_str()), ("OPTS", "a=1,b=2"));
        assert_eq!(env_var("EMPTY=").unwrap().value, "");
        for bad in ["", "=1", "NOVALUE", "1A=2", "A B=2", "A=\0"] {
            assert!(env_var(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn log_masks() {
        for good in ["ERR", "debug", "INFO,dtx=DEBUG,vos=ERR"] {
            assert!(log_mask(good).is_ok(), "{good}");
        }
        assert!(
            log_mask("WARNN")
                .unwrap_err()
                .contains("did you mean \"WARN\"")
        );
        for bad in ["", "INFO,DEBUG", "INFO,=DEBUG", "INFO,dtx=", "dtx=NOPE"] {
            assert!(log_mask(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_compare_by_what_they_mean() {
        assert_eq!(plain_path("//mnt/./daos//1/"), "/mnt/daos/1");
        assert_eq!(plain_path("/a/../../b"), "/b");
        assert_eq!(plain_path("./a/b"), "a/b");
        assert!(is_below("/mnt/daos/1", "/mnt/daos"));
        assert!(!is_below("/mnt/daos1", "/mnt/daos"));
        assert!(!is_below("/mnt/daos", "/mnt/daos"));
    }
}
