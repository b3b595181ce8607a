//! Command lines: what works without a configuration, JSON, completion, manual pages, mistakes.

use daos_e2e::{Finished, Site, User};
use serde_json::Value;
use std::path::Path;

const TOOLS: &[&str] = &["daos_server", "daos_shell", "daos"];
const ALL: &[&str] = &[
    "daos_server",
    "daos_server_helper",
    "daos_io_server",
    "daos_shell",
    "daos",
];

/// The document within `{"response", "error", "status"}`.
#[track_caller]
fn envelope(done: &Finished) -> Value {
    let mut document = done.json();
    let keys: Vec<&String> = document.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["error", "response", "status"], "{done}");
    assert_eq!(document["status"] == 0, done.code == Some(0), "{done}");
    assert_eq!(document["error"].is_null(), done.code == Some(0), "{done}");
    document["response"].take()
}

/// Those that find no configuration where servers look for one.
fn a_site_without_config(test: &str, user: User) -> Option<Site> {
    for path in ["/etc/daos_server.conf", "/etc/daos/daos_server.yml"] {
        if Path::new(path).exists() {
            daos_e2e::not_run(test, &format!("{path} exists on this machine"));
            return None;
        }
    }
    Some(Site::of(user))
}

/// As before `| head`, which takes what it wants: whoever writes on ends, and says nothing.
#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut site = Site::with_file();
    site.use_plugin_files();
    let mut server = site.start();
    server.wait_state("an answer", |_| true);
    let address = site.address();
    let shell = |words: &[&'static str]| [&["-i", "-l", &address], words].concat().join(" ");
    let config = |words: &str| format!("-o daos_server.yml {words}");
    for (program, arguments) in [
        ("daos_shell", shell(&["system", "query"])),
        ("daos_shell", shell(&["--json", "system", "query"])),
        ("daos_shell", "completion bash".to_owned()),
        ("daos_shell", "manpage".to_owned()),
        ("daos_server", config("plugin list")),
        ("daos_server", config("--json plugin list")),
        ("daos_server", "config example".to_owned()),
        ("daos_server", "completion bash".to_owned()),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = site.command(program);
        command.args(arguments.split(' ')).stdout(writer);
        let child = command.stderr(std::process::Stdio::piped()).spawn();
        let ended = child.and_then(std::process::Child::wait_with_output);
        let ended = ended.expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        // What SIGPIPE makes of other programs.
        assert_eq!(
            ended.status.code(),
            Some(141),
            "{program} {arguments}: {said}"
        );
        assert!(
            !said.contains("panicked") && !said.contains("ERROR"),
            "{said}"
        );
    }
    server.stop();
}

#[test]
fn scan_and_list_need_no_configuration() {
    let test = "scan_and_list_need_no_configuration";
    for user in [User::Caller, User::Unprivileged] {
        let Some(site) = a_site_without_config(test, user) else {
            return;
        };
        let state = site.path("state").display().to_string();
        let run = |args: &[&str]| {
            site.run("daos_server", &[&["--state-dir", &state], args].concat())
                .expect(0)
        };
        let scan = envelope(&run(&["--json", "storage", "scan"]));
        let devices = scan["devices"].as_array().cloned().unwrap_or_default();
        for (kind, class) in [("scm", "ram"), ("fabric", "tcp")] {
            let found = devices
                .iter()
                .any(|d| d["kind"] == kind && d["class"] == class);
            assert!(found, "no {kind} {class} in {scan:#}");
        }
        let text = run(&["storage", "scan"]).stdout;
        assert!(text.contains("lo"), "{text}");

        let list = envelope(&run(&["plugin", "list", "--json"]));
        let plugins = list["plugins"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = plugins.iter().filter_map(|p| p["name"].as_str()).collect();
        let expected = [
            "bdev-file",
            "bdev-kdev",
            "bdev-malloc",
            "fabric-tcp",
            "scm-ram",
        ];
        assert_eq!(names, expected, "{list:#}");
        for plugin in &plugins {
            assert_eq!(plugin["state"], "usable", "{plugin:#}");
            assert_eq!(plugin["builtin"], true, "{plugin:#}");
        }
        let text = run(&["plugin", "list"]).stdout;
        for name in expected {
            assert!(text.contains(name), "{text}");
        }
    }
}

#[test]
fn an_unprivileged_user_needs_no_state_dir() {
    let test = "an_unprivileged_user_needs_no_state_dir";
    if let Some(site) = a_site_without_config(test, User::Unprivileged) {
        site.run("daos_server", &["plugin", "list"]).expect(0);
        site.run("daos_server", &["storage", "scan"]).expect(0);
        let inside = site.path("home/.local/state/daos_server");
        assert!(inside.is_dir(), "no {}", inside.display());
    }
}

#[test]
fn json_has_the_envelope_also_when_it_fails() {
    let site = Site::with_file();
    // Nobody listens yet.
    for args in [
        &["--json", "system", "query"][..],
        &["--json", "storage", "scan"],
        &["--json", "plugin", "list"],
        &["--json", "storage", "format", "--force"],
    ] {
        let done = site.shell(args).expect(1);
        envelope(&done);
        assert!(
            done.json()["error"]
                .as_str()
                .unwrap_or("")
                .contains(&site.address()),
            "{done}"
        );
    }
    let mut server = site.start();
    server.wait_phase("maintenance");
    let plan = site
        .shell(&["--json", "storage", "format", "--dry-run"])
        .expect(0);
    envelope(&plan);
    server.wait_phase("maintenance");
    let done = site
        .shell(&["--json", "storage", "format", "--force"])
        .expect(0);
    let response = envelope(&done);
    let host = &response[site.address()];
    assert_eq!(host["engines_started"], 1, "{done}");
    let results = host["results"].as_array().cloned().unwrap_or_default();
    let kinds: Vec<_> = results.iter().map(|r| r["kind"].clone()).collect();
    assert_eq!(kinds, ["scm", "bdev"], "{done}");
    server.wait_phase("ready");
    for args in [
        &["--json", "system", "query"][..],
        &["--json", "storage", "scan"],
        &["--json", "plugin", "list"],
    ] {
        envelope(&site.shell(args).expect(0));
    }
    server.stop();
}

#[test]
fn completions_and_manual_pages() {
    let site = Site::new();
    for program in TOOLS {
        for shell in ["bash", "zsh", "fish"] {
            let done = site.run(program, &["completion", shell]).expect(0);
            assert!(done.stdout.contains(program), "{done}");
        }
        let page = site.run(program, &["manpage"]).expect(0);
        assert!(page.stdout.contains(".TH"), "{page}");
        let dir = site.make_dir(&format!("man-{program}"));
        let shown = dir.display().to_string();
        site.run(program, &["manpage", "--dir", &shown]).expect(0);
        // One for the program, and one for each of its commands.
        let help = site.run(program, &["--help"]).expect(0).stdout;
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        // Lines that go on with an explanation are further in.
        let named = commands
            .map_while(|line| line.strip_prefix("  "))
            .filter_map(|line| {
                line.split(' ')
                    .next()
                    .filter(|name| !name.is_empty() && *name != "help")
            });
        let named: Vec<&str> = named.collect();
        assert!(named.len() > 3, "{help}");
        for command in named {
            let page = dir.join(format!("{program}-{command}.8"));
            let text = std::fs::read_to_string(&page)
                .unwrap_or_else(|e| panic!("{}: {e}", page.display()));
            assert!(text.contains(".SH SYNOPSIS"), "{text}");
        }
        assert!(dir.join(format!("{program}.8")).is_file());
        site.run(program, &["manpage", "--dir", "/none/such"])
            .expect(1);
        let page = site.run(program, &["--version"]).expect(0);
        assert!(page.stdout.starts_with(program), "{page}");
    }
}

#[test]
fn every_program_explains_itself_and_refuses_unknown_options() {
    let site = Site::new();
    for program in ALL {
        let help = site.run(program, &["--help"]).expect(0);
        assert!(help.stdout.contains(program), "{help}");
        let wrong = site.run(program, &["--no-such-option"]).expect(2);
        assert!(wrong.stderr.contains("--no-such-option"), "{wrong}");
    }
}

#[test]
fn the_example_configuration_is_a_right_one() {
    let site = Site::new();
    let example = site.run("daos_server", &["config", "example"]).expect(0);
    let file = site.path("example.yml");
    std::fs::write(file, &example.stdout).expect("a writable directory");
    let state = site.path("state").display().to_string();
    let check = site.run(
        "daos_server",
        &["--state-dir", &state, "config", "check", "example.yml"],
    );
    // Its classes are those of real hardware, whose plugins are not linked in.
    let errors = check.text();
    for line in errors.lines().filter(|l| l.starts_with("error")) {
        assert!(line.contains("class"), "{check}");
    }
}
