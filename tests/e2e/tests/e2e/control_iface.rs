//! `control_iface`: where the control plane listens.

use crate::data_path::namespaces::{Namespaces, within};
use crate::telemetry::scrape_at;
use daos_e2e::{Finished, Port, Site, eventually, not_run};
use std::net::{Ipv4Addr, TcpStream};

/// The server's end of the cable, see [`Namespaces::new`].
const INTERFACE: (&str, Ipv4Addr) = ("daos0", Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn an_interface_that_is_not_there_is_refused_and_the_loopback_is_one() {
    let mut site = Site::with_file();
    site.add_config("control_iface: no-such-one\n");
    site.write_config();
    let start = ["-o", "daos_server.yml", "start", "-i"];
    let refused = site.run("daos_server", &start).expect(1);
    assert!(
        refused.stderr.contains("control_iface no-such-one") && refused.stderr.contains(" lo"),
        "{refused}"
    );

    let mut site = Site::with_file();
    site.add_config("control_iface: lo\n");
    let mut server = site.start();
    server.make_ready();
    assert!(
        server.log().contains("every local user"),
        "{}",
        server.log()
    );
    server.stop();
}

/// In a network of its own: whoever reaches this server may administer it.
#[test]
fn the_control_plane_listens_where_it_is_told() {
    let spaces = match Namespaces::new() {
        Ok(spaces) => spaces,
        Err(reason) => return not_run("the_control_plane_listens_where_it_is_told", &reason),
    };
    let (interface, ip) = INTERFACE;
    let mut site = Site::with_file();
    let metrics = Port::reserve();
    site.add_config(&format!(
        "control_iface: {interface}\ntelemetry_port: {}\n",
        metrics.number()
    ));
    site.set_wrapper(&["nsenter", &format!("--net=/run/netns/{}", spaces.server)]);
    let server = site.start();
    let address = format!("{ip}:{}", site.port());
    let shell = |args: &[&str]| -> Finished {
        site.run("daos_shell", &[&["-i", "-l", &address], args].concat())
    };
    eventually("it answers there", || {
        (shell(&["system", "query"]).code == Some(0)).then_some(())
    });
    let warned = format!("whoever reaches {address} may administer it");
    assert!(server.log().contains(&warned), "{}", server.log());
    let ports = [site.port(), metrics.number()];
    within(&spaces.server, || {
        let text = scrape_at((ip, ports[1]).into());
        assert!(text.contains("daos_engine_ready"), "{text}");
        for port in ports {
            let elsewhere = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            assert!(elsewhere.is_err(), "port {port}");
        }
    });
    // That is how others reach it, too.
    within(&spaces.client, || {
        for port in ports {
            TcpStream::connect((ip, port)).expect("the cable leads there");
        }
    });
    // The system works by that address: the engine joins, and is found.
    shell(&["storage", "format", "--force"]).expect(0);
    eventually("the engine has joined", || {
        let told = shell(&["--json", "system", "query", "--members"]).json();
        let member = &told["response"]["members"][0];
        (member["state"] == "joined" && member["address"] == address.as_str()).then_some(())
    });
    shell(&["pool", "create", "tank", "--size", "50%"]).expect(0);
    server.stop();
}
