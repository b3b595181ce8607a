use super::*;
use daos_loader::{FileIdentity, Origin};

#[test]
fn a_file_that_left_quarantine_and_is_refused_is_read_once_and_by_one() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().canonicalize().unwrap();
    let dir = root.join("plugins");
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("x.so");
    let put = |text: &str| {
        let new = root.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    put("no plugin");
    let mut config = Config::default();
    config.plugins_dir = Some(dir.clone());
    config.state_dir = Some(root.join("state"));
    let plugins = Plugins::open(&config, Path::new("/nowhere/bin/x")).unwrap();
    // Of the file that was there before that one.
    let mut info = plugins.usable()[0].clone();
    info.origin = Origin::File {
        path: path.clone(),
        identity: FileIdentity {
            device: 0,
            inode: 0,
            size: 0,
            modified_ns: 0,
            changed_ns: 0,
        },
    };
    plugins
        .state
        .quarantine_add(&info, "did not return")
        .unwrap();
    let first = plugins.catalogue();
    assert_eq!(first.refused.len(), 1);
    assert!(Arc::ptr_eq(&first, &plugins.catalogue()));

    for round in 0..5 {
        let before = plugins.catalogue();
        put(&format!("no plugin either {round}"));
        let all: Vec<_> = std::thread::scope(|scope| {
            let look = || scope.spawn(|| plugins.catalogue());
            let looks: Vec<_> = (0..8).map(|_| look()).collect();
            looks.into_iter().map(|l| l.join().unwrap()).collect()
        });
        assert!(!Arc::ptr_eq(&before, &all[0]));
        assert!(all.iter().all(|one| Arc::ptr_eq(one, &all[0])));
    }
}
