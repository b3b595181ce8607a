//! Rules for manifests. A manifest comes from a stranger and is printed on terminals, so its texts
//! are held to printable characters and sane lengths.

use crate::refusal::Refusal;
use daos_plugin_api::control::Manifest;

/// Most bytes of a manifest.
pub(crate) const MAX_MANIFEST: usize = 256 << 10;
const MAX_NAME: usize = 64;
const MAX_TEXT: usize = 1024;

/// Parses and checks manifest JSON.
pub(crate) fn parse(json: &[u8]) -> Result<Manifest, Refusal> {
    let malformed = |detail: String| Refusal::MalformedManifest { detail };
    let text = std::str::from_utf8(json).map_err(|e| malformed(e.to_string()))?;
    let manifest: Manifest =
        serde_json::from_str(text).map_err(|e| malformed(printable(&e.to_string())))?;
    check(&manifest).map_err(malformed)?;
    Ok(manifest)
}

fn check(manifest: &Manifest) -> Result<(), String> {
    let name = &manifest.name;
    if !is_name(name, b"-") {
        return Err("`name` must be 1 to 64 of a-z, 0-9 and -".to_owned());
    }
    if manifest.version.is_empty() || manifest.version.len() > MAX_NAME {
        return Err("`version` must have 1 to 64 characters".to_owned());
    }
    for (what, text) in [
        ("version", &manifest.version),
        ("vendor", &manifest.vendor),
        ("description", &manifest.description),
    ] {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(format!(
                "`{what}` is longer than {MAX_TEXT} bytes or has control characters"
            ));
        }
    }
    if manifest.classes.is_empty() {
        return Err("`classes` is empty".to_owned());
    }
    for (i, class) in manifest.classes.iter().enumerate() {
        if !is_name(&class.name, b"-_+.;") {
            return Err("a class name must be 1 to 64 of a-z, 0-9 and - _ + . ;".to_owned());
        }
        let earlier = &manifest.classes[..i];
        if earlier
            .iter()
            .any(|c| (c.kind, &c.name) == (class.kind, &class.name))
        {
            return Err(format!(
                "{} class {} is declared twice",
                class.kind, class.name
            ));
        }
        if !(class.schema.is_null() || class.schema.is_object()) {
            return Err(format!("`schema` of class {} is not an object", class.name));
        }
    }
    for (library, package) in &manifest.libraries {
        // They become part of a command that an administrator may copy.
        let is_plain = |text: &str| {
            (1..=MAX_NAME).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
        };
        if !is_plain(library) || !is_plain(package) || package.starts_with('-') {
            return Err("`libraries` must map names of libraries to names of packages".to_owned());
        }
    }
    let words = manifest.classes.iter().flat_map(|c| &c.capabilities);
    for word in words.chain(&manifest.privileges).chain(&manifest.exclusive) {
        if word.is_empty() || word.len() > MAX_NAME || !word.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a capability, privilege or exclusive name is not a word".to_owned());
        }
    }
    Ok(())
}

fn is_name(text: &str, punctuation: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || punctuation.contains(&b))
}

/// A parser's message may quote the input.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"name":"bdev-x","version":"1.2","classes":[{"kind":"bdev","name":"x"}]}"#;

    #[test]
    fn accepts_a_small_manifest() {
        let manifest = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(manifest.name, "bdev-x");
        assert_eq!(manifest.classes[0].name, "x");
    }

    #[test]
    fn names_what_is_wrong() {
        for (from, to, expected) in [
            ("bdev-x", "../x", "`name`"),
            ("bdev-x", "", "`name`"),
            ("1.2", "", "`version`"),
            ("1.2", "\\u001b[2J", "`version`"),
            (
                r#"[{"kind":"bdev","name":"x"}]"#,
                "[]",
                "`classes` is empty",
            ),
            (r#""name":"x""#, r#""name":"X y""#, "class name"),
            (r#""name":"x""#, r#""name":"x","schema":7"#, "`schema`"),
            (
                r#""name":"x""#,
                r#""name":"x","capabilities":["a b"]"#,
                "capability",
            ),
            (
                r#"{"kind":"bdev","name":"x"}"#,
                r#"{"kind":"bdev","name":"x"},{"kind":"bdev","name":"x"}"#,
                "declared twice",
            ),
            (r#""kind":"bdev""#, r#""kind":"tape""#, "unknown variant"),
        ] {
            let text = GOOD.replace(from, to);
            let refusal = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{text}: {refusal}");
            assert!(!refusal.contains('\u{1b}'), "{refusal:?}");
        }
    }
}
