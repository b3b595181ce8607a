//! SCM and a fabric that misbehave inside an engine: that engine says which plugin and which call it was, and comes
//! back by itself with everything that it acknowledged; the other engine and the daemon never notice.

use crate::data::Workload;
use crate::hostile_engines::{Bed, Face, assert_failing, engine};
use daos_e2e::{Server, eventually};
use fixture_files::HOSTILE_FACES;
use serde_json::Value;

/// What the log says since it had so many bytes.
fn since(server: &Server<'_>, from: usize) -> String {
    server.log().get(from..).unwrap_or_default().to_owned()
}

/// What is kept of what the plugin did to processes.
fn incidents(bed: &Bed) -> Value {
    let told = bed
        .site
        .shell(&["--json", "plugin", "inspect", HOSTILE_FACES]);
    crate::plugin_detail::answer(&told.expect(0).json())["incidents"].clone()
}

/// Starts the engines anew: deaths in a row are forgotten then.
fn start_again(bed: &Bed, server: &mut Server<'_>) {
    bed.site.shell(&["system", "stop"]).expect(0);
    bed.site.shell(&["system", "start"]).expect(0);
    server.wait_state("started", |s| s["phase"] == "ready");
}

/// What the plugin does, in which function, and what the log says of it.
type Deed = (&'static str, &'static str, &'static [&'static str]);

/// Whether the deed is done while the engine serves, or while it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Work,
    Start,
}

/// The engine dies of each deed, saying so, and serves again when it is over; the other one serves throughout.
#[track_caller]
fn dies_of(face: Face, at: At, deeds: &[Deed]) {
    let bed = Bed::of(face, "", "");
    let mut server = bed.start();
    let bad = Workload::on_rank(&bed.site, "bad", 0);
    let good = Workload::on_rank(&bed.site, "good", 1);
    bad.write();
    for (function, behaviour, words) in deeds {
        let from = server.log().len();
        let other = server.engine_pid(1);
        let state = bed.site.state().expect("the server answers");
        let before = engine(&state, 0)["restarts"].as_u64();
        let mut writer = bad.write_on();
        bed.misbehave_in(function, behaviour);
        if at == At::Start {
            server.kill_engine(0);
        }
        let deaths = before.unwrap_or(0) + if at == At::Start { 2 } else { 1 };
        let state = server.wait_state("dead", |s| {
            engine(s, 0)["restarts"].as_u64() >= Some(deaths)
        });
        for word in *words {
            eventually(&format!("{word} of {function}: {behaviour}"), || {
                since(&server, from).contains(word).then_some(())
            });
        }
        assert_eq!(engine(&state, 1)["state"], "ready", "{state:#}");
        // Plugin, version and call, whatever became of the process. Only the newest are kept.
        let inside = words.iter().filter(|word| word.contains("inside plugin"));
        for word in inside {
            eventually(&format!("an incident: {word}"), || {
                incidents(&bed).to_string().contains(word).then_some(())
            });
        }
        good.write();
        bed.misbehave(false);
        server.wait_state("served again", |s| s["phase"] == "ready");
        writer.kill().expect("our child can be killed");
        writer.wait().expect("our child can be waited for");
        bad.verify();
        assert_eq!(server.engine_pid(1), other, "never touched");
        start_again(&bed, &mut server);
    }
    good.verify();
    let told = incidents(&bed);
    let count = told.as_array().map_or(0, Vec::len);
    assert!(
        count >= deeds.len(),
        "{count} of {} are told: {told:#}",
        deeds.len()
    );
    server.stop();
}

const PLUGIN: &str = "plugin fixture-hostile-faces 0.6.6";

#[test]
fn memory_that_ends_the_process() {
    dies_of(
        Face::Scm,
        At::Work,
        &[
            (
                "persist",
                "segfault",
                &["SIGSEGV inside plugin fixture-hostile-faces 0.6.6, call persist"],
            ),
            (
                "persist",
                "abort",
                &["SIGABRT inside plugin fixture-hostile-faces 0.6.6, call persist"],
            ),
            (
                "persist",
                "overflow",
                &["inside plugin fixture-hostile-faces 0.6.6, call persist"],
            ),
            (
                "persist",
                "exit:0",
                &["exit inside plugin fixture-hostile-faces 0.6.6, call persist"],
            ),
            (
                "persist",
                "close-fds",
                &["own descriptor 0 inside plugin fixture-hostile-faces 0.6.6, call persist"],
            ),
            (
                "persist",
                "spin",
                &[
                    "target has not come back",
                    "fixture-hostile-faces 0.6.6, call persist",
                ],
            ),
        ],
    );
}

#[test]
fn memory_that_is_not_there_when_an_engine_starts() {
    dies_of(
        Face::Scm,
        At::Start,
        &[
            (
                "open_region",
                "nowhere",
                &[PLUGIN, "call open_region: it mapped nothing"],
            ),
            ("open_region", "odd", &["is not mapped as asked"]),
            (
                "open_region",
                "segfault",
                &["SIGSEGV inside plugin fixture-hostile-faces 0.6.6, call open_region"],
            ),
            ("mount_point", "garbage", &[PLUGIN, "call mount_point"]),
            (
                "info",
                "garbage",
                &[PLUGIN, "the memory describes itself impossibly"],
            ),
            (
                "mount_point",
                "abort",
                &["SIGABRT inside plugin fixture-hostile-faces 0.6.6, call mount_point"],
            ),
            (
                "scm_open",
                "panic",
                &[PLUGIN, "the plugin panicked in open"],
            ),
        ],
    );
}

/// Ended when it has not become ready in time, in a way that lets it say which call it is in.
#[test]
fn an_engine_that_does_not_come_back_from_a_call_at_its_start_says_which() {
    if std::env::var_os("SOAK").is_none() {
        println!("NOT RUN: an engine has two minutes to become ready; set SOAK=1");
        return;
    }
    let bed = Bed::of(Face::Scm, "", "");
    let mut server = bed.start();
    bed.misbehave_in("open_region", "spin");
    server.kill_engine(0);
    std::thread::sleep(std::time::Duration::from_secs(100));
    let words = "not ready within 120 s: SIGABRT inside plugin fixture-hostile-faces 0.6.6, call open_region";
    eventually(words, || server.log().contains(words).then_some(()));
    bed.misbehave(false);
    server.wait_state("served again", |s| s["phase"] == "ready");
    server.stop();
}

/// Changes are refused, and everybody who asks is told which plugin, call and target it was; a new process takes
/// changes again.
#[test]
fn memory_that_refuses_costs_no_process() {
    for (behaviour, word) in [("panic", "it panicked"), ("status", "call persist")] {
        let bed = Bed::of(Face::Scm, "", "");
        let mut server = bed.start();
        let data = Workload::on_rank(&bed.site, "memory", 0);
        data.write();
        let pid = server.engine_pid(0);
        bed.misbehave_in("persist", behaviour);
        let refused = bed.try_put();
        assert_eq!(refused.code, Some(1), "{refused}");
        assert_eq!(server.engine_pid(0), pid);
        let state = server.wait_state("told", |s| s["phase"] == "degraded");
        let failed = &engine(&state, 0)["failed_targets"][0];
        let reason = failed["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains(PLUGIN) && reason.contains(word),
            "{state:#}"
        );
        assert_eq!(engine(&state, 0)["state"], "ready", "{state:#}");
        let query = bed.site.shell(&["system", "query"]).expect(0).stdout;
        for words in ["it serves without target", PLUGIN, "system start --ranks 0"] {
            assert!(query.contains(words), "{words:?} is missing in {query}");
        }
        let told = bed
            .site
            .shell(&["--json", "plugin", "inspect", HOSTILE_FACES]);
        let told = crate::plugin_detail::answer(&told.expect(0).json())["incidents"].to_string();
        assert!(told.contains("failed: ") && told.contains(word), "{told}");
        bed.misbehave(false);
        start_again(&bed, &mut server);
        let state = bed.site.state().expect("the server answers");
        assert_eq!(engine(&state, 0).get("failed_targets"), None, "{state:#}");
        data.verify();
        bed.put();
        server.stop();
    }
}

#[test]
fn a_fabric_that_ends_the_process() {
    dies_of(
        Face::Fabric,
        At::Work,
        &[
            (
                "submit",
                "segfault",
                &["SIGSEGV inside plugin fixture-hostile-faces 0.6.6, call submit"],
            ),
            (
                "poll",
                "abort",
                &["SIGABRT inside plugin fixture-hostile-faces 0.6.6, call poll"],
            ),
            (
                "poll",
                "overflow",
                &["inside plugin fixture-hostile-faces 0.6.6, call poll"],
            ),
            (
                "submit",
                "exit:0",
                &["exit inside plugin fixture-hostile-faces 0.6.6, call submit"],
            ),
            (
                "submit",
                "close-fds",
                &["own descriptor 0 inside plugin fixture-hostile-faces 0.6.6, call submit"],
            ),
            (
                "poll",
                "spin",
                &[
                    "target has not come back",
                    "fixture-hostile-faces 0.6.6, call poll",
                ],
            ),
            ("poll", "panic", &[PLUGIN, "call poll: it panicked"]),
        ],
    );
}

#[test]
fn a_fabric_that_lies() {
    dies_of(
        Face::Fabric,
        At::Work,
        &[
            ("poll", "wrong-tag", &[PLUGIN, "which is not under way"]),
            ("poll", "twice", &[PLUGIN, "which is not under way"]),
            (
                "poll",
                "too-many",
                &[PLUGIN, "call poll: its answer makes no sense"],
            ),
            ("poll", "len", &[PLUGIN, "bytes where"]),
            (
                "submit",
                "too-many",
                &[PLUGIN, "call submit: its answer makes no sense"],
            ),
            (
                "arm_wait",
                "nonsense",
                &[PLUGIN, "call arm_wait: its answer makes no sense"],
            ),
        ],
    );
}

#[test]
fn a_fabric_that_fails_when_an_engine_starts() {
    dies_of(
        Face::Fabric,
        At::Start,
        &[
            (
                "fabric_open",
                "panic",
                &[PLUGIN, "the plugin panicked in open"],
            ),
            (
                "fabric_info",
                "garbage",
                &[PLUGIN, "describes itself impossibly"],
            ),
            (
                "register",
                "abort",
                &["SIGABRT inside plugin fixture-hostile-faces 0.6.6, call register"],
            ),
            (
                "open_endpoint",
                "segfault",
                &["SIGSEGV inside plugin fixture-hostile-faces 0.6.6, call open_endpoint"],
            ),
        ],
    );
}

/// No message comes and no operation is late, as if nobody spoke: the engine asks itself.
#[test]
fn a_fabric_that_completes_nothing_is_found_by_the_engine_itself() {
    let bed = Bed::of(Face::Fabric, "", "");
    bed.site.change_engine(0, |engine| {
        let patience = "'D_IO_PATIENCE=1'";
        assert!(engine.extra.contains(patience), "{}", engine.extra);
        engine.extra = engine
            .extra
            .replace(patience, &format!("{patience}, 'D_SELF_TEST=3'"));
    });
    let mut server = bed.start();
    let bad = Workload::on_rank(&bed.site, "bad", 0);
    let good = Workload::on_rank(&bed.site, "good", 1);
    bad.write();
    let (own, other) = (server.engine_pid(0), server.engine_pid(1));
    // While it works nothing happens.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(server.engine_pid(0), own);
    bed.misbehave_in("poll", "mute");
    let words = "the fabric does nothing: plugin fixture-hostile-faces 0.6.6 has let neither";
    let state = server.wait_state("dead", |s| engine(s, 0)["restarts"].as_u64() >= Some(1));
    eventually(words, || server.log().contains(words).then_some(()));
    assert_eq!(engine(&state, 1)["state"], "ready", "{state:#}");
    // A new process is no better, and is found out as well; the state says so while it is not running.
    server.wait_state("dead again", |s| {
        let engine = engine(s, 0);
        let reason = engine["reason"].as_str().unwrap_or_default();
        engine["restarts"].as_u64() >= Some(2) && reason.contains(words)
    });
    good.write();
    assert_failing(&bed.site, HOSTILE_FACES);
    bed.misbehave(false);
    server.wait_state("served again", |s| s["phase"] == "ready");
    bad.verify();
    assert_eq!(server.engine_pid(1), other, "never touched");
    server.stop();
}

/// Clients get no answers as long as that lasts, and then they do, from the same process.
#[test]
fn a_fabric_whose_statuses_are_none_costs_messages_alone() {
    let bed = Bed::of(Face::Fabric, "", "");
    let server = bed.start();
    let data = Workload::on_rank(&bed.site, "bad", 0);
    let good = Workload::on_rank(&bed.site, "good", 1);
    data.write();
    let pid = server.engine_pid(0);
    bed.misbehave_in("poll", "status");
    let mut writer = data.write_on();
    std::thread::sleep(std::time::Duration::from_secs(2));
    good.write();
    bed.misbehave(false);
    writer.kill().expect("our child can be killed");
    writer.wait().expect("our child can be waited for");
    data.verify();
    assert_eq!(server.engine_pid(0), pid);
    good.verify();
    server.stop();
}
