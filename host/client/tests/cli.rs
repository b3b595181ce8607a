//! The program `daos` against an engine on the loopback.

mod fake;

use fake::control::Control;
use fake::{FakeEngine, Store};
use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const UUIDS: [&str; 4] = [
    "--pool",
    "4f3c1b6e-0000-4000-8000-000000000001",
    "--cont",
    "4f3c1b6e-0000-4000-8000-000000000002",
];

struct Site {
    store: Arc<Store>,
    engine: Option<FakeEngine>,
    control: Control,
    directory: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let store = Arc::new(Store::default());
        let engine = FakeEngine::start(&store, 2);
        let control = Control::start().await;
        control.set(Some(&engine.uri));
        Self {
            store,
            engine: Some(engine),
            control,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_daos"));
        command
            .args(["--access-point", &self.control.access_point])
            .args(args)
            .env_remove("RUST_LOG")
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        let run = self.command(args).output();
        let limit = Duration::from_secs(120);
        tokio::time::timeout(limit, run)
            .await
            .expect("an end")
            .unwrap()
    }

    async fn object(&self, verb: &str, args: &[&str]) -> Output {
        self.run(&[&["object", verb][..], &UUIDS, args].concat())
            .await
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

#[track_caller]
fn expect(output: &Output, code: i32) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "\n{out}\n{err}");
    out
}

#[track_caller]
fn json(output: &Output, code: i32) -> Value {
    let document: Value = serde_json::from_str(&expect(output, code)).unwrap();
    assert_eq!(document["error"].is_null(), code == 0, "{document:#}");
    assert_eq!(document["status"] == 0, code == 0, "{document:#}");
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_come_and_go() {
    let site = Site::new().await;
    let large: Vec<u8> = (0..70_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(site.path("in"), &large).unwrap();
    expect(
        &site.object("put", &["0.1", "d", "small", "hello"]).await,
        0,
    );
    expect(
        &site.object("put", &["0.1", "d", "large", "-f", "in"]).await,
        0,
    );
    assert_eq!(
        expect(&site.object("get", &["0.1", "d", "small"]).await, 0),
        "hello"
    );
    expect(
        &site
            .object("get", &["0.1", "d", "large", "-f", "out"])
            .await,
        0,
    );
    assert!(std::fs::read(site.path("out")).unwrap() == large);

    // Standard input, and a key that is no text.
    let args = [
        &["object", "put"][..],
        &UUIDS,
        &["7", "00ff", "61", "--hex-keys"],
    ]
    .concat();
    let mut child = site.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"from a pipe")
        .await
        .unwrap();
    drop(stdin);
    assert!(child.wait().await.unwrap().success());
    let got = site
        .object("get", &["7", "00ff", "61", "--hex-keys", "--json"])
        .await;
    let got = json(&got, 0);
    assert_eq!(got["response"]["text"], "from a pipe");
    assert_eq!(got["response"]["bytes"], 11);

    assert_eq!(expect(&site.object("list", &["0.1"]).await, 0), "d\n");
    assert_eq!(
        expect(&site.object("list", &["0.1", "d"]).await, 0),
        "large\nsmall\n"
    );
    let listed = site.object("list", &["7", "--json", "--hex-keys"]).await;
    assert_eq!(json(&listed, 0)["response"]["keys"][0], "00ff");
    expect(&site.object("punch", &["0.1", "d", "small"]).await, 0);
    let gone = site.object("get", &["0.1", "d", "small", "--json"]).await;
    let error = json(&gone, 1)["error"].to_string();
    assert!(
        error.contains("nothing is stored") && error.contains("small"),
        "{error}"
    );
    expect(&site.object("punch", &["0.1", "--all"]).await, 0);
    assert_eq!(expect(&site.object("list", &["0.1"]).await, 0), "");
    // Without a dkey and --all, nothing is removed.
    expect(&site.object("punch", &["7"]).await, 2);
    let targets = json(&site.run(&["query", "--json"]).await, 0);
    assert_eq!(targets["response"]["targets"].as_array().unwrap().len(), 2);
    assert!(expect(&site.run(&["query"]).await, 0).contains("50.0 %"));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_made_named_and_destroyed() {
    let site = Site::new().await;
    let made = json(
        &site
            .run(&["--json", "container", "create", "--pool", "tank", "weather"])
            .await,
        0,
    );
    let uuid = made["response"]["uuid"].as_str().unwrap().to_owned();
    assert_eq!(made["response"]["label"], "weather");
    // By label, by UUID, and without naming the only pool.
    let names = ["--pool", "tank", "--cont", "weather"];
    let put = [&["object", "put"][..], &names, &["0.1", "d", "a", "v"]].concat();
    expect(&site.run(&put).await, 0);
    let got = site
        .run(&["object", "get", "--cont", &uuid, "0.1", "d", "a"])
        .await;
    assert_eq!(expect(&got, 0), "v");
    expect(&site.run(&["cont", "create"]).await, 0);
    let list = expect(&site.run(&["container", "list"]).await, 0);
    assert!(
        list.contains("weather") && list.contains("box") && list.contains(&uuid),
        "{list}"
    );
    let listed = json(&site.run(&["cont", "ls", "--json"]).await, 0);
    let listed = listed["response"]["containers"].as_array().unwrap().len();
    assert_eq!(listed, 3, "two pages");
    let pool = json(&site.run(&["pool", "query", "--json"]).await, 0);
    assert_eq!(pool["response"]["scm_free"], 1200, "of two targets");
    assert_eq!(pool["response"]["containers"], 3);
    let pools = expect(&site.run(&["pool", "list"]).await, 0);
    assert!(pools.contains("tank"), "{pools}");
    let taken = site.run(&["--json", "cont", "create", "weather"]).await;
    let error = json(&taken, 1)["error"].to_string();
    assert!(error.contains("exists already"), "{error}");
    expect(&site.run(&["container", "destroy", "weather"]).await, 0);
    assert!(site.store.values.lock().unwrap().is_empty());
    for args in [
        &["container", "destroy", "weather"][..],
        &["container", "query", "weather"],
        &["container", "list", "--pool", "lake"],
        &["object", "list", "--pool", "tank", "--cont", "none", "1"],
        &put,
    ] {
        let failed = site.run(args).await;
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        expect(&failed, 1);
        assert!(text.contains("no such"), "{args:?}: {text}");
    }
    // Several pools: one must be named.
    let second = daos_client::Entry {
        id: daos_client::Uuid::from_u128(7),
        label: "lake".into(),
        ..site.store.names.lock().unwrap().pools[0].clone()
    };
    site.store.names.lock().unwrap().pools.push(second);
    let failed = site.run(&["--json", "container", "list"]).await;
    let error = json(&failed, 1)["error"].to_string();
    assert!(error.contains("tank") && error.contains("lake"), "{error}");
    site.store.names.lock().unwrap().pools.clear();
    let failed = site.run(&["--json", "bench"]).await;
    let error = json(&failed, 1)["error"].to_string();
    assert!(error.contains("daos_shell pool create"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_verifies_and_cleans_up() {
    let site = Site::new().await;
    let args = ["bench", "--verify", "--ops", "150", "--keys", "60"];
    let text = expect(&site.run(&args).await, 0);
    for words in ["put", "get", "P99.9", "verified: all of 64 values"] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    assert!(site.store.values.lock().unwrap().is_empty(), "cleaned up");
    let containers = |site: &Site| site.store.names.lock().unwrap().containers.len();
    assert_eq!(containers(&site), 1, "its own container is gone");
    let run = json(
        &site
            .run(&[&args[..], &["--json", "--keep", "--seed", "9"]].concat())
            .await,
        0,
    );
    let run = &run["response"];
    assert_eq!(run["phases"][0]["ops"], 150);
    assert_eq!(
        (&run["seed"], &run["values"]),
        (&Value::from(9), &Value::from(64))
    );
    assert!(run["phases"][1]["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    assert_eq!(site.store.values.lock().unwrap().len(), 64, "kept");
    assert_eq!(containers(&site), 2, "kept");
    let timed = ["bench", "--seconds", "1", "--size", "100", "--histogram"];
    let text = expect(&site.run(&timed).await, 0);
    assert!(
        text.contains("latency of get") && text.contains("not compared"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_finds_values_that_differ() {
    let site = Site::new().await;
    let plan = [
        "bench", "--verify", "--ops", "32", "--size", "300", "--depth", "1",
    ];
    // More than the library's own repetitions.
    site.store.faults.damage_values.store(3, Ordering::SeqCst);
    let text = expect(&site.run(&plan).await, 3);
    assert!(text.contains("MISMATCH: 1"), "{text}");
    site.store.faults.damage_values.store(3, Ordering::SeqCst);
    let document = json(&site.run(&[&plan[..], &["--json"]].concat()).await, 3);
    assert_eq!(
        document["response"]["mismatches"].as_array().unwrap().len(),
        1
    );
}

/// Replaces a stored value by another with the right checksum: what no checksum finds.
fn forge(store: &Store, dkey: &str, value: &[u8]) {
    let mut values = store.values.lock().unwrap();
    let mut found = 0;
    for (name, akeys) in values.iter_mut() {
        if name.3 == dkey.as_bytes() {
            found += 1;
            for stored in akeys.values_mut() {
                *stored = (value.to_vec(), daos_client::crc32c(value));
            }
        }
    }
    assert_eq!(found, 1, "{dkey}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_proved_and_losses_are_found() {
    let site = Site::new().await;
    let write = [
        "workload", "write", "--count", "300", "--keys", "48", "--size", "1..9000",
    ];
    let write = [&write[..], &["--seed", "5", "--acked", "record"]].concat();
    expect(&site.run(&write).await, 0);
    let record = std::fs::read_to_string(site.path("record")).unwrap();
    assert_eq!(
        record
            .lines()
            .filter(|line| line.starts_with("ack "))
            .count(),
        300
    );
    let text = expect(&site.run(&["workload", "verify", "record"]).await, 0);
    assert!(
        text.contains("300 acknowledged writes, 48 values read back: all are there"),
        "{text}"
    );

    forge(&site.store, "key-00000007", b"something else");
    let lost = {
        let mut values = site.store.values.lock().unwrap();
        let lost = values
            .keys()
            .find(|name| name.3 == b"key-00000011")
            .unwrap()
            .clone();
        values.remove(&lost)
    };
    assert!(lost.is_some());
    let found = site
        .run(&["workload", "verify", "--acked", "record", "--json"])
        .await;
    let losses = json(&found, 3)["response"]["losses"].to_string();
    for words in [
        "key 7 version 295",
        "key 11 version 299",
        "nothing is stored",
    ] {
        assert!(losses.contains(words), "{words:?} is missing in {losses}");
    }
    // A second run has a container of its own: its values are there, the first one's still lost.
    expect(&site.run(&write).await, 0);
    expect(&site.run(&["workload", "verify", "record"]).await, 3);
    let second = record_of_last_run(&site.path("record"));
    std::fs::write(site.path("cut"), second).unwrap();
    expect(&site.run(&["workload", "verify", "cut"]).await, 0);
    expect(&site.run(&["workload", "verify", "absent"]).await, 1);
}

/// The last run of a record, with a line at its end that was cut off.
fn record_of_last_run(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let start = text.rfind("run v1").unwrap();
    format!("{}ack 29", &text[start..])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_outlives_its_engine() {
    let mut site = Site::new().await;
    let args = [
        "workload", "write", "--count", "100000", "--keys", "64", "--size", "1..9000", "record",
    ];
    let mut writer = site.command(&args).stdout(Stdio::null()).spawn().unwrap();
    let acknowledged = |site: &Site| {
        let text = std::fs::read_to_string(site.path("record")).unwrap_or_default();
        text.matches("ack ").count()
    };
    let mut least = 50;
    for _ in 0..2 {
        while acknowledged(&site) < least {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(site.engine.take());
        site.control.set(None);
        tokio::time::sleep(Duration::from_millis(200)).await;
        least = acknowledged(&site) + 50;
        let engine = FakeEngine::start(&site.store, 2);
        site.control.set(Some(&engine.uri));
        site.engine = Some(engine);
    }
    while acknowledged(&site) < least {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writer.kill().await.unwrap();
    expect(&site.run(&["workload", "verify", "record"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_explained() {
    let site = Site::new().await;
    site.control.set(None);
    let failed = site.run(&["--json", "query"]).await;
    let error = json(&failed, 1)["error"].to_string();
    assert!(error.contains("no engine serves"), "{error}");
    expect(&site.run(&["--no-such-option"]).await, 2);
    let help = expect(&site.run(&["--help"]).await, 0);
    assert!(
        help.contains("Examples:") && help.contains("Exit status"),
        "{help}"
    );
    assert!(expect(&site.run(&["completion", "bash"]).await, 0).contains("daos"));
    assert!(expect(&site.run(&["manpage"]).await, 0).contains(".TH"));
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_are_written_read_and_punched_by_ranges() {
    let site = Site::new().await;
    let array = async |verb: &str, args: &[&str]| {
        let all = [&["array", verb][..], &UUIDS, &["0.1", "d", "a"], args].concat();
        site.run(&all).await
    };
    let data: Vec<u8> = (0..40_000_000u32).map(|n| (n / 3) as u8).collect();
    std::fs::write(site.path("in"), &data).unwrap();
    let said = array(
        "put",
        &["--record-size", "8", "--offset", "5", "-f", "in", "--json"],
    )
    .await;
    let said = &json(&said, 0)["response"];
    let sum = format!("{:08x}", daos_wire::crc32c(&data));
    assert_eq!(said["records"], 5_000_000, "{said}");
    assert_eq!(
        (&said["bytes"], &said["crc32c"]),
        (&40_000_000.into(), &sum.as_str().into())
    );
    let stat = json(&array("stat", &["--json"]).await, 0);
    assert_eq!(stat["response"]["records"], 5_000_005);
    assert_eq!(stat["response"]["record_size"], 8);
    assert!(expect(&array("stat", &[]).await, 0).contains("5000005 records of 8 bytes"));

    let said = array("get", &["--offset", "5", "--file", "out", "--json"]).await;
    assert_eq!(json(&said, 0)["response"]["crc32c"], sum.as_str());
    assert!(std::fs::read(site.path("out")).unwrap() == data);
    let part = array("get", &["--offset", "4", "--count", "3"]).await;
    expect(&part, 0);
    assert_eq!(part.stdout, [&[0; 8], &data[..16]].concat());
    let part = array("get", &["--offset", "5000004", "--count", "9", "--json"]).await;
    let part = &json(&part, 0)["response"];
    assert_eq!(
        (&part["records"], part["hex"].as_str().unwrap().len()),
        (&1.into(), 16)
    );

    // From standard input, with the size that the array has.
    let mut put = site.command(
        &[
            &["array", "put"][..],
            &UUIDS,
            &["0.1", "d", "a", "--offset", "1"],
        ]
        .concat(),
    );
    let mut put = put
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = put.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"8 bytes.and 3")
        .await
        .unwrap();
    drop(stdin);
    let ended = put.wait_with_output().await.unwrap();
    expect(&ended, 1);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        told.contains("inside of a record of 8 bytes; 1 records were written"),
        "{told}"
    );
    let part = array("get", &["--offset", "1", "--count", "2"]).await;
    assert_eq!(part.stdout, b"8 bytes.\0\0\0\0\0\0\0\0");

    expect(&array("punch", &["--offset", "2"]).await, 0);
    let stat = json(&array("stat", &["--json"]).await, 0);
    assert_eq!(stat["response"]["records"], 2);
    assert!(
        site.store
            .arrays
            .lock()
            .unwrap()
            .values()
            .all(|a| a.bytes.len() == 16)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_that_cannot_be_are_refused_before_anything_is_written() {
    let site = Site::new().await;
    let array = async |verb: &str, args: &[&str]| {
        let all = [&["array", verb][..], &UUIDS, &["0.1", "d", "a"], args].concat();
        site.run(&all).await
    };
    std::fs::write(site.path("odd"), b"12345").unwrap();
    let said = array("put", &["--record-size", "4", "-f", "odd"]).await;
    expect(&said, 1);
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        told.contains("no whole number of records of 4 bytes"),
        "{told}"
    );
    assert!(site.store.arrays.lock().unwrap().is_empty());
    expect(&array("get", &[]).await, 1);
    expect(&array("stat", &[]).await, 1);
    expect(&array("punch", &["--offset", "0"]).await, 0);
    expect(&array("put", &["--record-size", "131073"]).await, 2);

    expect(&array("put", &["-f", "odd"]).await, 0);
    let said = array("put", &["--record-size", "5", "-f", "odd"]).await;
    expect(&said, 1);
    assert!(String::from_utf8_lossy(&said.stderr).contains("array stat"));
    // A file that could not be read as a whole is not there, and no part of it is left.
    site.store.faults.damage_values.store(100, Ordering::SeqCst);
    expect(&array("get", &["-f", "out"]).await, 1);
    let left = std::fs::read_dir(site.directory.path()).unwrap();
    assert_eq!(left.count(), 1, "only the input");
}
