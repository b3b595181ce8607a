//! Starting: one server per socket directory, TLS off only when asked for.

use crate::traces::assert_only_storage_is_left;
use daos_e2e::Site;

#[test]
fn a_second_server_is_refused_and_the_first_is_named() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let second = site
        .run("daos_server", &["-o", "daos_server.yml", "start", "-i"])
        .expect(1);
    let pid = server.pid().to_string();
    assert!(second.stderr.contains(&pid), "{pid} is missing in {second}");
    // Another port does not help: the sockets are what they share.
    let port = daos_e2e::Port::reserve().number().to_string();
    let third = site
        .run(
            "daos_server",
            &["-o", "daos_server.yml", "start", "-i", "-p", &port],
        )
        .expect(1);
    assert!(third.stderr.contains(&pid), "{pid} is missing in {third}");
    server.wait_phase("ready");
    server.stop();
    assert_only_storage_is_left(&site);
}

#[test]
fn a_port_in_use_is_named() {
    let site = Site::with_file();
    let taken = std::net::TcpListener::bind(("127.0.0.1", site.port())).expect("our port");
    site.write_config();
    let start = site
        .run("daos_server", &["-o", "daos_server.yml", "start", "-i"])
        .expect(1);
    let holder = format!("process {}", std::process::id());
    for word in [&site.address(), &holder, "-p"] {
        assert!(
            start.stderr.contains(word),
            "{word:?} is missing in {start}"
        );
    }
    drop(taken);
}

#[test]
fn plain_text_must_be_asked_for() {
    let site = Site::with_file();
    let text = site
        .config_text()
        .replace("allow_insecure: true", "allow_insecure: false");
    site.write_text(&text);
    let start = site
        .run("daos_server", &["-o", "daos_server.yml", "start"])
        .expect(1);
    assert!(start.stderr.contains("-i"), "{start}");
    let shell = site.run("daos_shell", &["-l", &site.address(), "system", "query"]);
    assert!(shell.expect(1).stderr.contains("-i"));
}

#[test]
fn start_is_the_command_when_there_is_none() {
    let site = Site::with_file();
    let text = site
        .config_text()
        .replace("allow_insecure: true", "allow_insecure: false");
    for args in [
        &["-o", "daos_server.yml", "-i"][..],
        &["-i", "-o", "daos_server.yml", "-i"],
        &["-o", "daos_server.yml", "-i", "start", "-i"],
    ] {
        site.write_text(&text);
        let mut server = site.start_with(args);
        server.wait_phase("maintenance");
        server.stop();
    }
}

#[test]
fn options_win_over_the_file() {
    let site = Site::with_file();
    let text = site
        .config_text()
        .replace(&format!("port: {}", site.port()), "port: 1");
    site.write_text(&text);
    let port = site.port().to_string();
    let mut server = site.start_with(&["-o", "daos_server.yml", "start", "-i", "-p", &port]);
    let state = server.wait_phase("maintenance");
    assert_eq!(state["control_addr"], site.address());
    let active = std::fs::read_to_string(site.path(".daos_server.active.yml"));
    let active = active.expect("the active configuration is beside the file");
    assert!(active.contains(&format!("port: {port}")), "{active}");
    let log = server.log();
    assert!(log.contains(".daos_server.active.yml"), "{log}");
    server.stop();
}
