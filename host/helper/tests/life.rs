//! Progress, cancellation, turns, and the end of things.

mod common;

use common::{bed, deadline, device, hostile, is_alive, process_of, wait_until};
use daos_helper::{CallOptions, Cancel, Cause, HelperPool, Operation, PoolOptions, Progress};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::ClassRequest;
use fixture_files::{HOSTILE, install};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[tokio::test]
async fn progress_arrives_while_the_operation_runs() {
    let bed = hostile(json!({"scan": "slow:200"}));
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let options = CallOptions {
        progress: Some(Arc::new({
            let seen = Arc::clone(&seen);
            move |progress| seen.lock().unwrap().push(progress)
        })),
        ..CallOptions::default()
    };
    let call = tokio::spawn({
        let (pool, plugin) = (bed.pool.clone(), bed.plugin.clone());
        async move { pool.scan(&plugin, options).await }
    });
    while seen.lock().unwrap().is_empty() {
        assert!(!call.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    call.await.unwrap().unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 20);
    assert_eq!(
        seen[7],
        Progress {
            done: 70,
            total: 200,
            what: "working".to_owned()
        }
    );
}

#[tokio::test]
async fn a_plugin_that_listens_is_cancelled_and_keeps_its_process() {
    let bed = hostile(json!({"format": "slow:60000"}));
    let before = bed.scan_process().await;
    let cancel = Cancel::new();
    let options = CallOptions {
        cancel: Some(cancel.clone()),
        ..CallOptions::default()
    };
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    });
    let start = Instant::now();
    let request = daos_plugin_api::control::FormatRequest {
        device: device(),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    let error = bed
        .pool
        .format(&bed.plugin, request, options)
        .await
        .unwrap_err();
    assert_eq!(error.cause, Cause::Cancelled { forced: false });
    assert_eq!(error.status(), Status::CANCELLED);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(bed.scan_process().await, before);
}

#[tokio::test]
async fn a_cancellation_that_overtakes_its_operation_is_not_lost() {
    let bed = hostile(json!({"scan": "slow:60000"}));
    for round in 0..64 {
        let cancel = Cancel::new();
        let options = CallOptions {
            cancel: Some(cancel.clone()),
            ..CallOptions::default()
        };
        tokio::spawn(async move {
            // Around the moment in which the helper takes the operation up.
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        });
        let error = bed.pool.scan(&bed.plugin, options).await.unwrap_err();
        assert_eq!(
            error.cause,
            Cause::Cancelled { forced: false },
            "round {round}"
        );
    }
}

#[tokio::test]
async fn a_plugin_that_does_not_listen_is_killed_after_the_grace_time() {
    let bed = hostile(json!({"scan": "stubborn:60000"}));
    let cancel = Cancel::new();
    cancel.cancel();
    let options = CallOptions {
        cancel: Some(cancel),
        ..CallOptions::default()
    };
    // Cancelled before its turn: never begun.
    let error = bed.pool.scan(&bed.plugin, options).await.unwrap_err();
    assert_eq!(error.cause, Cause::Cancelled { forced: false });
    let cancel = Cancel::new();
    let options = CallOptions {
        cancel: Some(cancel.clone()),
        ..CallOptions::default()
    };
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    });
    let error = bed.pool.scan(&bed.plugin, options).await.unwrap_err();
    assert_eq!(error.cause, Cause::Cancelled { forced: true });
    assert!(error.to_string().contains("ignored"), "{error}");
}

#[tokio::test]
async fn losing_interest_cancels() {
    let bed = hostile(json!({"scan": "slow:60000"}));
    let call = bed.pool.scan(&bed.plugin, CallOptions::default());
    tokio::time::timeout(Duration::from_millis(300), call)
        .await
        .unwrap_err();
    // The next operation gets its turn long before the first would have ended.
    let next = bed.call(Operation::Devices(ClassRequest::default()));
    tokio::time::timeout(Duration::from_secs(5), next)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn operations_of_one_plugin_take_turns() {
    let bed = hostile(json!({"scan": "slow:1000"}));
    let start = Instant::now();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (pool, plugin) = (bed.pool.clone(), bed.plugin.clone());
            tokio::spawn(async move { pool.call(&plugin, Operation::Scan, deadline(3000)).await })
        })
        .collect();
    let mut processes = Vec::new();
    for call in calls {
        // The deadline counts from the turn, not from the queue.
        processes.push(process_of(&call.await.unwrap().unwrap()));
    }
    processes.dedup();
    assert_eq!(processes.len(), 1, "one process");
    assert!(
        start.elapsed() >= Duration::from_secs(4),
        "one after the other"
    );
}

#[tokio::test]
async fn nothing_is_left_when_the_pool_is_dropped() {
    let bed = hostile(json!({"scan": "leave-child", "devices": "hang"}));
    let idle = bed.scan_process().await;
    drop(bed);
    // Neither running nor a zombie.
    wait_until("the end of the helper", || {
        !std::path::Path::new(&format!("/proc/{idle}")).exists()
    });
}

#[test]
fn nothing_is_left_when_the_runtime_ends_in_the_middle_of_a_call() {
    let bed = hostile(json!({"devices": "hang"}));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pid = runtime.block_on(async {
        let pid = bed.scan_process().await;
        let (pool, plugin) = (bed.pool.clone(), bed.plugin.clone());
        tokio::spawn(async move {
            let _ = pool
                .devices(&plugin, ClassRequest::default(), CallOptions::default())
                .await;
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        pid
    });
    drop(runtime);
    wait_until("the end of the helper", || !is_alive(pid));
}

#[tokio::test]
async fn stopping_is_orderly_and_not_final() {
    let bed = hostile(json!({}));
    let first = bed.scan_process().await;
    bed.pool.stop().await;
    assert!(!is_alive(first));
    assert_ne!(bed.scan_process().await, first);
    bed.pool.stop().await;
}

#[tokio::test]
async fn the_environment_is_not_inherited() {
    let bed = bed(HOSTILE, json!({}), |o| {
        o.environment.push(("KEPT".into(), "1".into()));
    });
    let pid = bed.scan_process().await;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&environment);
    assert!(
        text.contains("KEPT=1") && text.contains("PATH="),
        "{text:?}"
    );
    // Cargo sets this one for tests; a daemon's own would decide which libraries are loaded.
    assert!(
        !text.contains("LD_LIBRARY_PATH") && !text.contains("CARGO"),
        "{text:?}"
    );
}

/// Not a test of its own: the daemon of the test below, which runs this program again.
#[test]
fn daemon_of_the_next_test() {
    let Some(directory) = std::env::var_os("DAEMON_DIRECTORY") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut options = PoolOptions::new(env!("CARGO_BIN_EXE_daos_server_helper"));
    let settings = json!({"on": {"devices": "spin", "scan": "leave-child"}});
    options
        .settings
        .insert(HOSTILE.to_owned(), settings.as_object().unwrap().clone());
    let pool = HelperPool::new(options);
    let plugin = common::inspect(&std::path::Path::new(&directory).join("plugin.so"));
    runtime.block_on(async {
        let report = pool
            .call(&plugin, Operation::Scan, CallOptions::default())
            .await
            .unwrap();
        println!("helper {}", process_of(&report));
        // Busy when the daemon dies: its main thread notices nothing.
        let _ = pool
            .devices(&plugin, ClassRequest::default(), CallOptions::default())
            .await;
    });
}

#[test]
fn a_helper_does_not_outlive_its_daemon() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().canonicalize().unwrap();
    install(HOSTILE, &directory, "plugin.so");
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon_of_the_next_test", "--nocapture"])
        .env("DAEMON_DIRECTORY", &directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(daemon.stdout.take().unwrap());
    let helper: u32 = output
        .lines()
        .find_map(|line| {
            line.unwrap()
                .split_once("helper ")
                .map(|(_, n)| n.parse().unwrap())
        })
        .unwrap();
    let children =
        std::fs::read_to_string(format!("/proc/{helper}/task/{helper}/children")).unwrap();
    let child: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(is_alive(helper) && is_alive(child));
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGKILL).unwrap();
    daemon.wait().unwrap();
    wait_until("the end of the helper", || !is_alive(helper));
    wait_until("the end of what its plugin started", || !is_alive(child));
}

#[test]
fn the_program_explains_itself_when_run_by_hand() {
    let output = Command::new(env!("CARGO_BIN_EXE_daos_server_helper"))
        .args(["bdev-malloc", "--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("started by daos_server"), "{text}");
}

#[test]
fn a_setuid_helper_refuses_to_run() {
    use std::os::unix::fs::MetadataExt as _;
    let name = "a_setuid_helper_refuses_to_run";
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("NOT RUN {name}: needs root to make a setuid file");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    fixture_files::chmod(scratch.path(), 0o755);
    let program = scratch.path().join("helper");
    std::fs::copy(env!("CARGO_BIN_EXE_daos_server_helper"), &program).unwrap();
    fixture_files::chmod(&program, 0o4755);
    let output = run_as_nobody(&program);
    let text = String::from_utf8_lossy(&output.stderr);
    let no_setuid = mounted_nosuid(scratch.path());
    if no_setuid {
        println!("NOT RUN {name}: the temporary directory is mounted nosuid");
        return;
    }
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("refusing to run setuid"), "{text}");
}

#[test]
fn a_helper_whose_file_has_capabilities_refuses_to_run() {
    use std::os::unix::ffi::OsStrExt as _;
    let name = "a_helper_whose_file_has_capabilities_refuses_to_run";
    let scratch = tempfile::tempdir().unwrap();
    fixture_files::chmod(scratch.path(), 0o755);
    let program = scratch.path().join("helper");
    std::fs::copy(env!("CARGO_BIN_EXE_daos_server_helper"), &program).unwrap();
    fixture_files::chmod(&program, 0o755);
    // CAP_SYS_ADMIN, permitted and effective (`struct vfs_cap_data` of linux/capability.h).
    let capabilities: [u32; 5] = [0x0200_0001, 1 << 21, 0, 0, 0];
    let bytes: Vec<u8> = capabilities
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let path = std::ffi::CString::new(program.as_os_str().as_bytes()).unwrap();
    // SAFETY: path and name end with a zero, and the value is as long as is said.
    let set = unsafe {
        nix::libc::setxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
        )
    };
    if set != 0 || mounted_nosuid(scratch.path()) {
        println!("NOT RUN {name}: files cannot have capabilities here, or only root can give them");
        return;
    }
    let output = run_as_nobody(&program);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("capabilities of its file"), "{text}");
}

/// Runs a copy of the program as an ordinary user's, without a connection.
fn run_as_nobody(program: &std::path::Path) -> std::process::Output {
    use std::os::unix::process::CommandExt as _;
    loop {
        let run = Command::new(program)
            .args(["bdev-malloc", "--parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .uid(65534)
            .gid(65534)
            .output();
        match run {
            // Another test that starts a process at this moment holds the copy open for writing.
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result.unwrap(),
        }
    }
}

fn mounted_nosuid(path: &std::path::Path) -> bool {
    nix::sys::statvfs::statvfs(path)
        .is_ok_and(|s| s.flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID))
}

#[tokio::test]
async fn the_end_of_a_pool_cancels_what_runs_and_what_comes() {
    let bed = hostile(json!({"scan": "slow:60000"}));
    let call = tokio::spawn({
        let (pool, plugin) = (bed.pool.clone(), bed.plugin.clone());
        async move { pool.scan(&plugin, CallOptions::default()).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    bed.pool.end().await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    let error = bed.pool.scan(&bed.plugin, CallOptions::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}
