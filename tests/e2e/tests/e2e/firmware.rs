//! Firmware of block devices through the real programs: what is refused and what is done, device by device, and what is
//! left when somebody is killed in the middle.

use crate::data::bench;
use daos_e2e::{Bdev, Finished, Server, Site, eventually};
use fixture_files::{FIRMWARE, install};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::process::Stdio;

/// One engine on two devices that have firmware.
pub(crate) struct Bed {
    pub(crate) site: Site,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let mut site = Site::new();
        site.use_plugins_dir();
        install(FIRMWARE, &site.path("plugins"), "firmware.so");
        let dir = site.path("tmp").display().to_string();
        site.add_engine(Bdev::Files(vec![site.path("tmp/a"), site.path("tmp/b")]), 2);
        site.add_config(&format!(
            "plugins:\n  bdev-file: {{}}\n  fabric-tcp: {{}}\n  scm-ram: {{}}\n  fixture-firmware:\n    settings: \
             {{dir: '{dir}'}}\n"
        ));
        let bed = Self { site };
        for name in ["a", "b"] {
            bed.set(name, &json!({}));
            let file = File::create(bed.path(name)).expect("our directory");
            // Blank, of the configured size: there before any format.
            file.set_len(256 << 20).expect("a sparse file");
        }
        let text = bed.site.config_text();
        let text = text.replacen("bdev_class: file", "bdev_class: fwfile", 1);
        bed.site.write_text(&text);
        bed.image("new.img", "2.0", 40_000);
        bed
    }

    /// Makes a device's firmware that of a new one, but for some members.
    pub(crate) fn set(&self, name: &str, members: &Value) {
        let mut state = json!({"model": "M", "serial": name, "running": "1.0", "active": 1, "slots": ["1.0", "", ""]});
        for (key, value) in members.as_object().expect("members") {
            state[key] = value.clone();
        }
        let path = self.site.path("tmp").join(format!("{name}.fw.json"));
        fs::write(path, state.to_string()).expect("our directory");
    }

    fn chip(&self, name: &str) -> Value {
        let path = self.site.path("tmp").join(format!("{name}.fw.json"));
        serde_json::from_slice(&fs::read(path).expect("a state")).expect("JSON")
    }

    /// Requires that a device's firmware is as it was.
    #[track_caller]
    fn untouched(&self, name: &str) {
        let chip = self.chip(name);
        let told = (&chip["running"], &chip["slots"]);
        assert_eq!(told, (&json!("1.0"), &json!(["1.0", "", ""])), "{chip:#}");
        let commands = (&chip["commits"], &chip["resets"]);
        assert!(
            [&json!(0), &Value::Null].contains(&commands.0) && commands.0 == commands.1,
            "{chip:#}"
        );
    }

    /// Puts an image of so many bytes into the site.
    fn image(&self, file: &str, revision: &str, size: usize) {
        let mut bytes = format!("FWIMG1\n{revision:8}").into_bytes();
        bytes.resize(size, 7);
        fs::write(self.site.path("tmp").join(file), bytes).expect("our directory");
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.site.path("tmp").join(name).display().to_string()
    }

    pub(crate) fn start(&self) -> Server<'_> {
        let line = ["-o", "daos_server.yml", "start", "-i"];
        let mut server = self.site.start_with(&line);
        server.wait_phase("maintenance");
        server
    }

    #[track_caller]
    fn fwupdate(&self, args: &[&str]) -> Finished {
        let image = self.path("new.img");
        let line = [
            "storage", "fwupdate", "-m", "M", "-r", "1.0", "-p", &image, "-f",
        ];
        self.site.shell(&[&line, args].concat())
    }

    /// Devices as `firmware query` tells them.
    #[track_caller]
    fn query(&self) -> Vec<Value> {
        let done = self.site.shell(&["--json", "firmware", "query"]).expect(0);
        let mut answer = done.json();
        let devices = answer["response"]["hosts"][self.site.address()]["devices"].take();
        devices.as_array().expect("devices").clone()
    }
}

#[test]
fn devices_are_updated_one_by_one_and_verified() {
    let bed = Bed::new();
    let server = bed.start();
    let before = bed.query();
    assert_eq!(before.len(), 2, "{before:#?}");
    assert_eq!(before[0]["address"], bed.path("a"));
    assert_eq!(before[0]["slots"][0]["read_only"], true);
    let plan = bed.fwupdate(&["-s", "2", "--dry-run"]).expect(0);
    assert!(plan.stdout.contains("2 of 2 device(s)"), "{plan}");
    bed.untouched("a");

    let done = bed.fwupdate(&["-s", "2"]).expect(0);
    for words in [
        "NVMe firmware update results:",
        "status CTRL_SUCCESS (firmware 1.0 -> 2.0)",
    ] {
        assert!(done.stdout.contains(words), "{done}");
    }
    for step in [
        "downloading firmware: 0 %",
        "committing firmware",
        "resetting",
    ] {
        assert!(done.stderr.contains(step), "{done}");
    }
    for name in ["a", "b"] {
        let chip = bed.chip(name);
        assert_eq!(chip["slots"], json!(["1.0", "2.0", ""]));
        assert_eq!(
            (&chip["running"], &chip["active"], &chip["commits"]),
            (&json!("2.0"), &json!(2), &json!(1))
        );
    }
    let after = bed.query();
    assert_eq!(after[1]["slots"][1]["active"], true, "{after:#?}");

    // They do not run the revision any more that the image is meant for.
    let again = bed.fwupdate(&["--json"]).expect(1);
    let refusal = &again.json()["response"][bed.site.address()]["plan"]["devices"][0]["refusal"];
    let what = refusal["what"].as_str().unwrap_or_default();
    assert!(what.contains("revision unexpected"), "{again}");
    assert_eq!(bed.chip("a")["commits"], 1);
    server.stop();
}

#[test]
fn what_does_not_fit_is_refused_and_the_others_go_on() {
    let bed = Bed::new();
    bed.set("b", &json!({"model": "Another"}));
    let server = bed.start();
    let done = bed.fwupdate(&[]).expect(1);
    assert!(done.stdout.contains("model unexpected"), "{done}");
    assert_eq!(bed.chip("a")["running"], "2.0");
    bed.untouched("b");
    bed.set("a", &json!({}));

    // A filter leaves it out instead.
    let image = bed.path("new.img");
    let update = |args: &[&str]| {
        let line = ["firmware", "update", "-t", "nvme", "-p", &image, "--force"];
        bed.site.shell(&[&line, args].concat())
    };
    update(&["-m", "M", "-f", "1.0"]).expect(0);
    assert_eq!(bed.chip("a")["running"], "2.0");
    bed.untouched("b");
    let none = update(&["-m", "Third"]).expect(1);
    assert!(none.stderr.contains("firmware query"), "{none}");

    for (slot, words) in [("1", "read-only"), ("5", "no firmware slot 5")] {
        let device = bed.path("b");
        let refused = update(&["-d", &device, "--slot", slot]).expect(1);
        assert!(refused.stdout.contains(words), "{refused}");
    }
    update(&["-d", "file:/nowhere"]).expect(1);
    update(&["--slot", "8"]).expect(2);
    bed.set("b", &json!({"fixed": true}));
    let device = format!("fwfile:{}", bed.path("b"));
    let fixed = update(&["-d", &device]).expect(1);
    assert!(fixed.stdout.contains("no commands"), "{fixed}");
    server.stop();
}

#[test]
fn images_that_are_none_are_refused() {
    let bed = Bed::new();
    let server = bed.start();
    fs::write(bed.path("empty.img"), "").expect("our directory");
    fs::write(bed.path("odd.img"), [7; 4098]).expect("our directory");
    fs::write(bed.path("bad.img"), [7; 4096]).expect("our directory");
    let update = |image: &str| {
        let line = ["firmware", "update", "-t", "nvme", "--force", "-p", image];
        bed.site.shell(&line)
    };
    for (image, words) in [
        (bed.path("empty.img"), "is empty"),
        (bed.path("absent.img"), "No such file"),
        (bed.path(""), "no regular file"),
        ("new.img".to_owned(), "whole path"),
        (bed.path("odd.img"), "no multiple of 4"),
        (bed.path("bad.img"), "invalid firmware image"),
    ] {
        let refused = update(&image).expect(1);
        assert!(refused.text().contains(words), "{refused}");
        bed.untouched("a");
        bed.untouched("b");
    }
    // Neither a device that only says yes, nor one that wants more than a reset, passes for updated.
    bed.set("a", &json!({"forgets": true}));
    bed.set("b", &json!({"wants_power_cycle": true}));
    let done = bed.fwupdate(&["--json"]).expect(1);
    let results = done.json()["response"][bed.site.address()]["results"].take();
    let fault = results[0]["fault"]["what"].as_str().unwrap_or_default();
    assert!(fault.contains("revision is not"), "{done}");
    assert_eq!(results[1]["pending"], true, "{done}");
    let remedy = results[1]["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("off and on"), "{done}");
    assert_eq!(bed.chip("b")["running"], "1.0");
    let asked = bed.query();
    assert_eq!(asked[1]["slots"][1]["next"], true, "{asked:#?}");
    server.stop();
}

#[test]
fn devices_of_an_engine_are_left_alone() {
    let bed = Bed::new();
    let mut server = bed.start();
    server.make_ready();
    bench(&bed.site);
    for args in [&["storage", "fwupdate"][..], &["firmware", "query"]] {
        let done = match args[1] {
            "fwupdate" => bed.fwupdate(&[]).expect(1),
            _ => bed.site.shell(args).expect(0),
        };
        assert!(done.text().contains("in use: engine 0"), "{done}");
        bed.untouched("a");
    }
    // Nor through a program that does not know the server.
    let image = bed.path("new.img");
    let line = [
        "-o",
        "daos_server.yml",
        "firmware",
        "update",
        "-p",
        &image,
        "--force",
    ];
    let local = bed.site.run("daos_server", &line).expect(1);
    assert!(local.stdout.contains("in use: engine 0"), "{local}");
    bed.untouched("a");

    bed.site.shell(&["system", "stop"]).expect(0);
    bed.fwupdate(&[]).expect(0);
    assert_eq!(bed.chip("b")["running"], "2.0");
    bed.site.shell(&["system", "start"]).expect(0);
    server.wait_phase("ready");
    bench(&bed.site);
    server.stop();
}

/// Starts an update that takes its time, and waits until a device is in the middle of it.
fn slow_update(bed: &Bed, server: &Server<'_>) -> std::process::Child {
    bed.set("a", &json!({"slow": 300}));
    let begun = || server.log().matches("new.img begins").count();
    let before = begun();
    let image = bed.path("new.img");
    let address = bed.site.address();
    let mut command = bed.site.command("daos_shell");
    command.args(["-i", "-l", &address, "storage", "fwupdate"]);
    command.args(["-m", "M", "-r", "1.0", "-p", &image, "-f"]);
    let shell = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let shell = shell.expect("the shell starts");
    eventually("a device is being updated", || {
        (begun() > before).then_some(())
    });
    shell
}

#[test]
fn whoever_dies_in_the_middle_leaves_the_old_firmware() {
    let bed = Bed::new();
    let mut server = bed.start();
    // The server: its helpers end with it.
    let shell = slow_update(&bed, &server);
    server.kill();
    let shell = shell.wait_with_output().expect("our child");
    assert_eq!(shell.status.code(), Some(1));
    let said = String::from_utf8_lossy(&shell.stderr);
    let lost = format!(
        "ERROR: {}: the connection to the server was lost during the update",
        bed.site.address()
    );
    assert!(
        said.contains(&lost) && said.contains("`daos_shell firmware query`"),
        "{said}"
    );
    eventually("its helpers are gone", || {
        server.helpers().is_empty().then_some(())
    });
    bed.untouched("a");
    bed.untouched("b");
    drop(server);

    // A server that is told to end gives up what is only being sent.
    let server = bed.start();
    let mut shell = slow_update(&bed, &server);
    server.stop();
    assert!(!shell.wait().expect("our child").success());
    bed.untouched("a");
    bed.untouched("b");

    // Who only watched can leave.
    let server = bed.start();
    let mut shell = slow_update(&bed, &server);
    shell.kill().expect("our child can be killed");
    shell.wait().expect("our child");
    eventually("both are updated all the same", || {
        ["a", "b"]
            .iter()
            .all(|name| bed.chip(name)["running"] == "2.0")
            .then_some(())
    });
    server.stop();
}

#[test]
fn without_a_server_it_works_as_well() {
    let bed = Bed::new();
    let run = |args: &[&str]| {
        let line = [&["-o", "daos_server.yml", "firmware"], args].concat();
        bed.site.run("daos_server", &line)
    };
    let image = bed.path("new.img");
    let shown = run(&["query"]).expect(0);
    assert!(
        shown.stdout.contains("1 1.0 (read-only, active)"),
        "{shown}"
    );
    let plan = run(&["update", "-p", &image]).expect(0);
    assert!(plan.stdout.contains("--force"), "{plan}");
    bed.untouched("a");
    let device = bed.path("a");
    let done = run(&["update", "-p", &image, "-d", &device, "-s", "3", "--force"]).expect(0);
    assert!(done.stdout.contains("(firmware 1.0 -> 2.0)"), "{done}");
    assert_eq!(bed.chip("a")["slots"], json!(["1.0", "", "2.0"]));
    bed.untouched("b");
    let leases = fs::read_to_string(bed.site.path("state/leases.json")).unwrap_or_default();
    assert!(!leases.contains("fwfile"), "{leases}");
    let json = run(&["update", "-p", &image, "--json", "-m", "X"]).expect(1);
    assert!(json.json()["error"].is_string(), "{json}");
}

#[test]
fn the_control_plane_of_daos_is_answered() {
    use daos_proto::ctl::ctl_svc_client::CtlSvcClient;
    use daos_proto::ctl::{FirmwareQueryReq, FirmwareUpdateReq, firmware_update_req::DeviceType};
    let bed = Bed::new();
    let server = bed.start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let address = format!("http://{}", bed.site.address());
        let mut client = CtlSvcClient::connect(address).await.expect("it listens");
        let query = FirmwareQueryReq {
            query_nvme: true,
            firmware_rev: "1.0".to_owned(),
            ..FirmwareQueryReq::default()
        };
        let answer = client.firmware_query(query).await.expect("an answer");
        let devices = answer.into_inner().nvme_results;
        let told: Vec<_> = devices.into_iter().filter_map(|d| d.device).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(
            (told[0].model.as_str(), told[0].fw_rev.as_str()),
            ("M", "1.0")
        );
        let mut update = FirmwareUpdateReq {
            firmware_path: bed.path("new.img"),
            device_i_ds: vec![bed.path("b")],
            model_id: "M".to_owned(),
            ..FirmwareUpdateReq::default()
        };
        let refused = client.firmware_update(update.clone()).await.unwrap_err();
        // Without a type memory modules are meant, of which there are none.
        let words = "no memory module of this host is ";
        assert!(refused.message().starts_with(words), "{refused}");
        let modules = FirmwareQueryReq {
            query_scm: true,
            ..FirmwareQueryReq::default()
        };
        let none = client.firmware_query(modules).await.expect("an answer");
        assert_eq!(none.into_inner(), Default::default());
        update.set_type(DeviceType::NvMe);
        let answer = client.firmware_update(update).await.expect("an answer");
        let results = answer.into_inner().nvme_results;
        assert_eq!((results.len(), results[0].error.as_str()), (1, ""));
        assert_eq!(results[0].pci_addr, bed.path("b"));
    });
    assert_eq!(bed.chip("b")["running"], "2.0");
    bed.untouched("a");
    server.stop();
}
