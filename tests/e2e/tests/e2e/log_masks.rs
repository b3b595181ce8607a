//! What plugins log: in the log of the server, with their names, at a level that can be changed while they work.

use crate::hostile_engines::Bed;
use daos_e2e::{Server, eventually};

/// What the fixture says at DEBUG in an engine, and in a helper.
const ENGINE: &str = "a batch";
const HELPER: &str = "looks at its drums";

fn lines(server: &Server<'_>, words: &str) -> usize {
    server.log().lines().filter(|l| l.contains(words)).count()
}

fn set(bed: &Bed, masks: &[&str]) {
    let words = [&["server", "set-logmasks"], masks].concat();
    bed.site.shell(&words).expect(0);
}

/// Everything that engine 0 has said since it took its newest mask.
fn since_the_mask(server: &Server<'_>) -> String {
    let log = server.log();
    let at = log.rfind("log mask mask=").expect("a mask was set");
    log[at..].to_owned()
}

#[test]
fn levels_change_while_server_helpers_and_engines_run() {
    let bed = Bed::new("");
    let mut server = bed.start();
    bed.put();
    bed.site.shell(&["storage", "scan"]).expect(0);
    assert_eq!((lines(&server, ENGINE), lines(&server, HELPER)), (0, 0));

    set(&bed, &["--masks", "fixture-hostile=DEBUG"]);
    bed.site.shell(&["storage", "scan"]).expect(0);
    bed.put();
    let named = |words: &str| {
        eventually(words, || {
            let log = server.log();
            let line = log.lines().find(|l| l.contains(words))?;
            Some(line.contains("fixture-hostile"))
        })
    };
    assert!(named(ENGINE) && named(HELPER));
    // Nobody else became talkative.
    let ours = |l: &str| l.contains("fixture-hostile") || l.contains("h2");
    let log = server.log();
    let others: Vec<_> = log
        .lines()
        .filter(|l| l.contains("DEBUG") && !ours(l))
        .collect();
    assert!(others.is_empty(), "{others:#?}");

    // An engine that is started anew gets it, too.
    server.kill_engine(0);
    server.wait_state("restarted", |s| {
        s["phase"] == "ready" && s["engines"][0]["restarts"] == 1
    });
    bed.put();
    eventually("the new engine's lines", || {
        since_the_mask(&server).contains(ENGINE).then_some(())
    });
    let shown = bed
        .site
        .shell(&["plugin", "inspect", "fixture-hostile"])
        .expect(0);
    assert!(shown.text().contains("log level DEBUG"), "{shown}");

    set(&bed, &[]);
    let before = lines(&server, HELPER);
    bed.put();
    bed.site.shell(&["storage", "scan"]).expect(0);
    eventually("the end of the lines", || {
        since_the_mask(&server).contains("mask=INFO").then_some(())
    });
    assert!(!since_the_mask(&server).contains(ENGINE));
    assert_eq!(lines(&server, HELPER), before);

    for (mask, words) in [
        ("bdev-nothing=DEBUG", "there is no plugin bdev-nothing"),
        ("fixture-hostile=LOUD", "is no level"),
    ] {
        let refused = bed.site.shell(&["server", "set-logmasks", "-m", mask]);
        let refused = refused.expect(1);
        assert!(refused.text().contains(words), "{refused}");
    }
    let streams = bed.site.shell(&["server", "set-logmasks", "-d", "MGMT"]);
    assert!(streams.expect(1).text().contains("engine 0"));
    server.stop();
}

#[test]
fn a_plugin_has_a_level_of_its_own_in_the_file() {
    let bed = Bed::with_keys("", "    log_mask: DEBUG\n");
    let server = bed.start();
    bed.site.shell(&["storage", "scan"]).expect(0);
    bed.put();
    for words in [ENGINE, HELPER] {
        eventually(words, || (lines(&server, words) > 0).then_some(()));
    }
    server.stop();
}
