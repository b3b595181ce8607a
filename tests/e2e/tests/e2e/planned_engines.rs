//! A server whose configuration names no engines plans them, shows the plan, and asks before it formats.

use crate::format_death::{STOP_AT, can_stop};
use daos_e2e::{
    Finished, LIMIT, Port, Running, Server, Site, User, eventually, finish_told, is_stopped,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::process::Stdio;

const START: &[&str] = &["-o", "daos_server.yml", "start", "-i"];

/// A node without `servers:`. Of the machine's own storage it is allowed nothing but memory: what a plan would take from a
/// machine is not the tests'.
fn site(user: User) -> (Site, Port) {
    let mut site = Site::of(user);
    // So that no other test stands in the way of the first port, or looks for it.
    let port = Port::reserve();
    let scm = site.memory_dir().join("scm");
    site.add_config(&format!(
        "scm_mount_path: '{}'\nfabric_iface_port: {}\nplugins: {{scm-ram: {{}}, fabric-tcp: {{}}, bdev-malloc: {{}}}}\n",
        scm.display(),
        port.number()
    ));
    site.write_config();
    (site, port)
}

fn hash(state: &Value) -> String {
    state["proposed"]["hash"]
        .as_str()
        .expect("a plan")
        .to_owned()
}

fn format(site: &Site, more: &[&str]) -> Finished {
    site.shell(&[&["storage", "format"], more].concat())
}

/// Answers the question of a format.
fn answer(site: &Site, words: &str) -> Finished {
    let mut command = site.command("daos_shell");
    command.args(["-i", "-l", &site.address(), "storage", "format"]);
    finish_told(command, words, LIMIT)
}

#[track_caller]
fn assert_nothing_is_formatted(site: &Site, server: &mut Server<'_>) {
    let state = server.wait_phase("maintenance");
    assert_eq!(state["proposed"]["accepted"], false, "{state:#}");
    assert!(!site.path("state/engines.yml").exists());
    assert!(!site.memory_dir().join("scm/0/superblock").exists());
}

#[test]
fn the_plan_is_shown_asked_about_and_kept() {
    for user in [User::Caller, User::Unprivileged] {
        let (site, _port) = site(user);
        let mut server = site.start_with(START);
        let state = server.wait_phase("maintenance");
        let plan = hash(&state);
        let reason = state["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains(&plan) && reason.contains("names no servers"),
            "{reason}"
        );
        let nodes = fs::read_dir("/sys/devices/system/node").map_or(0, |entries| {
            let name = |e: std::io::Result<fs::DirEntry>| e.ok()?.file_name().into_string().ok();
            entries
                .filter_map(name)
                .filter(|n| n.starts_with("node"))
                .count()
        });
        let engines = state["engines"].as_array().map_or(0, Vec::len);
        assert_eq!(engines, nodes.max(1), "{state:#}");
        assert!(
            server.log().contains("  scm_class: ram"),
            "the log shows the plan"
        );

        // Nobody agreed: not by force, not to another plan, not as tools of that control plane do it, not by a no.
        let refused = format(&site, &["-f"]).expect(1);
        assert!(
            refused.stderr.contains(&format!("--accept-plan {plan}")),
            "{refused}"
        );
        let refused = format(&site, &["-f", "--accept-plan", "0123456789abcdef"]).expect(1);
        assert!(refused.stderr.contains(&plan), "{refused}");
        let refused = as_that_control_plane(&site).expect_err("a refusal");
        assert!(refused.contains(&plan), "{refused}");
        let no = answer(&site, "no\n").expect(1);
        assert!(
            no.stdout.contains("servers:") && no.stdout.contains(&plan),
            "{no}"
        );
        assert_nothing_is_formatted(&site, &mut server);
        // Scripts find it here.
        let dry = site
            .shell(&["--json", "storage", "format", "--dry-run"])
            .expect(0)
            .json();
        let told = &dry["response"][site.address()]["proposed"];
        assert_eq!(told["hash"], plan.as_str(), "{dry:#}");
        assert!(
            told["yaml"]
                .as_str()
                .is_some_and(|y| y.contains("bdev_class: malloc")),
            "{dry:#}"
        );

        // The same machine, the same plan; also after a death.
        server.kill();
        drop(server);
        let mut server = site.start_with(START);
        assert_eq!(hash(&server.wait_phase("maintenance")), plan);
        let yes = answer(&site, "yes\n").expect(0);
        assert!(yes.stdout.contains("engine(s) started"), "{yes}");
        let state = server.wait_phase("ready");
        assert_eq!(state["proposed"]["accepted"], true);
        site.daos(&["query"]).expect(0);
        // Agreed to once, it counts until somebody writes another down.
        server.kill();
        drop(server);
        let mut server = site.start_with(START);
        let state = server.wait_state("started again", |s| {
            !s["engines"].as_array().is_some_and(Vec::is_empty)
        });
        assert_eq!(
            (hash(&state), &state["proposed"]["accepted"]),
            (plan.clone(), &Value::Bool(true))
        );
        // What malloc held has ended with its engine.
        format_again(&site, &mut server);
        let kept = fs::read_to_string(site.path("state/engines.yml")).expect("the plan");
        assert!(kept.starts_with("servers:"), "{kept}");
        server.stop();

        // A plan that is damaged keeps the server from starting with other engines than those on the storage.
        fs::write(site.path("state/engines.yml"), "servers: [").expect("our file");
        let refused = site.run("daos_server", START).expect(1);
        assert!(
            refused.stderr.contains("engines.yml") && refused.stderr.contains("remove the file"),
            "{refused}"
        );
    }
}

/// As `--reformat` does it, without an agreement: that was given before.
fn format_again(site: &Site, server: &mut Server<'_>) {
    server.wait_phase("maintenance");
    format(site, &["-f", "--reformat"]).expect(0);
    server.wait_phase("ready");
}

#[test]
fn an_agreement_on_the_command_line_is_enough() {
    let (site, _port) = site(User::Unprivileged);
    let mut server = site.start_with(START);
    let plan = hash(&server.wait_phase("maintenance"));
    format(&site, &["-f", "--accept-plan", &format!("ffff,{plan}")]).expect(0);
    server.wait_phase("ready");
    server.stop();
}

/// Steps between an agreement and the end of its format, in their order; the first two are of the plan's own file.
const STEPS: [&str; 8] = [
    "file-staged",
    "file-renamed",
    "scm-formatted",
    "scm-mounted",
    "bdev-formatted",
    "devices-listed",
    "file-renamed:2",
    "formatted",
];

/// What an agreement has become when the server dies during the format, or whoever asked for it leaves.
#[test]
fn an_agreement_counts_from_its_file_on_whatever_ends_the_format() {
    if !can_stop("an_agreement_counts_from_its_file_on_whatever_ends_the_format") {
        return;
    }
    for step in STEPS {
        for dies in [true, false] {
            let (mut site, _port) = site(User::Unprivileged);
            site.set_env(STOP_AT, step);
            let mut server = site.start_with(START);
            let plan = hash(&server.wait_phase("maintenance"));
            let mut shell = site.command("daos_shell");
            shell
                .args(["-i", "-l", &site.address(), "storage", "format", "-f"])
                .args(["--accept-plan", &plan])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut shell = Running::start(&mut shell);
            let stopped = server.wait_stopped(step);
            if !dies {
                shell.kill();
                assert!(is_stopped(stopped), "{step}");
                // Nobody waits for it any more, and it goes on to its end; helpers stand still at their own files, too.
                let state = eventually("the format is done", || {
                    for process in server
                        .processes()
                        .into_iter()
                        .filter(|pid| is_stopped(*pid))
                    {
                        kill(Pid::from_raw(process as i32), Signal::SIGCONT)
                            .expect("it stands still");
                    }
                    // Not while the server stands still: the shell would wait for it.
                    site.state().filter(|state| state["phase"] == "ready")
                });
                assert_eq!(state["proposed"]["accepted"], true, "{step}: {state:#}");
                assert!(site.path("state/engines.yml").exists(), "{step}");
                server.stop();
                continue;
            }
            server.kill();
            drop(server);
            shell.wait();
            site.clear_env(STOP_AT);
            // Not a byte was written to storage before the plan was kept.
            let kept = site.path("state/engines.yml").exists();
            assert_eq!(kept, step != "file-staged", "{step}");
            let superblock = site.memory_dir().join("scm/0/superblock");
            assert!(kept || !superblock.exists(), "{step}");
            let mut server = site.start_with(START);
            let state = server.wait_state("settled", |s| s["phase"] != "starting");
            // The same engines, without another agreement if there was one.
            assert_eq!(hash(&state), plan, "{step}");
            assert_eq!(state["proposed"]["accepted"], kept, "{step}: {state:#}");
            // Half a format is none: what there is waits for another one, or serves.
            let is_complete = superblock.exists();
            let engine = &state["engines"][0]["state"];
            if is_complete {
                assert_ne!(engine, "await-format", "{step}: {state:#}");
            } else {
                assert_eq!(engine, "await-format", "{step}: {state:#}");
                assert_eq!(state["phase"], "maintenance", "{step}: {state:#}");
            }
            if !kept {
                let refused = format(&site, &["-f"]).expect(1);
                assert!(refused.stderr.contains("nobody has agreed"), "{refused}");
            }
            // Malloc's content went with its engine, so that a complete one wants a format as well.
            let agreed = ["--accept-plan", &plan];
            let again = [&["-f", "--reformat"][..], if kept { &[] } else { &agreed }].concat();
            server.wait_phase("maintenance");
            format(&site, &again).expect(0);
            server.wait_phase("ready");
            server.stop();
        }
    }
}

#[test]
fn where_nothing_can_be_planned_the_server_says_why() {
    let mut site = Site::of(User::Unprivileged);
    // Without a provider no engine is reached.
    site.add_config("plugins: {scm-ram: {}, bdev-malloc: {}}\n");
    site.set_iface("lo");
    site.choose_fabric();
    site.write_config();
    let mut server = site.start_with(START);
    let state = server.wait_phase("maintenance");
    let reason = state["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("none can be planned"), "{reason}");
    assert!(state["proposed"].is_null(), "{state:#}");
    let refused = format(&site, &["-f"]).expect(1);
    assert!(refused.text().contains("names no servers"), "{refused}");
    server.stop();
}

/// A format by `ctl.CtlSvc`, which has no word for an agreement.
fn as_that_control_plane(site: &Site) -> Result<(), String> {
    use daos_proto::ctl::{
        FormatNvmeReq, FormatScmReq, StorageFormatReq, ctl_svc_client::CtlSvcClient,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let endpoint = format!("http://{}", site.address());
        let mut client = CtlSvcClient::connect(endpoint).await.expect("a connection");
        let request = StorageFormatReq {
            nvme: Some(FormatNvmeReq::default()),
            scm: Some(FormatScmReq::default()),
            reformat: true,
            ..StorageFormatReq::default()
        };
        let answer = client.storage_format(request).await;
        answer.map(drop).map_err(|status| {
            let fault = daos_proto::host::Fault::from_status(&status);
            fault.map_or_else(|| status.to_string(), |fault| fault.to_string())
        })
    })
}
