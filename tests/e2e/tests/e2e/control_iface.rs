//! `control_iface`: where the control plane listens.

use crate::telemetry::scrape_at;
use daos_e2e::{Finished, Port, Site, eventually, not_run};
use nix::ifaddrs::getifaddrs;
use std::net::{Ipv4Addr, TcpStream};

/// An interface that is not the loopback, with its first address.
fn another() -> Option<(String, Ipv4Addr)> {
    let mut all = getifaddrs().expect("the kernel lists them");
    all.find_map(|entry| {
        let ip = entry.address?.as_sockaddr_in()?.ip();
        (!ip.is_loopback()).then_some((entry.interface_name, ip))
    })
}

#[test]
fn the_control_plane_listens_where_it_is_told() {
    let name = "the_control_plane_listens_where_it_is_told";
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

    let Some((interface, ip)) = another() else {
        return not_run(name, "there is no interface but the loopback");
    };
    let mut site = Site::with_file();
    let metrics = Port::reserve();
    site.add_config(&format!(
        "control_iface: {interface}\ntelemetry_port: {}\n",
        metrics.number()
    ));
    let server = site.start();
    let address = format!("{ip}:{}", site.port());
    let shell = |args: &[&str]| -> Finished {
        site.run("daos_shell", &[&["-i", "-l", &address], args].concat())
    };
    eventually("it answers there", || {
        (shell(&["system", "query"]).code == Some(0)).then_some(())
    });
    assert!(
        TcpStream::connect(site.address()).is_err(),
        "and nowhere else"
    );
    let warned = format!("whoever reaches {address} may administer it");
    assert!(server.log().contains(&warned), "{}", server.log());
    let text = scrape_at((ip, metrics.number()).into());
    assert!(text.contains("daos_engine_ready"), "{text}");
    assert!(TcpStream::connect(("127.0.0.1", metrics.number())).is_err());
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
