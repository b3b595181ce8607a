//! The control plane with certificates: who gets in, who does not, and what both are told.

mod rig;

use crate::telemetry::{scrape, value};
use daos_certs::{Authority, Identity, Role, Validity, client_config};
use daos_e2e::{Finished, Port, Site, eventually};
use rig::{Anyone, authority, call, channel, component, issue, knock};
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Code;

/// A node with one engine, and certificates.
fn secured() -> Site {
    let mut site = Site::with_file();
    site.use_certificates();
    site
}

/// Runs `daos_shell` with the certificates of a directory.
fn shell_with(site: &Site, dir: &Path) -> Finished {
    let dir = dir.display().to_string();
    let args = ["--cert-dir", &dir, "-l", &site.address(), "system", "query"];
    site.run("daos_shell", &args)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

#[test]
fn a_whole_system_works_with_certificates() {
    let site = secured();
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    let done = site
        .daos(&["bench", "--seconds", "1", "--verify"])
        .expect(0);
    assert!(done.stdout.contains("verified"), "{done}");
    let log = server.log();
    assert!(
        log.contains(&format!("listening on 0.0.0.0:{}", site.port())),
        "{log}"
    );
    assert!(!log.contains("TLS is off"), "{log}");
    server.stop();
}

#[test]
fn plain_text_and_tls_do_not_talk_and_both_say_so() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let own = Authority::new(Validity::days(1)).expect("random numbers");
    issue(&own, &site.path("own"), Role::Admin, "admin", (-1, 1));
    let shell = shell_with(&site, &site.path("own")).expect(1);
    for words in ["does not speak TLS", "-i"] {
        assert!(shell.stderr.contains(words), "{shell}");
    }
    server.stop();

    let site = secured();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let args = ["-i", "-l", &site.address(), "system", "query"];
    let shell = site.run("daos_shell", &args).expect(1);
    assert!(shell.stderr.contains("without -i"), "{shell}");
    let client = site.run("daos", &["-a", &site.address(), "container", "list"]);
    assert!(client.expect(1).stderr.contains("--cert-dir"));
    server.stop();
}

#[test]
fn a_server_without_certificates_says_how_to_make_them() {
    let site = secured();
    let certs = site.path("certs");
    let other = Authority::new(Validity::days(1)).expect("random numbers");
    let ours = authority(&certs);
    let good = site.config_text();
    let bad = |dir: &str| {
        good.replace(
            &certs.display().to_string(),
            &site.path(dir).display().to_string(),
        )
    };
    issue(
        &ours,
        &site.path("expired"),
        Role::Server,
        "server",
        (-2, -1),
    );
    issue(&ours, &site.path("early"), Role::Server, "server", (1, 2));
    issue(&ours, &site.path("role"), Role::Server, "admin", (-1, 1));
    issue(
        &other,
        &site.path("foreign"),
        Role::Server,
        "server",
        (-1, 1),
    );
    std::fs::copy(certs.join("daosCA.crt"), site.path("foreign/daosCA.crt")).expect("a copy");
    issue(&ours, &site.path("wide"), Role::Server, "server", (-1, 1));
    let wide = site.path("wide/server.key");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    std::fs::set_permissions(&wide, mode).expect("our file");
    for (dir, words) in [
        (
            "nowhere",
            &["daosCA.crt", "no such file", "cert init", "-i"][..],
        ),
        ("expired", &["server.crt", "has expired on", "cert issue"]),
        ("early", &["server.crt", "is not valid before", "clock"]),
        ("role", &["server.crt", "\"admin\"", "\"server\" is wanted"]),
        ("foreign", &["server.crt", "another authority signed it"]),
        ("wide", &["server.key", "0444", "chmod 0400"]),
    ] {
        site.write_text(&bad(dir));
        let start = site
            .run("daos_server", &["-o", "daos_server.yml", "start"])
            .expect(1);
        for word in words {
            assert!(start.stderr.contains(word), "{dir}: {word:?} in {start}");
        }
        assert!(!site.path("state").join("quarantine").exists(), "{dir}");
    }
}

#[test]
fn an_administrator_with_a_wrong_certificate_is_told_which() {
    let site = secured();
    let certs = site.path("certs");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let ours = authority(&certs);
    let other = Authority::new(Validity::days(1)).expect("random numbers");
    issue(&ours, &site.path("expired"), Role::Admin, "admin", (-2, -1));
    issue(&ours, &site.path("early"), Role::Admin, "admin", (1, 2));
    issue(&ours, &site.path("role"), Role::Admin, "agent", (-1, 1));
    issue(&other, &site.path("foreign"), Role::Admin, "admin", (-1, 1));
    for (dir, words) in [
        ("nowhere", "no such file"),
        ("expired", "has expired on"),
        ("early", "is not valid before"),
        ("role", "is the certificate of \"agent\""),
        // Nothing is wrong with the files: that the server has another authority comes out on the way.
        ("foreign", "another authority signed it"),
    ] {
        let shell = shell_with(&site, &site.path(dir)).expect(1);
        assert!(shell.stderr.contains(words), "{dir}: {shell}");
    }
    shell_with(&site, &certs).expect(0);

    // Whoever does not look at its own files is refused by the server, with the reason in its log.
    let files = issue(&other, &site.path("mallory"), Role::Admin, "admin", (-1, 1));
    let identity = Identity::load(&files, Role::Admin, "admin").expect("as made");
    let mut trusting = (*client_config(&identity, "server").expect("as made")).clone();
    let real = component(&certs, Role::Admin);
    trusting
        .dangerous()
        .set_certificate_verifier(Arc::new(Anyone(real)));
    let refused = block_on(async {
        let channel = channel(&site, Arc::new(trusting)).await?;
        call(channel, "/daos_host.v1.HostSvc/ServerState", "admin")
            .await
            .map_err(|status| status.to_string())
    });
    assert!(refused.is_err(), "a stranger was let in");
    eventually("the refusal is in the log", || {
        server
            .log()
            .contains("connection from 127.0.0.1")
            .then_some(())
    });
    server.stop();
}

/// Every method of that control plane and of our own services, and some that nobody has.
fn methods() -> impl Iterator<Item = &'static str> {
    let known = daos_proto::methods::METHODS.iter().map(|m| m.path);
    let own = daos_proto::methods::SERVED.iter().copied();
    let own = own.filter(|path| daos_proto::methods::find(path).is_none());
    known.chain(own).chain([
        "/ctl.CtlSvc/Nonsense",
        "/daos_host.v1.HostSvc/Nonsense",
        "/RaftTransport/RequestVote",
    ])
}

#[test]
fn every_component_may_call_its_own_methods_and_no_other() {
    let port = Port::reserve();
    let mut site = secured();
    site.add_config(&format!("telemetry_port: {}\n", port.number()));
    let certs = site.path("certs");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let mut tried = 0;
    block_on(async {
        for role in Role::ALL {
            let channel = channel(&site, component(&certs, role))
                .await
                .expect("a connection");
            for method in methods() {
                let allowed = daos_proto::methods::callers(method).contains(&role.name());
                let status = knock(channel.clone(), method, role.name())
                    .await
                    .expect_err("a request that nobody understands");
                tried += 1;
                assert_eq!(
                    status.code() != Code::PermissionDenied,
                    allowed,
                    "{role} calls {method}: {status}"
                );
                let words = format!("{role} does not have permission to call {method}");
                assert_eq!(status.message().contains(&words), !allowed, "{status}");
            }
            let refused = call(channel, "/daos_host.v1.HostSvc/ServerState", "client").await;
            let status = refused.expect_err("a component that it is not");
            assert!(status.message().contains("component mismatch"), "{status}");
        }
    });
    assert!(tried > 3 * (67 + 10), "{tried}");
    // Nobody has changed anything.
    server.wait_phase("maintenance");
    let plain = ["-i", "-l", &site.address(), "system", "query"];
    site.run("daos_shell", &plain).expect(1);
    let text = scrape(port.number());
    let refused = |method: &str, reason: &str| {
        let labels = [
            format!("method=\"{method}\""),
            format!("reason=\"{reason}\""),
        ];
        let labels = labels.each_ref().map(String::as_str);
        value(&text, "daos_grpc_refused_calls_total", &labels)
    };
    assert_eq!(refused("ctl.CtlSvc/StorageScan", "role"), 2.0);
    assert_eq!(refused("mgmt.MgmtSvc/GetAttachInfo", "role"), 2.0);
    assert_eq!(refused("daos_host.v1.HostSvc/Stop", "role"), 2.0);
    assert_eq!(refused("unknown", "role"), 3.0 * 3.0);
    assert_eq!(
        refused("daos_host.v1.HostSvc/ServerState", "component"),
        3.0
    );
    assert_eq!(refused("mgmt.MgmtSvc/SystemDrain", "unsupported"), 1.0);
    assert!(value(&text, "daos_grpc_failed_handshakes_total", &[]) >= 1.0);
    server.stop();
}

#[test]
fn certificates_are_replaced_without_a_restart() {
    let site = secured();
    let certs = site.path("certs");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let dir = certs.display().to_string();
    // One that is no good leaves the one before in use.
    let key = certs.join("server.key");
    let kept = site.path("kept.key");
    std::fs::rename(&key, &kept).expect("our file");
    shell_with(&site, &certs).expect(0);
    assert!(server.log().contains("are not used, the ones before are"));
    std::fs::rename(&kept, &key).expect("our file");

    // A call on a connection from before goes on; new connections see the new certificate.
    let args = ["cert", "issue", "server", "--ca-dir", &dir, "--days", "7"];
    let refused = site.run("daos_server", &args).expect(1);
    assert!(refused.stderr.contains("--replace"), "{refused}");
    block_on(async {
        let channel = channel(&site, component(&certs, Role::Admin))
            .await
            .expect("a connection");
        let done = site.run("daos_server", &[&args[..], &["--replace"]].concat());
        done.expect(0);
        shell_with(&site, &certs).expect(0);
        let called = call(channel, "/daos_host.v1.HostSvc/ServerState", "admin").await;
        assert!(called.is_ok(), "{called:?}");
    });
    let log = server.log();
    assert!(
        log.contains("new certificates of this server are in use"),
        "{log}"
    );

    // A whole new authority: who has the old one is a stranger from then on.
    let old = site.path("old");
    std::fs::rename(&certs, &old).expect("our directory");
    site.run("daos_server", &["cert", "init", "--dir", &dir])
        .expect(0);
    shell_with(&site, &certs).expect(0);
    let shell = shell_with(&site, &old).expect(1);
    assert!(
        shell.stderr.contains("another authority signed it"),
        "{shell}"
    );
    server.stop();
}

#[test]
fn the_files_of_the_configuration_are_the_server_s() {
    let site = secured();
    let certs = site.path("certs");
    let elsewhere = site.make_dir("elsewhere");
    for (from, to) in [
        ("daosCA.crt", "ca"),
        ("server.crt", "cert"),
        ("server.key", "key"),
    ] {
        std::fs::rename(certs.join(from), elsewhere.join(to)).expect("our file");
    }
    let mut text = site.config_text();
    for (from, to) in [
        ("daosCA.crt", "ca"),
        ("server.crt", "cert"),
        ("server.key", "key"),
    ] {
        let (from, to) = (certs.join(from), elsewhere.join(to));
        text = text.replace(&from.display().to_string(), &to.display().to_string());
    }
    site.write_text(&text);
    let mut server = site.start_with(&["-o", "daos_server.yml", "start"]);
    std::fs::copy(elsewhere.join("ca"), certs.join("daosCA.crt")).expect("a copy");
    server.wait_phase("maintenance");
    shell_with(&site, &certs).expect(0);
    server.stop();
}

#[test]
fn servers_may_have_another_name() {
    let site = secured();
    let certs = site.path("certs");
    let dir = certs.display().to_string();
    let args = [
        "cert",
        "issue",
        "server",
        "--replace",
        "--server-name",
        "tank",
    ];
    site.run("daos_server", &[&args[..], &["--ca-dir", &dir]].concat())
        .expect(0);
    let text = site.config_text();
    site.write_text(&text);
    let start = site
        .run("daos_server", &["-o", "daos_server.yml", "start"])
        .expect(1);
    assert!(start.stderr.contains("\"tank\""), "{start}");
    site.write_text(&text.replace("ca_cert:", "server_name: tank, ca_cert:"));
    let mut server = site.start_with(&["-o", "daos_server.yml", "start"]);
    let control = |server_name: &str| {
        let name = site.path("daos_control.yml");
        let text = format!(
            "hostlist: ['{}']\ntransport_config:\n  ca_cert: {dir}/daosCA.crt\n  cert: {dir}/admin.crt\n  key: \
             {dir}/admin.key\n  server_name: {server_name}\n",
            site.address()
        );
        std::fs::write(&name, text).expect("a file");
        site.run("daos_shell", &["-o", "daos_control.yml", "system", "query"])
    };
    eventually("the server answers", || {
        (control("tank").code == Some(0)).then_some(())
    });
    let refused = control("server").expect(1);
    assert!(refused.stderr.contains("\"tank\""), "{refused}");
    server.terminate();
    server.wait();
}

#[test]
fn a_wrong_control_file_is_refused_with_line_and_key() {
    let site = Site::new();
    std::fs::write(site.path("c.yml"), "hostlist: [a]\nhost_list: [b]\n").expect("a file");
    let done = site
        .run("daos_shell", &["-o", "c.yml", "system", "query"])
        .expect(1);
    for word in ["c.yml", "host_list", "hostlist"] {
        assert!(done.stderr.contains(word), "{done}");
    }
    let done = site
        .run("daos_shell", &["-o", "none.yml", "system", "query"])
        .expect(1);
    assert!(done.stderr.contains("none.yml"), "{done}");
}

#[test]
fn clients_that_never_finish_a_handshake_hold_up_nobody() {
    let site = secured();
    let certs = site.path("certs");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let mut idle: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(("127.0.0.1", site.port())).expect("a connection"))
        .collect();
    shell_with(&site, &certs).expect(0);
    // They are sent away.
    let stream = idle.first_mut().expect("one");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a limit");
    let begin = Instant::now();
    assert_eq!(stream.read(&mut [0; 1]).expect("the end"), 0);
    assert!(
        begin.elapsed() > Duration::from_secs(1),
        "sent away at once"
    );
    server.stop();
}

#[test]
fn init_overwrites_nothing_and_show_finds_what_is_wrong() {
    let site = secured();
    let certs = site.path("certs");
    let dir = certs.display().to_string();
    let again = site
        .run("daos_server", &["cert", "init", "--dir", &dir])
        .expect(1);
    assert!(
        again.stderr.contains("daosCA.crt is there already"),
        "{again}"
    );
    let show = ["--json", "cert", "show", &dir];
    let shown = site.run("daos_server", &show).expect(0).json();
    let files = shown["response"].as_array().expect("files");
    assert_eq!(files.len(), 8, "{shown}");
    issue(
        &authority(&certs),
        &site.path("late"),
        Role::Admin,
        "admin",
        (-2, -1),
    );
    let late = site.path("late/admin.crt").display().to_string();
    let shown = site.run("daos_server", &["cert", "show", &late]).expect(1);
    for word in ["admin.crt", "DAOS CA", "has expired on"] {
        let text = format!("{}{}", shown.stdout, shown.stderr);
        assert!(text.contains(word), "{shown}");
    }
    let none = site
        .run("daos_server", &["cert", "show", "/nowhere"])
        .expect(1);
    assert!(none.stderr.contains("/nowhere"), "{none}");
}
