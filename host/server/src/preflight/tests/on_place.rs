use super::*;

#[test]
fn users_and_groups_are_there_or_not() {
    let (_dir, mut node) = machine(&[]);
    let found = |node: &Node, text: &str| place::users(node, &config(text));
    assert_found(&found(&node, "")[0], Good, "daos (1000:1000)");
    let both = found(&node, "user_name: daos\ngroup_name: daos\n");
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|f| f.state == Good), "{both:?}");
    let missing = found(&node, "user_name: nemo\ngroup_name: none\n");
    assert_found(&missing[0], Fail, "useradd");
    assert_found(&missing[1], Fail, "groupadd");
    node.euid = 7;
    assert_found(&found(&node, "")[0], Warn, "user 7 has no name");
    node.euid = 0;
    assert_found(&found(&node, "")[0], Warn, "engines run as root");
}

#[test]
fn a_missing_directory_is_found_and_made() {
    let (dir, mut node) = machine(&[("/state/x", ""), ("/var/x", "")]);
    let config = config("socket_dir: /var/deep/daos\n");
    me(&mut node);
    let state = Some(Path::new("/state"));
    let found = place::directories(&node, &config, state);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_found(&found[0], Fail, "mkdir -p /var/deep/daos");
    let done = mend(&node, &found, |note| panic!("{note}"));
    assert!(
        done["directories"][0].starts_with("make /var/deep/daos"),
        "{done:?}"
    );
    let found = place::directories(&node, &config, state);
    assert!(found.iter().all(|f| f.state == Good), "{found:?}");
    // Everybody could replace its sockets.
    mode(&dir, "var/deep/daos", 0o777);
    let found = place::directories(&node, &config, state);
    assert_found(&found[0], Warn, "chmod 0755");
    mend(&node, &found, |note| panic!("{note}"));
    assert_eq!(place::directories(&node, &config, state)[0].state, Good);
    // Another user can do none of it, and is told so before anything is done.
    fs::remove_dir(dir.path().join("var/deep/daos")).unwrap();
    mode(&dir, "var/deep", 0o755);
    node.euid = node.euid.wrapping_add(4711);
    node.egid = node.egid.wrapping_add(4711);
    let found = place::directories(&node, &config, state);
    let mut told = String::new();
    let done = mend(&node, &found, |note| told = note.to_owned());
    assert!(
        done.is_empty() && told.contains("sudo daos_server preflight --fix"),
        "{told}"
    );
    assert!(told.contains("make /var/deep/daos"), "{told}");
    assert!(!dir.path().join("var/deep/daos").exists());
}

#[test]
fn a_directory_that_cannot_be_used_is_told() {
    let (dir, mut node) = machine(&[("/sockets/x", ""), ("/file", ""), ("/state/x", "")]);
    let at = |node: &Node, text: &str| {
        place::directories(node, &config(text), Some(Path::new("/state")))
    };
    me(&mut node);
    assert_found(&at(&node, "socket_dir: /file\n")[0], Fail, "no directory");
    std::os::unix::fs::symlink("/nowhere", dir.path().join("link")).unwrap();
    assert_found(
        &at(&node, "socket_dir: /link\n")[0],
        Fail,
        "a link to nothing",
    );
    assert_found(
        &at(&node, "socket_dir: /new\n")[0],
        Good,
        "the server makes it",
    );
    assert_found(
        at(&node, "socket_dir: /sockets\ncontrol_log_file: /none/log\n")
            .last()
            .unwrap(),
        Fail,
        "/none is not there",
    );
    mode(&dir, "sockets", 0o755);
    mode(&dir, "state", 0o755);
    node.euid = node.euid.wrapping_add(4711);
    node.egid = node.egid.wrapping_add(4711);
    let found = at(&node, "socket_dir: /sockets\n");
    assert_found(&found[0], Fail, "chown");
    assert_found(&found[1], Fail, "state_dir /state");
    assert!(
        place::directories(&node, &config(""), None)
            .iter()
            .any(|f| f.found.contains("no home"))
    );
}

#[test]
fn a_directory_in_run_is_made_again_or_not() {
    let at = |files: &[(&str, &str)]| {
        let mut all = vec![("/run/daos_server/x", ""), ("/state/x", "")];
        all.extend_from_slice(files);
        // As an ordinary user.
        let (dir, node) = machine(&all);
        let config = config("socket_dir: /run/daos_server\n");
        mode(&dir, "run/daos_server", 0o777);
        let found = place::directories(&node, &config, Some(Path::new("/state")));
        let lost = found
            .into_iter()
            .find(|f| f.found.contains("after the next boot"));
        (dir, node, lost)
    };
    let (dir, node, lost) = at(&[("/etc/tmpfiles.d/other.conf", "d /run/other 0755 a b -\n")]);
    let lost = lost.unwrap();
    assert_found(&lost, Warn, "tmpfiles.d/daos_server.conf");
    lost.fix.unwrap().apply(&node).unwrap();
    let written = fs::read_to_string(dir.path().join("etc/tmpfiles.d/daos_server.conf")).unwrap();
    assert_eq!(written, "d /run/daos_server 0755 daos 1000 -\n");
    assert!(
        at(&[("/etc/tmpfiles.d/daos_server.conf", &written)])
            .2
            .is_none()
    );
    assert!(
        at(&[(
            "/usr/lib/tmpfiles.d/d.conf",
            "d /var/run/daos_server 0755 daos daos -\n"
        )])
        .2
        .is_none()
    );
    let unit = "[Service]\nRuntimeDirectory=daos_server\n";
    assert!(
        at(&[("/etc/systemd/system/daos_server.service", unit)])
            .2
            .is_none()
    );
    // A file of that name that says something else is the administrator's.
    let (_dir, _node, lost) = at(&[("/etc/tmpfiles.d/daos_server.conf", "# nothing\n")]);
    assert!(lost.unwrap().fix.is_none());
}

#[test]
fn privileges_follow_what_is_configured() {
    let at = |files: &[(&str, &str)], change: fn(&mut Node)| {
        let (dir, mut node) = machine(files);
        if dir.path().join("dev/sdx").exists() {
            mode(&dir, "dev/sdx", 0o600);
        }
        change(&mut node);
        place::privileges(&node, &config(RAM), &Wanted::default())
    };
    let disk = (
        "/proc/self/mountinfo",
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n",
    );
    let tmpfs = (
        "/proc/self/mountinfo",
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:31 / /mnt rw - tmpfs tmpfs rw\n",
    );
    let other = |node: &mut Node| {
        me(node);
        node.euid = node.euid.wrapping_add(4711);
        node.egid = node.egid.wrapping_add(4711);
    };
    assert_found(&at(&[disk], |_| ())[0], Fail, "/mnt/a, which lies on ext4");
    assert_found(&at(&[tmpfs], |_| ())[0], Good, "may use");
    assert_found(
        &at(&[disk, ("/proc/self/status", "CapEff:\t200000\n")], |_| ())[0],
        Good,
        "may use",
    );
    assert_found(&at(&[tmpfs, ("/dev/sdx", "")], other)[0], Fail, "/dev/sdx");
    assert_found(&at(&[disk], |node| node.euid = 0)[0], Good, "root");

    let (_dir, mut node) = machine(&[("/dev/vfio/vfio", "")]);
    let vfio = |node: &Node| place::privileges(node, &Config::default(), &nvme());
    me(&mut node);
    let own = vfio(&node);
    assert!(own.iter().all(|f| f.state < Fail), "{own:?}");
    let (dir, node) = machine(&[("/dev/vfio/vfio", "")]);
    mode(&dir, "dev/vfio/vfio", 0o600);
    match node.euid == nix::unistd::geteuid().as_raw() {
        true => {}
        false => assert_found(&vfio(&node)[0], Fail, "may not use /dev/vfio/vfio"),
    }
    let (_dir, node) = machine(&[]);
    assert_found(&vfio(&node)[0], Fail, "no /dev/vfio/vfio");
    assert_found(
        &place::privileges(&node, &Config::default(), &Wanted::default())[0],
        Warn,
        "not root",
    );
    let mut other = config("user_name: daos\n");
    let (_dir, mut node) = machine(&[]);
    node.euid = 7;
    assert_found(
        &place::privileges(&node, &other, &Wanted::default())[0],
        Fail,
        "only root can run",
    );
    other.user_name = None;
    assert_ne!(
        place::privileges(&node, &other, &Wanted::default())[0].state,
        Fail
    );
}

#[test]
fn ports_are_free_or_told_with_their_holder() {
    let table = "head\n 0: 00000000:2711 00000000:0000 0A 0:0 0:0 0 0 0 42 1\n 1: 00000000:2397 00000000:0000 0A 0:0 0:0 0 0 0 43 1\n";
    let config = config("telemetry_port: 9111\n");
    let (dir, node) = machine(&[("/proc/net/tcp", table), ("/proc/9/comm", "nginx\n")]);
    fs::create_dir(dir.path().join("proc/9/fd")).unwrap();
    let link = |name: &str, inode: u32| {
        let at = dir.path().join("proc/9/fd").join(name);
        std::os::unix::fs::symlink(format!("socket:[{inode}]"), at).unwrap();
    };
    link("3", 42);
    let found = place::ports(&node, &config);
    assert_found(&found[0], Fail, "port 10001 is taken by nginx (process 9)");
    // Metrics keep nothing from starting.
    assert_found(
        &found[1],
        Warn,
        "telemetry_port 9111 is taken by a process of another user",
    );
    fs::write(dir.path().join("proc/9/comm"), "daos_server\n").unwrap();
    assert_found(&place::ports(&node, &config)[0], Warn, "it runs already");
    let (_dir, node) = machine(&[]);
    assert_found(&place::ports(&node, &config)[0], Good, "free: 10001, 9111");
}

#[test]
fn the_interface_of_the_control_plane_is_looked_for() {
    let (_dir, node) = machine(&[]);
    let found = |name: &str| place::ports(&node, &config(&format!("control_iface: {name}\n")));
    let missing = found("no-such-one");
    assert_found(&missing[0], Good, "free: 10001");
    assert_found(&missing[1], Fail, "control_iface no-such-one");
    assert_eq!(missing.len(), 2);
    let there = found("lo");
    assert_found(&there[0], Good, "free: 10001");
    assert_eq!(there.len(), 1);
}
