//! Engines whose configuration leaves provider or interface out.

use crate::config_effects::{assert_variables, ready};
use crate::data_path::namespaces::{Namespaces, Relay, ip, site_client};
use daos_e2e::{Bdev, Port, Server, Site, not_run};
use std::fs;

/// A site without provider and interface.
fn undecided() -> Site {
    let mut site = Site::with_file();
    site.choose_fabric();
    site
}

/// Lines of the log that say what an engine uses.
fn reasons(server: &Server<'_>) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter(|l| l.contains("fabric of the engine"));
    lines.map(str::to_owned).collect()
}

fn variable(server: &Server<'_>, index: usize, name: &str) -> String {
    let path = format!("/proc/{}/environ", server.engine_pid(index));
    let text = fs::read_to_string(path).expect("a running engine");
    let start = format!("{name}=");
    let found = text.split('\0').find_map(|v| v.strip_prefix(&start));
    found.unwrap_or_default().to_owned()
}

/// Runs everything of the site in the server's namespace, with that namespace's view of sysfs.
fn move_to(site: &mut Site, spaces: &Namespaces) {
    site.set_wrapper(&["ip", "netns", "exec", &spaces.server]);
}

#[test]
fn what_the_file_leaves_out_is_chosen_and_works() {
    let site = undecided();
    let server = ready(&site, &site.config_text());
    let (provider, interface) = (
        variable(&server, 0, "D_PROVIDER"),
        variable(&server, 0, "D_INTERFACE"),
    );
    assert_eq!(provider, "tcp", "no other plugin is there");
    let state = fs::read_to_string(format!("/sys/class/net/{interface}/operstate"));
    assert_ne!(state.expect("an interface").trim(), "down", "{interface}");
    let logged = reasons(&server).join("\n");
    assert!(logged.contains(&interface), "{logged}");
    assert!(
        logged.contains("no Omni-Path, InfiniBand or RoCE"),
        "{logged}"
    );
    site.ensure_pool();
    site.daos(&["bench", "--verify", "--seconds", "1"])
        .expect(0);
    // The choice is made again for each start.
    let before = reasons(&server).len();
    server.stop();
    let mut server = site.start();
    server.wait_phase("ready");
    assert!(reasons(&server).len() > before);
    server.stop();
}

#[test]
fn libfabrics_tcp_is_chosen_where_its_plugin_is() {
    let mut site = Site::with_file();
    if let Err(why) = site.use_ofi("ofi+tcp;ofi_rxm") {
        return not_run("libfabrics_tcp_is_chosen_where_its_plugin_is", &why);
    }
    site.choose_fabric();
    let server = ready(&site, &site.config_text());
    assert_variables(&server, 0, &["D_PROVIDER=ofi+tcp"]);
    site.ensure_pool();
    site.daos(&["bench", "--verify", "--seconds", "1"])
        .expect(0);
    server.stop();
}

#[test]
fn an_interface_that_is_down_is_passed_over() {
    let test = "an_interface_that_is_down_is_passed_over";
    let spaces = match Namespaces::without_cable() {
        Ok(spaces) => spaces,
        Err(reason) => return not_run(test, &reason),
    };
    // The first one, which would be taken.
    spaces.cable(1).expect("a cable");
    spaces.cable(0).expect("a cable");
    ip(&format!("-n {} link set daos2 down", spaces.server)).expect("root may");
    let mut site = undecided();
    move_to(&mut site, &spaces);
    let mut server = site.start();
    server.make_ready();
    assert_variables(&server, 0, &["D_PROVIDER=tcp", "D_INTERFACE=daos0"]);
    site.ensure_pool();
    let relay = Relay::start(&spaces, site.port());
    site_client(
        &site,
        &format!("--net=/run/netns/{}", spaces.client),
        &["bench", "--verify", "--seconds", "1"],
    );
    drop(relay);
    // With it up, it is the first again.
    ip(&format!("-n {} link set daos2 up", spaces.server)).expect("root may");
    daos_e2e::eventually("the cable is plugged in", || {
        let shown = ip(&format!("-n {} link show daos2", spaces.server));
        shown.is_ok_and(|t| t.contains("state UP")).then_some(())
    });
    site.shell(&["system", "stop"]).expect(0);
    site.shell(&["system", "start"]).expect(0);
    server.wait_phase("ready");
    assert_variables(&server, 0, &["D_INTERFACE=daos2"]);
    server.stop();
}

#[test]
fn with_nothing_else_up_insecure_mode_takes_the_loopback() {
    let test = "with_nothing_else_up_insecure_mode_takes_the_loopback";
    let spaces = match Namespaces::without_cable() {
        Ok(spaces) => spaces,
        Err(reason) => return not_run(test, &reason),
    };
    let mut site = undecided();
    move_to(&mut site, &spaces);
    let mut server = site.start();
    server.make_ready();
    assert_variables(&server, 0, &["D_INTERFACE=lo"]);
    let logged = reasons(&server).join("\n");
    assert!(logged.contains("this machine only"), "{logged}");
    server.stop();
}

#[test]
fn each_engine_gets_its_interface_of_the_list() {
    let test = "each_engine_gets_its_interface_of_the_list";
    let spaces = match Namespaces::new() {
        Ok(spaces) => spaces,
        Err(reason) => return not_run(test, &reason),
    };
    spaces.cable(1).expect("a cable");
    let mut site = undecided();
    let bdev = Bdev::File(site.path("bdev1"));
    site.add_engine(bdev, 1);
    move_to(&mut site, &spaces);
    let text = format!("fabric_ifaces: [daos2, daos0]\n{}", site.config_text());
    let server = ready(&site, &text);
    assert_variables(&server, 0, &["D_PROVIDER=tcp", "D_INTERFACE=daos2"]);
    assert_variables(&server, 1, &["D_PROVIDER=tcp", "D_INTERFACE=daos0"]);
    let logged = reasons(&server).join("\n");
    assert!(logged.contains("best provider for daos2"), "{logged}");
    server.stop();
}

#[test]
fn engines_that_would_meet_on_a_port_are_refused_before_a_format() {
    let site = undecided();
    let bdev = Bdev::File(site.path("bdev1"));
    site.add_engine(bdev, 1);
    let port = Port::reserve();
    let number = port.number();
    let text = format!("fabric_iface_port: {number}\n{}", site.config_text());
    site.write_text(&text);
    let mut server = site.start_with(crate::config_effects::START);
    server.wait_phase("maintenance");
    let refused = server.format(&[]);
    assert_ne!(refused.code, Some(0), "{refused}");
    let all = format!("{}{}", refused.stdout, refused.stderr);
    assert!(all.contains("fabric_iface_port"), "{refused}");
    assert!(all.contains("a port of its own"), "{refused}");
    assert!(!site.scm(0).join("superblock").exists());
    server.stop();
    // Without it, each gets one that is free.
    let server = ready(&site, &site.config_text());
    let state = site.state().expect("the server answers");
    let uri = |n: usize| state["engines"][n]["uri"].as_str().unwrap_or("").to_owned();
    assert!(!uri(0).is_empty());
    assert_ne!(uri(0), uri(1));
    server.stop();
}
