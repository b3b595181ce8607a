//! Rust names in C spelling: `BdevTable` is `daos_bdev_table`, `BdevOp::READ` is
//! `DAOS_BDEV_OP_READ`.

use std::collections::BTreeSet;

/// The names that cbindgen wrote.
pub(crate) struct Words {
    types: BTreeSet<String>,
    constants: BTreeSet<String>,
}

impl Words {
    /// Collects types and constants from cbindgen's output.
    pub(crate) fn of(raw: &str, tables: &[&str]) -> Self {
        let mut types: BTreeSet<String> = tables
            .iter()
            .flat_map(|t| [(*t).to_owned(), format!("{t}Ptr")])
            .collect();
        // Written by hand in the header; the documentation names them.
        let mut constants: BTreeSet<String> = ["ABI_MAJOR", "ABI_MINOR"].map(str::to_owned).into();
        for line in raw.lines() {
            if let Some(rest) = line.strip_prefix("#define ") {
                let name = rest.split(' ').next().unwrap_or_default();
                constants.insert(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("typedef ") {
                // `struct X {`, `int32_t X;` or `R (*X)(...);`
                let name = match (rest.strip_prefix("struct "), rest.split_once("(*")) {
                    (Some(rest), None) if rest.ends_with('{') => rest.trim_end_matches(" {"),
                    (_, Some((_, rest))) => rest.split(')').next().unwrap_or_default(),
                    _ => rest.rsplit([' ', '*']).next().unwrap_or_default(),
                };
                types.insert(name.trim_end_matches(';').to_owned());
            }
        }
        Self { types, constants }
    }

    /// C name of a type.
    pub(crate) fn type_name(&self, name: &str) -> String {
        let mut out = String::from("daos");
        for c in name.chars() {
            if c.is_ascii_uppercase() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    }

    /// C spelling of one identifier.
    fn identifier(&self, name: &str) -> String {
        if self.types.contains(name) {
            return self.type_name(name);
        }
        if self.constants.contains(name) {
            let of_type = name
                .split_once('_')
                .filter(|(t, _)| self.types.contains(*t));
            return match of_type {
                Some((of, name)) => self.constant(of, name),
                None => format!("DAOS_{name}"),
            };
        }
        name.to_owned()
    }

    fn constant(&self, of: &str, name: &str) -> String {
        format!("{}_{name}", self.type_name(of).to_ascii_uppercase())
    }

    /// C spelling of a line of cbindgen's output.
    pub(crate) fn line(&self, line: &str) -> String {
        let bare = line.trim_start();
        if bare.starts_with('*') || bare.starts_with("/*") {
            return self.comment(line);
        }
        let mut out = String::new();
        let mut word = String::new();
        for c in line.chars().chain(['\n']) {
            if c.is_ascii_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            out.push_str(&self.identifier(&word));
            word.clear();
            if c != '\n' {
                out.push(c);
            }
        }
        out
    }

    /// Documentation without Rust's mark-up: names between backticks in C spelling.
    pub(crate) fn comment(&self, text: &str) -> String {
        let text = text.replace("[`", "`").replace("`]", "`");
        let mut out = String::new();
        let mut parts = text.split('`');
        out.push_str(parts.next().unwrap_or_default());
        let mut code = true;
        for part in parts {
            if code {
                out.push_str(&self.path(part));
            } else {
                // What a link points to is of no use in C.
                let target = part.strip_prefix('(').and_then(|p| p.split_once(')'));
                out.push_str(match target {
                    Some((target, rest)) if target.contains("::") => rest,
                    _ => part,
                });
            }
            code = !code;
        }
        out
    }

    /// `Type::MEMBER`, `Type::member`, `Type` or anything else between backticks.
    fn path(&self, path: &str) -> String {
        match path.rsplit_once("::") {
            Some((of, name)) => {
                let of = of.rsplit("::").next().unwrap_or_default();
                if name.bytes().any(|b| b.is_ascii_lowercase()) {
                    if name.starts_with(|c: char| c.is_ascii_uppercase()) {
                        return self.identifier(name);
                    }
                    return format!("{}.{name}", self.type_name(of));
                }
                self.constant(of, name)
            }
            None if path == "None" => "NULL".to_owned(),
            None => self.identifier(path),
        }
    }
}
