//! The fully commented example, generated from the key table.

use std::fmt::Write as _;

use crate::keys::{self, KeySpec, Scope};

const WIDTH: usize = 78;

const HEAD: &str = "\
# Configuration of daos_server, with every key and its default.
#
# Lines like \"# Text\" explain; lines like \"#key: value\" show a key. Everything is
# commented out, so this file as it stands means \"all defaults\": servers are planned
# from what a scan finds. Uncomment what you need. This uncomments all examples:
# sed -E 's/^#([a-z]|  )/\\1/' daos_server.yml
#
# Unknown and repeated keys are errors. `daos_server config check FILE` checks a file.
# Options of the command line win over the file.
#
# The file is looked for at the path of -o/--config, else at /etc/daos_server.conf,
# /etc/daos/daos_server.yml and ../etc/daos_server.yml beside the directory of the
# program. What is in effect is written to .daos_server.active.yml beside it.
#
# Paths of files and directories may be relative to the working directory of the
# daemon unless a key says otherwise.
";

/// The text of `examples/daos_server.yml`.
#[must_use]
pub fn example() -> String {
    let mut out = HEAD.to_owned();
    for spec in keys::of(Scope::Top) {
        out.push('\n');
        document(&mut out, spec, "");
        match spec.name {
            "transport_config" => {
                out.push_str("#transport_config:\n");
                let mut before = "";
                for inner in keys::of(Scope::Transport) {
                    out.push_str(before);
                    before = "#\n";
                    nested(&mut out, inner, "  ", "  ");
                }
            }
            "plugins" => plugins(&mut out),
            "servers" => servers(&mut out),
            _ => line(&mut out, spec, "", ""),
        }
    }
    out
}

fn plugins(out: &mut String) {
    out.push_str("#plugins:\n");
    for name in ["scm-dcpm", "scm-ram", "bdev-file", "fabric-ofi"] {
        let _ = writeln!(out, "#  {name}: {{}}");
    }
    out.push_str("#  bdev-nvme-spdk:\n");
    for spec in keys::of(Scope::Plugin).filter(|k| k.name != "name") {
        if spec.name == "settings" {
            document(out, spec, "    ");
            out.push_str("#    settings:\n#      retry_count: 4\n");
        } else {
            nested(out, spec, "    ", "    ");
        }
    }
}

fn servers(out: &mut String) {
    out.push_str("#servers:\n");
    // The dash of the entry stands alone, so that every key below is alike.
    let mut before = "#  -\n";
    for spec in keys::of(Scope::Server) {
        out.push_str(before);
        before = "#\n";
        nested(out, spec, "    ", "    ");
    }
    out.push_str(SECOND_SERVER);
}

const SECOND_SERVER: &str = "\
#
#  # A second server, on emulated storage.
#  -
#    rank: 1
#    targets: 20
#    nr_xs_helpers: 0
#    first_core: 21
#    log_file: /tmp/daos_server2.log
#    scm_mount: /mnt/daos/2
#    scm_class: ram
#    scm_size: 16
#    bdev_class: file
#    bdev_list: [/var/tmp/daos-bdev1, /var/tmp/daos-bdev2]
#    bdev_size: 16
";

fn nested(out: &mut String, spec: &KeySpec, documentation: &str, indent: &str) {
    document(out, spec, documentation);
    line(out, spec, indent, documentation);
}

/// The example line; contradicting examples are prose, so that all can be uncommented at once.
fn line(out: &mut String, spec: &KeySpec, indent: &str, documentation: &str) {
    if spec.example.is_empty() {
        return;
    }
    let text = format!("{}: {}", spec.name, spec.example);
    if spec.alternative {
        prose(out, documentation, &format!("Example: {text}"));
    } else {
        let _ = writeln!(out, "#{indent}{text}");
    }
}

fn document(out: &mut String, spec: &KeySpec, indent: &str) {
    prose(out, indent, spec.doc);
    let mut facts = Vec::new();
    if let keys::Kind::Int { min, max } = spec.kind {
        facts.push(format!("From {min} to {max}."));
    }
    if let keys::Kind::Word(words) = spec.kind {
        facts.push(format!("One of {}.", words.join(", ")));
    }
    if matches!(spec.kind, keys::Kind::Path { absolute: true }) {
        facts.push("An absolute path.".to_owned());
    }
    if !spec.default.is_empty() {
        facts.push(format!("Default: {}.", spec.default));
    }
    if spec.immutable {
        facts.push("Immutable after reformat.".to_owned());
    }
    if let Some(option) = spec.option {
        facts.push(format!("Option: {option}."));
    }
    if !spec.old_names.is_empty() {
        facts.push(format!("Also accepted: {}.", spec.old_names.join(", ")));
    }
    if !facts.is_empty() {
        prose(out, indent, &facts.join(" "));
    }
}

/// Comment lines of at most `WIDTH` columns. Below a key they are indented behind the outer
/// `#`, so that uncommenting leaves them comments.
fn prose(out: &mut String, indent: &str, text: &str) {
    let prefix = if indent.is_empty() {
        "#".to_owned()
    } else {
        format!("#{indent}#")
    };
    let mut current = prefix.clone();
    for word in text.split_whitespace() {
        if current.len() > prefix.len() && current.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{current}");
            current.clone_from(&prefix);
        }
        current.push(' ');
        current.push_str(word);
    }
    let _ = writeln!(out, "{current}");
}
