//! What is refused, and that nothing else is.

use daos_loader::{
    AbiVersion, AllowList, Catalogue, Origin, PluginFile, Policy, Quarantine, Refusal, StateDir,
    Trust,
};
use daos_plugin_api::control::ClassKind;
use fixture_files::{
    HOSTILE, RAW, chmod, install, patch_machine, patch_major, patch_note, put, replace, truncate,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Dir {
    _scratch: tempfile::TempDir,
    path: PathBuf,
}

fn dir() -> Dir {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().canonicalize().unwrap().join("plugins");
    std::fs::create_dir(&path).unwrap();
    chmod(&path, 0o755);
    Dir {
        _scratch: scratch,
        path,
    }
}

fn refusal(path: &Path) -> Refusal {
    PluginFile::inspect(path, &Policy::default()).expect_err("refused")
}

/// One sentence with a remedy, short enough for a terminal.
fn assert_sentence(refusal: &Refusal) {
    let text = refusal.to_string();
    assert!(text.contains("; ") && !text.contains('\n'), "{text}");
    assert!(text.len() < 400, "{} bytes: {text}", text.len());
}

#[test]
fn a_good_file_tells_who_it_is_without_running() {
    let dir = dir();
    let path = install(HOSTILE, &dir.path, "a.so");
    // Running it would leave this file's behaviour behind: it aborts while being mapped.
    put(&dir.path, "a.so.onload", b"abort");
    let info = PluginFile::inspect(&path, &Policy::default()).unwrap();
    assert_eq!(
        (info.name(), info.manifest.version.as_str()),
        (HOSTILE, "0.6.6")
    );
    assert!(info.rust);
    assert_eq!(info.path(), Some(path.as_path()));
    assert_eq!(info.sha256, None, "hashed only on demand");
    let raw = PluginFile::inspect(&install(RAW, &dir.path, "b.so"), &Policy::default()).unwrap();
    assert!(!raw.rust);
}

#[test]
fn one_bad_file_never_affects_the_others() {
    let dir = dir();
    let d = dir.path.as_path();
    install(HOSTILE, d, "good-1.so");
    install(RAW, d, "good-2.so");
    put(d, "empty.so", b"");
    put(d, "text.so", b"#!/bin/sh\n");
    put(d, "magic-only.so", b"\x7fELF");
    for part in [1, 30, 60, 99] {
        truncate(&install(HOSTILE, d, &format!("truncated-{part}.so")), part);
    }
    patch_machine(&install(HOSTILE, d, "machine.so"), 183);
    patch_major(&install(HOSTILE, d, "newer.so"), 2);
    patch_major(&install(HOSTILE, d, "older.so"), 0);
    patch_note(&install(HOSTILE, d, "abort.so"), |n| n[4] |= 1);
    patch_note(&install(HOSTILE, d, "json.so"), |n| n[12] = b'[');
    patch_note(&install(HOSTILE, d, "length.so"), |n| n[8..12].fill(0xff));
    chmod(&install(HOSTILE, d, "writable.so"), 0o646);
    std::fs::copy(std::env::current_exe().unwrap(), d.join("program.so")).unwrap();
    let libc = [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/aarch64-linux-gnu/libc.so.6",
    ];
    if let Some(libc) = libc.iter().find(|p| Path::new(p).exists()) {
        std::fs::copy(libc, d.join("library.so")).unwrap();
    }
    std::fs::create_dir(d.join("directory.so")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", d.join("device.so")).unwrap();
    std::os::unix::fs::symlink("nowhere", d.join("dangling.so")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(d.join("socket.so")).unwrap();

    let catalogue = Catalogue::build(Some(d), [], &Policy::default());
    let names: Vec<&str> = catalogue.plugins.iter().map(|p| p.name()).collect();
    assert_eq!(names, [HOSTILE, RAW]);
    let reasons: Vec<(String, &str)> = catalogue
        .refused
        .iter()
        .map(|r| {
            assert_sentence(&r.reason);
            let name = r.path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(r.to_string().contains(&name));
            (name, r.reason.code())
        })
        .collect();
    let mut expected = vec![
        ("abort", "panic_aborts"),
        ("dangling", "unreadable"),
        ("device", "not_regular"),
        ("directory", "not_regular"),
        ("empty", "not_elf"),
        ("json", "malformed_manifest"),
        ("length", "malformed_manifest"),
        ("machine", "wrong_machine"),
        ("magic-only", "not_elf"),
        ("newer", "other_major"),
        ("older", "other_major"),
        ("program", "no_manifest"),
        ("socket", "not_regular"),
        ("text", "not_elf"),
        ("truncated-1", "truncated"),
        ("truncated-30", "truncated"),
        ("truncated-60", "truncated"),
        ("truncated-99", "truncated"),
        ("writable", "writable"),
    ];
    if d.join("library.so").exists() {
        expected.push(("library", "no_manifest"));
        expected.sort_unstable();
    }
    let got: Vec<(&str, &str)> = reasons.iter().map(|(n, c)| (n.as_str(), *c)).collect();
    assert_eq!(got, expected);
}

#[test]
fn another_major_names_both_versions_and_what_to_do() {
    let dir = dir();
    let path = install(HOSTILE, &dir.path, "a.so");
    patch_major(&path, 7);
    let text = refusal(&path).to_string();
    let host = AbiVersion::HOST.to_string();
    assert!(text.contains("7.") && text.contains(&host), "{text}");
    assert!(
        text.contains(HOSTILE) && text.contains("update this server"),
        "{text}"
    );
    patch_major(&path, 0);
    assert!(
        refusal(&path)
            .to_string()
            .contains("newer build of the plugin")
    );
}

#[test]
fn a_newer_minor_is_fine() {
    let dir = dir();
    let path = install(HOSTILE, &dir.path, "a.so");
    patch_note(&path, |n| n[2] = 9);
    let info = PluginFile::inspect(&path, &Policy::default()).unwrap();
    assert_eq!(info.abi.to_string(), "1.9");
}

#[test]
fn a_directory_above_that_others_can_write_is_refused_by_name() {
    let dir = dir();
    let deep = dir.path.join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    let path = install(HOSTILE, &deep, "x.so");
    PluginFile::inspect(&path, &Policy::default()).unwrap();
    for mode in [0o777, 0o757, 0o733] {
        chmod(&dir.path.join("a"), mode);
        let reason = refusal(&path);
        assert_eq!(reason.code(), "writable", "{mode:o}");
        let text = reason.to_string();
        assert!(
            text.contains(&format!("chmod o-w {}", dir.path.join("a").display())),
            "{text}"
        );
    }
    // With the sticky bit others can add to the directory, but not replace what is ours.
    chmod(&dir.path.join("a"), 0o1777);
    PluginFile::inspect(&path, &Policy::default()).unwrap();
}

#[test]
fn a_link_is_as_trustworthy_as_both_its_ends() {
    let dir = dir();
    let open = dir.path.join("open");
    let closed = dir.path.join("closed");
    std::fs::create_dir(&open).unwrap();
    std::fs::create_dir(&closed).unwrap();
    let inside = install(HOSTILE, &closed, "x.so");
    let outside = install(HOSTILE, &open, "y.so");
    chmod(&open, 0o777);
    std::os::unix::fs::symlink(&inside, open.join("in.so")).unwrap();
    std::os::unix::fs::symlink(&outside, closed.join("out.so")).unwrap();
    std::os::unix::fs::symlink(&inside, closed.join("in.so")).unwrap();
    assert_eq!(refusal(&open.join("in.so")).code(), "writable");
    assert_eq!(refusal(&closed.join("out.so")).code(), "writable");
    PluginFile::inspect(&closed.join("in.so"), &Policy::default()).unwrap();
}

#[test]
fn files_of_other_users_and_groups_are_refused() {
    let name = "files_of_other_users_and_groups_are_refused";
    if !is_root() {
        println!("NOT RUN {name}: needs root to give files away");
        return;
    }
    let dir = dir();
    let path = install(HOSTILE, &dir.path, "x.so");
    std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
    let reason = refusal(&path);
    assert_eq!(reason.code(), "wrong_owner");
    assert!(reason.to_string().contains("chown root"), "{reason}");
    std::os::unix::fs::chown(&path, Some(0), Some(12345)).unwrap();
    PluginFile::inspect(&path, &Policy::default()).unwrap();
    chmod(&path, 0o664);
    assert_eq!(refusal(&path).code(), "writable");
    chmod(&path, 0o644);
    std::os::unix::fs::chown(&dir.path, Some(12345), None).unwrap();
    assert_eq!(refusal(&path).code(), "wrong_owner");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn allow_list_and_hash() {
    let dir = dir();
    let path = install(HOSTILE, &dir.path, "x.so");
    let with = |sha256: Option<&str>, name: &str| Policy {
        allow: Some(AllowList::from_iter([(
            name.to_owned(),
            sha256.map(str::to_owned).into_iter().collect(),
        )])),
        ..Policy::default()
    };
    let inspect = |policy: &Policy| PluginFile::inspect(&path, policy);
    assert_eq!(inspect(&with(None, HOSTILE)).unwrap().sha256, None);
    assert_eq!(
        inspect(&with(None, "other")).unwrap_err().code(),
        "not_allowed"
    );
    let wrong = inspect(&with(Some(&"0".repeat(64)), HOSTILE)).unwrap_err();
    let Refusal::HashDiffers { found, .. } = &wrong else {
        panic!("{wrong}");
    };
    assert_sentence(&wrong);
    let output = std::process::Command::new("sha256sum")
        .arg(&path)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(found.as_str()));
    let info = inspect(&with(Some(&found.to_uppercase()), HOSTILE)).unwrap();
    assert_eq!(info.sha256.as_ref(), Some(found));
}

#[test]
fn two_files_with_one_name_are_both_refused() {
    let dir = dir();
    install(HOSTILE, &dir.path, "x.so");
    install(HOSTILE, &dir.path, "y.so");
    install(RAW, &dir.path, "z.so");
    let catalogue = Catalogue::build(Some(&dir.path), [], &Policy::default());
    assert_eq!(catalogue.plugins.len(), 1);
    assert_eq!(catalogue.refused.len(), 2);
    for refused in &catalogue.refused {
        assert_eq!(refused.reason.code(), "duplicate_name");
    }
    let text = catalogue.refused[0].to_string();
    assert!(text.contains("x.so") && text.contains("y.so"), "{text}");
}

#[test]
fn who_serves_a_class_that_two_plugins_declare_is_told() {
    let dir = dir();
    install(HOSTILE, &dir.path, "x.so");
    let other = install(HOSTILE, &dir.path, "y.so");
    replace(&other, b"fixture-hostile\",", b"fixture-another\",");
    let build = |policy: &Policy| Catalogue::build(Some(&dir.path), [], policy);
    let catalogue = build(&Policy::default());
    assert_eq!(catalogue.plugins.len(), 2);
    let error = catalogue.find(ClassKind::Bdev, "hostile").unwrap_err();
    let [note] = &catalogue.notes[..] else {
        panic!("{:?}", catalogue.notes);
    };
    assert!(note.starts_with(&error.to_string()), "{note}");
    for word in ["`hostile`", "fixture-another", "x.so", "y.so", "`plugins:`"] {
        assert!(note.contains(word), "{word:?} is missing in {note}");
    }
    // The allow list leaves one.
    let catalogue = build(&Policy {
        allow: Some(AllowList::from_iter([(HOSTILE.to_owned(), Vec::new())])),
        ..Policy::default()
    });
    assert_eq!(catalogue.notes, [] as [&str; 0]);
    let found = catalogue.find(ClassKind::Bdev, "hostile").unwrap();
    assert_eq!(found.name(), HOSTILE);
}

#[test]
fn quarantine_lasts_until_the_file_changes_or_a_reset() {
    let dir = dir();
    let state = StateDir::open(dir.path.join("../state")).unwrap();
    let path = install(HOSTILE, &dir.path, "x.so");
    let info = PluginFile::inspect(&path, &Policy::default()).unwrap();
    let inspect = || {
        let policy = Policy {
            quarantine: state.quarantine().unwrap(),
            ..Policy::default()
        };
        PluginFile::inspect(&path, &policy)
    };
    state
        .quarantine_add(&info, "killed its process by SIGSEGV while loading")
        .unwrap();
    let reason = inspect().unwrap_err();
    assert_eq!(reason.code(), "quarantined");
    assert!(reason.to_string().contains("SIGSEGV"), "{reason}");
    assert!(
        reason.to_string().contains("plugin reset fixture-hostile"),
        "{reason}"
    );
    // Another file under the same path is another plugin.
    install(HOSTILE, &dir.path, "x.so");
    let info = inspect().unwrap();
    state.quarantine_add(&info, "did not return").unwrap();
    assert_eq!(
        state.quarantine().unwrap().records.len(),
        1,
        "one record a file"
    );
    inspect().unwrap_err();
    assert_eq!(state.quarantine_reset("another").unwrap(), 0);
    inspect().unwrap_err();
    assert_eq!(state.quarantine_reset(HOSTILE).unwrap(), 1);
    inspect().unwrap();
}

/// Plugins of a directory, as a server keeps them.
struct Kept {
    dir: PathBuf,
    state: StateDir,
    catalogue: Catalogue,
}

impl Kept {
    fn read(&mut self) {
        let policy = Policy {
            quarantine: self.state.quarantine().unwrap(),
            ..Policy::default()
        };
        self.catalogue = Catalogue::build(Some(&self.dir), [], &policy);
    }

    fn is_outdated(&self) -> bool {
        self.catalogue
            .is_outdated(&self.state.quarantine().unwrap())
    }

    /// Requires that something has changed; returns why the only plugin is refused when it is read again, nothing if it is
    /// not, and requires that it is not read a third time.
    #[track_caller]
    fn read_once(&mut self) -> &'static str {
        assert!(self.is_outdated());
        self.read();
        assert!(!self.is_outdated());
        // The clock of files ticks a few times in that time.
        std::thread::sleep(std::time::Duration::from_millis(20));
        match (&self.catalogue.plugins[..], &self.catalogue.refused[..]) {
            ([_], []) => "",
            ([], [refused, ..]) => refused.reason.code(),
            ([], []) => "gone",
            _ => panic!("{:?}", self.catalogue),
        }
    }
}

#[test]
fn what_was_quarantined_is_read_again_once_a_change() {
    let dir = dir();
    let path = install(HOSTILE, &dir.path, "x.so");
    let info = PluginFile::inspect(&path, &Policy::default()).unwrap();
    let mut kept = Kept {
        state: StateDir::open(dir.path.join("../state")).unwrap(),
        dir: dir.path.clone(),
        catalogue: Catalogue::default(),
    };
    kept.read();
    kept.state.quarantine_add(&info, "did not return").unwrap();
    assert!(!kept.is_outdated());
    // What takes its place is refused, whyever, and mended in a way of its own.
    let put_anew = || {
        // Another file for sure: its number is not used again.
        std::fs::rename(install(HOSTILE, &dir.path, "x.new"), &path).unwrap();
        path.clone()
    };
    chmod(&put_anew(), 0o646);
    assert_eq!(kept.read_once(), "writable");
    put_anew();
    assert_eq!(kept.read_once(), "");
    truncate(&put_anew(), 50);
    assert_eq!(kept.read_once(), "truncated");
    patch_major(&put_anew(), 77);
    assert_eq!(kept.read_once(), "other_major");
    put_anew();
    let other = install(HOSTILE, &dir.path, "y.so");
    assert_eq!(kept.read_once(), "duplicate_name");
    std::fs::remove_file(other).unwrap();
    assert_eq!(kept.read_once(), "");
    // What is well is not read again for what comes beside it.
    put(&dir.path, "note", b"");
    assert!(!kept.is_outdated());
    std::fs::remove_file(dir.path.join("note")).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(kept.read_once(), "gone");
    install(HOSTILE, &dir.path, "x.so");
    assert_eq!(kept.read_once(), "");
    // A directory that others may write to is none.
    chmod(&dir.path, 0o757);
    put_anew();
    assert_eq!(kept.read_once(), "writable");
    chmod(&dir.path, 0o755);
    assert_eq!(kept.read_once(), "");
}

#[test]
fn deaths_by_others_are_counted_per_step_and_time() {
    let dir = dir();
    let state = StateDir::open(dir.path.join("../state")).unwrap();
    let path = install(HOSTILE, &dir.path, "x.so");
    let info = PluginFile::inspect(&path, &Policy::default()).unwrap();
    let long = Duration::from_secs(3600);
    let count = |doing, apart| state.quarantine_suspect(&info, doing, apart).unwrap();
    assert_eq!(count("loaded", long), 1);
    // Those at the same time have the same reason, and do not make it later.
    assert_eq!(count("loaded", long), 1);
    assert_eq!(count("scanned", long), 1);
    let at = |last: fn(u64) -> u64| {
        let change = |q: &mut Quarantine| {
            q.suspects.iter_mut().for_each(|s| s.last = last(s.last));
            (true, ())
        };
        state.update("quarantine.json", change).unwrap();
    };
    at(|last| last - 3599);
    assert_eq!(count("loaded", long), 1);
    at(|last| last - 1);
    assert_eq!(count("loaded", long), 2);
    // A clock that was set back is not waited for.
    at(|last| last + 100_000);
    assert_eq!(count("loaded", long), 3);
    assert_eq!(count("loaded", Duration::ZERO), 4);
    // Of other plugins nothing is forgotten.
    assert_eq!(state.quarantine_reset("another").unwrap(), 0);
    assert_eq!(state.quarantine().unwrap().suspects.len(), 2);
    assert_eq!(state.quarantine_reset(HOSTILE).unwrap(), 0);
    assert!(state.quarantine().unwrap().suspects.is_empty());
}

#[test]
fn manifest_of_an_untrusted_file_can_be_shown() {
    let dir = dir();
    let path = install(HOSTILE, &dir.path, "x.so");
    chmod(&path, 0o666);
    assert_eq!(PluginFile::read_manifest(&path).unwrap().name(), HOSTILE);
    refusal(&path);
}

#[test]
fn origin_survives_the_way_to_a_helper() {
    let dir = dir();
    let path = install(HOSTILE, &dir.path, "x.so");
    let info = PluginFile::inspect(&path, &Policy::default()).unwrap();
    let text = serde_json::to_string(&info).unwrap();
    assert_eq!(
        serde_json::from_str::<daos_loader::PluginInfo>(&text).unwrap(),
        info
    );
    assert!(matches!(info.origin, Origin::File { .. }));
    assert_eq!(Trust::current(), Policy::default().trust);
}
