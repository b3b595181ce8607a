//! A plugin that misbehaves inside an engine: that engine says which plugin and which call it was, and comes back
//! by itself with everything that it acknowledged; the other engine and the daemon never notice.

use crate::data::Workload;
use crate::telemetry::{scrape, value};
use daos_e2e::{Bdev, Finished, Port, Server, Site, eventually};
use fixture_files::{HOSTILE, HOSTILE_FACES, install};
use serde_json::Value;
use std::path::PathBuf;

/// What the hostile plugin is to the first engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Bdev,
    Scm,
    /// To the second engine as well, where it behaves well.
    Fabric,
}

impl Face {
    fn plugin(self) -> &'static str {
        match self {
            Self::Bdev => HOSTILE,
            Self::Scm | Self::Fabric => HOSTILE_FACES,
        }
    }
}

/// Two engines, the first one on the hostile plugin, which behaves well until `misbehave` is called.
pub(crate) struct Bed {
    pub(crate) site: Site,
    face: Face,
    when: PathBuf,
}

impl Bed {
    pub(crate) fn new(on: &str) -> Self {
        Self::with_keys(on, "")
    }

    /// With other keys for the plugin, each on a line that ends.
    pub(crate) fn with_keys(on: &str, keys: &str) -> Self {
        Self::of(Face::Bdev, on, keys)
    }

    /// With the hostile plugin in another place.
    pub(crate) fn of(face: Face, on: &str, keys: &str) -> Self {
        let mut site = Site::new();
        site.use_plugins_dir();
        install(face.plugin(), &site.path("plugins"), "hostile.so");
        let (when, backing) = (site.path("tmp").join("bad"), site.path("backing"));
        match face {
            Face::Bdev => site.add_engine(Bdev::Malloc, 1),
            Face::Scm | Face::Fabric => site.add_engine(Bdev::File(site.path("bdev0")), 1),
        };
        site.add_engine(Bdev::File(site.path("bdev1")), 1);
        if face == Face::Fabric {
            site.use_own_provider("hostile");
        }
        site.change_engine(0, |engine| {
            // Short, so that what never comes is given up soon.
            engine.extra += "  env_vars: ['D_IO_PATIENCE=1', 'HOSTILE_HERE=1']\n";
        });
        // Block devices misbehave in helpers, too.
        let place = match face {
            Face::Bdev => format!("backing: '{}'", backing.display()),
            Face::Scm | Face::Fabric => "where: HOSTILE_HERE".to_owned(),
        };
        site.add_config(&format!(
            "plugins:\n  bdev-file: {{}}\n  fabric-tcp: {{}}\n  scm-ram: {{}}\n  {}:\n{keys}    settings: \
             {{on: {{{on}}}, when: '{}', {place}}}\n",
            face.plugin(),
            when.display()
        ));
        Self { site, face, when }
    }

    pub(crate) fn start(&self) -> Server<'_> {
        let text = self.site.config_text();
        let (own, hostile) = match self.face {
            Face::Bdev => (
                "bdev_class: malloc\n  bdev_number: 1\n  bdev_size_mib: 512\n",
                "bdev_class: hostile\n  bdev_number: 1\n",
            ),
            Face::Scm => ("scm_class: ram\n", "scm_class: hostile\n"),
            Face::Fabric => ("", ""),
        };
        assert!(text.contains(own), "{text}");
        self.site.write_text(&text.replacen(own, hostile, 1));
        let mut server = self
            .site
            .start_with(&["-o", "daos_server.yml", "start", "-i"]);
        // A format that begins earlier finds that something has changed.
        server.wait_state("to be formatted", |s| {
            (0..2).all(|n| engine(s, n)["state"] == "await-format")
        });
        server.make_ready();
        server
    }

    /// Puts a value that is large enough for the first engine's device.
    #[track_caller]
    pub(crate) fn put(&self) {
        self.try_put().expect(0);
    }

    pub(crate) fn try_put(&self) -> Finished {
        let file = self.site.path("tmp").join("value");
        std::fs::write(&file, vec![7; 100_000]).expect("our directory");
        let file = file.display().to_string();
        self.site.ensure_pool();
        self.site
            .daos(&["container", "create", "--pool", "tank", "values"]);
        let put = [
            "object", "put", "--pool", "tank", "--cont", "values", "0.1", "d", "a", "--file", &file,
        ];
        self.site.daos(&put)
    }

    pub(crate) fn misbehave(&self, yes: bool) {
        if yes {
            std::fs::write(&self.when, "").expect("our directory");
        } else {
            std::fs::remove_file(&self.when).expect("our file");
        }
    }

    /// Misbehaves in one function, whatever the settings say.
    pub(crate) fn misbehave_in(&self, function: &str, behaviour: &str) {
        let on = serde_json::json!({ function: behaviour });
        std::fs::write(&self.when, on.to_string()).expect("our directory");
    }
}

pub(crate) fn engine(state: &Value, index: usize) -> &Value {
    &state["engines"][index]
}

/// Who asks for the plugins hears that it brought an engine down, and which.
#[track_caller]
pub(crate) fn assert_failing(site: &Site, plugin: &str) {
    let mut list = site.shell(&["--json", "plugin", "list"]).json();
    let plugins = list["response"]["hosts"][site.address()]["plugins"].take();
    let plugins = plugins.as_array().expect("a list of plugins");
    let listed = plugins.iter().find(|p| p["name"] == plugin);
    let listed = listed.expect("the plugin is listed");
    assert_eq!(listed["state"], "failing", "{listed:#}");
    assert!(listed["since_ms"].as_u64() > Some(0), "{listed:#}");
    assert!(listed.to_string().contains("engine 0"), "{listed:#}");
}

/// The engine on the plugin dies with these words, the other one serves on; afterwards everything is there.
#[track_caller]
fn dies_with(on: &str, words: &[&str]) {
    let bed = Bed::new(on);
    let mut server = bed.start();
    let bad = Workload::on_rank(&bed.site, "bad", 0);
    let good = Workload::on_rank(&bed.site, "good", 1);
    bad.write();
    let other = server.engine_pid(1);
    bed.misbehave(true);
    let mut writer = bad.write_on();
    let state = server.wait_state("dead", |s| engine(s, 0)["restarts"].as_u64() >= Some(1));
    bed.misbehave(false);
    // The state says why as long as it is not running; the log says it for ever.
    for word in words {
        eventually(word, || server.log().contains(word).then_some(()));
    }
    assert_eq!(engine(&state, 1)["state"], "ready", "{state:#}");
    good.write();
    good.verify();
    server.wait_state("served again", |s| s["phase"] == "ready");
    if words.iter().any(|word| word.contains(HOSTILE)) {
        assert_failing(&bed.site, HOSTILE);
    }
    let told = bed.site.shell(&["--json", "plugin", "inspect", HOSTILE]);
    let told = crate::plugin_detail::answer(&told.expect(0).json())["incidents"].to_string();
    for word in words.iter().filter(|word| word.contains("inside plugin")) {
        assert!(told.contains(word), "{word} is in no incident: {told}");
    }
    writer.kill().expect("our child can be killed");
    writer.wait().expect("our child can be waited for");
    bad.verify();
    assert_eq!(
        server.engine_pid(1),
        other,
        "the other engine was never touched"
    );
    server.stop();
}

#[test]
fn a_segmentation_fault_in_submit() {
    dies_with(
        "submit: segfault",
        &[
            "SIGSEGV inside plugin fixture-hostile 0.6.6, call submit",
            "engine died",
        ],
    );
}

#[test]
fn an_abort_in_poll() {
    dies_with(
        "poll: abort",
        &["SIGABRT inside plugin fixture-hostile 0.6.6, call poll"],
    );
}

#[test]
fn a_stack_overflow_in_poll() {
    dies_with(
        "poll: overflow",
        &["inside plugin fixture-hostile 0.6.6, call poll"],
    );
}

#[test]
fn an_exit_in_submit() {
    dies_with(
        "submit: 'exit:0'",
        &[
            "exit inside plugin fixture-hostile 0.6.6, call submit",
            "exited with status 0",
        ],
    );
}

#[test]
fn a_call_that_never_returns() {
    dies_with(
        "poll: spin",
        &[
            "target has not come back",
            "SIGABRT inside plugin fixture-hostile 0.6.6, call poll",
        ],
    );
}

#[test]
fn a_completion_of_what_is_not_under_way() {
    dies_with(
        "poll: wrong-tag",
        &[
            "fixture-hostile",
            "which is not under way",
            "the device queue failed",
        ],
    );
}

#[test]
fn a_completion_that_comes_twice() {
    dies_with(
        "poll: twice",
        &["fixture-hostile", "which is not under way"],
    );
}

#[test]
fn more_completions_than_were_asked_for() {
    dies_with("poll: too-many", &["the device queue failed"]);
}

#[test]
fn more_requests_than_were_given() {
    dies_with("submit: too-many", &["the device queue failed"]);
}

#[test]
fn a_descriptor_to_wait_on_that_is_none() {
    dies_with(
        "submit: swallow, arm_wait: nonsense",
        &["plugin fixture-hostile 0.6.6, call arm_wait: its answer makes no sense"],
    );
}

#[test]
fn a_status_that_is_none_is_an_error_of_the_device_and_the_engine_lives() {
    let bed = Bed::new("poll: status");
    let server = bed.start();
    bed.put();
    let pid = server.engine_pid(0);
    bed.misbehave(true);
    let refused = bed.try_put();
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(!refused.stderr.is_empty());
    assert_eq!(server.engine_pid(0), pid);
    server.stop();
}

#[test]
fn a_completion_that_never_comes() {
    dies_with(
        "submit: swallow",
        &["plugin fixture-hostile 0.6.6 has not completed a request"],
    );
}

#[test]
fn closed_descriptors_of_the_engine() {
    dies_with(
        "submit: close-fds",
        &[
            "engine died",
            "close of the engine's own descriptor 0 inside plugin fixture-hostile 0.6.6, call submit",
        ],
    );
}

/// Nothing of the process's own runs at such an end, and nothing is printed.
#[test]
fn an_exit_that_leaves_no_word() {
    dies_with(
        "submit: 'exit-now:7'",
        &[
            "exited with status 7",
            "it ended without a word while thread target-0 was inside plugin fixture-hostile 0.6.6, call submit",
        ],
    );
}

/// Nothing fails yet, so nobody is blamed; a new process has none of them.
#[test]
fn leaked_descriptors_of_an_engine_are_told_while_it_serves() {
    let port = Port::reserve();
    let mut bed = Bed::new("submit: 'leak-fds:4'");
    bed.site.set_env("DAOS_COUNT_FILES_EVERY_MS", "20");
    bed.site
        .add_config(&format!("telemetry_port: {}\n", port.number()));
    let mut server = bed.start();
    bed.put();
    let pid = server.engine_pid(0);
    let open = || {
        value(
            &scrape(port.number()),
            "daos_engine_open_files",
            &["engine=\"0\""],
        )
    };
    let before = eventually("a count", || {
        let text = scrape(port.number());
        text.contains("daos_engine_open_files{").then(open)
    });
    bed.misbehave(true);
    let state = eventually("a leak", || {
        bed.put();
        let state = bed.site.state().expect("the server answers");
        (state["phase"] == "degraded").then_some(state)
    });
    let engine_0 = engine(&state, 0);
    assert_eq!(engine_0["state"], "ready", "{state:#}");
    for words in [
        "open files grow without end",
        "are /dev/null",
        "a plugin leaks them",
    ] {
        let reason = engine_0["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(words), "{words:?} is missing in {reason}");
    }
    let hint = engine_0["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("system stop --ranks 0"), "{hint}");
    assert!(open() >= before + 64.0);
    assert!(
        value(
            &scrape(port.number()),
            "daos_engine_open_files_limit",
            &["engine=\"0\""]
        ) > 64.0
    );
    assert_eq!(engine(&state, 1)["reason"], "it serves", "{state:#}");
    bed.misbehave(false);
    assert_eq!(server.engine_pid(0), pid);
    bed.site
        .shell(&["system", "stop", "--ranks", "0"])
        .expect(0);
    bed.site
        .shell(&["system", "start", "--ranks", "0"])
        .expect(0);
    server.wait_state("well", |s| s["phase"] == "ready");
    bed.put();
    server.stop();
}

/// A target that is in a call of its device answers nobody, and its engine's own ping neither.
#[test]
fn a_slow_device_is_not_taken_for_a_fabric_that_does_nothing() {
    let bed = Bed::new("submit: 'slow:3000'");
    bed.site.change_engine(0, |engine| {
        engine.extra = engine.extra.replace("[", "['D_SELF_TEST=1', ");
        assert!(engine.extra.contains("SELF_TEST"), "{}", engine.extra);
    });
    let server = bed.start();
    bed.put();
    let pid = server.engine_pid(0);
    bed.misbehave(true);
    let began = std::time::Instant::now();
    bed.put();
    assert!(began.elapsed() > std::time::Duration::from_secs(3));
    bed.misbehave(false);
    assert_eq!(server.engine_pid(0), pid);
    server.stop();
}

/// The queue is of no use after it, and the engine would refuse everything while it reads "ready".
#[test]
fn a_panic_in_submit() {
    dies_with(
        "submit: panic",
        &[
            "plugin fixture-hostile 0.6.6, call submit: it panicked",
            "the device queue failed",
        ],
    );
}

#[test]
fn a_device_that_is_not_at_rest_is_not_used_again() {
    let bed = Bed::new("quiesce: fail");
    let mut server = bed.start();
    let data = Workload::on_rank(&bed.site, "rest", 0);
    data.write();
    bed.misbehave(true);
    let dead = server.kill_engine(0);
    // Not even after the second pause, when it would be running again.
    let state = server.wait_state("waiting", |s| {
        engine(s, 0)["restarts"].as_u64() >= Some(2) && engine(s, 0)["state"] == "restarting"
    });
    let reason = engine(&state, 0)["reason"].as_str().unwrap_or("");
    for word in ["SIGKILL", "not at rest", "cannot read the drum", "dry it"] {
        assert!(reason.contains(word), "{word:?} is missing in {reason}");
    }
    assert_eq!(engine(&state, 1)["state"], "ready");
    bed.misbehave(false);
    server.wait_state("served again", |s| s["phase"] == "ready");
    assert_ne!(server.engine_pid(0), dead);
    // What the plugin had to do is told.
    assert!(server.log().contains("hostile:0 is at rest"));
    data.verify();
    server.stop();
}

#[test]
fn an_engine_that_dies_again_and_again_is_given_up_with_its_reason() {
    let bed = Bed::new("submit: segfault");
    let mut server = bed.start();
    bed.misbehave(true);
    server.kill_engine(0);
    let state = server.wait_state("given up", |s| engine(s, 0)["state"] == "errored");
    let reason = engine(&state, 0)["reason"].as_str().unwrap_or("");
    for word in [
        "given up",
        "SIGSEGV",
        "fixture-hostile 0.6.6",
        "call submit",
    ] {
        assert!(reason.contains(word), "{word:?} is missing in {reason}");
    }
    assert_eq!(engine(&state, 1)["state"], "ready");
    bed.misbehave(false);
    let told = bed
        .site
        .shell(&["--json", "plugin", "inspect", "fixture-hostile"]);
    let told = told.expect(0).json();
    let incidents = crate::plugin_detail::answer(&told)["incidents"].clone();
    let of_engine = incidents.as_array().into_iter().flatten();
    let of_engine = of_engine.filter(|i| i["process"] == "engine 0");
    // The first death was not the plugin's.
    assert_eq!(of_engine.count(), 5, "{told:#}");
    for word in ["SIGSEGV", "call submit"] {
        assert!(incidents.to_string().contains(word), "{told:#}");
    }
    bed.site.shell(&["system", "start"]).expect(0);
    server.wait_state("ready", |s| s["phase"] == "ready");
    server.stop();
}
