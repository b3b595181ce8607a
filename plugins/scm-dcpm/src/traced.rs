//! What the plugin really has the processor and the kernel do to make something durable: a copy of the test is stepped
//! through instruction by instruction. The images of a loss of power show what the plugin asks of [`Caches`]; that this
//! processor is asked the same, and the kernel about files and their names, shows here.
//!
//! [`Caches`]: crate::Caches

use crate::block::BlockDevice;
use crate::cpu::{self, Instruction};
use crate::map::SharedMap;
use crate::{Method, ScmDcpm};
use daos_plugin_api::control::{ClassRequest, DeviceSpec, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::thunks;
use serde_json::{Map, Value, json};
use std::fs::File;
use tempfile::TempDir;

/// What was done, of what matters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Clwb,
    ClflushOpt,
    Clflush,
    Fence,
    Stream,
    /// fsync(2) of a file of this name.
    Sync(String),
    /// msync(2) of so many bytes.
    SyncRange(u64),
    /// A file gets another name, a first one, or loses it.
    Name,
}

/// How closely a copy is looked at. Instructions take long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Each {
    Instruction,
    Call,
}

/// What `f` does; `None` where processes cannot be traced. It runs in a process of its own: what it stores in memory is
/// not to be seen here.
fn done(each: Each, f: impl FnOnce()) -> Option<Vec<Done>> {
    // SAFETY: the child makes system calls, and runs code that takes memory, for which the C library makes a child of
    // a process with threads ready, and no lock of ours.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: plain system calls; nothing of the test's goes on in this process.
        unsafe {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                libc::_exit(99);
            }
            libc::raise(libc::SIGSTOP);
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        // SAFETY: as above.
        unsafe { libc::_exit(i32::from(outcome.is_err())) };
    }
    let mut found = Vec::new();
    loop {
        let mut status = 0;
        // SAFETY: a child of ours, and room for its status.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child, "{}", std::io::Error::last_os_error());
        if libc::WIFEXITED(status) {
            return match libc::WEXITSTATUS(status) {
                0 => Some(found),
                99 => {
                    println!("NOT RUN: processes cannot be traced here");
                    None
                }
                code => panic!("the copy ended with {code}"),
            };
        }
        assert!(libc::WIFSTOPPED(status), "the copy died: {status:#x}");
        let registers = registers(child);
        let how = match each {
            Each::Instruction => {
                found.extend(next(child, &registers));
                libc::PTRACE_SINGLESTEP
            }
            Each::Call => {
                // As the kernel has it at the beginning of a call.
                if registers.rax as i64 == -i64::from(libc::ENOSYS) {
                    found.extend(called(child, &registers));
                }
                libc::PTRACE_SYSCALL
            }
        };
        // SAFETY: the child is stopped; no signal is handed on.
        let resumed = unsafe { libc::ptrace(how, child, 0, 0) };
        assert_eq!(resumed, 0, "{}", std::io::Error::last_os_error());
    }
}

fn registers(child: libc::pid_t) -> libc::user_regs_struct {
    // SAFETY: numbers alone; all zeroes are valid.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the child is stopped, and this is the structure of the request.
    let outcome = unsafe { libc::ptrace(libc::PTRACE_GETREGS, child, 0, &raw mut registers) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    registers
}

/// What a stopped process does next (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2).
fn next(child: libc::pid_t, registers: &libc::user_regs_struct) -> Option<Done> {
    // SAFETY: reads a word of the child's code; at the end of a mapping it is an error, and -1 no instruction of these.
    let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, child, registers.rip, 0) };
    let code = word.to_le_bytes();
    let (operand, code) = match code {
        [0x66, ..] => (true, &code[1..]),
        _ => (false, &code[..]),
    };
    let code = match code {
        [0x40..=0x4f, rest @ ..] => rest,
        _ => code,
    };
    match code {
        [0x0f, 0xe7, ..] if operand => Some(Done::Stream),
        [0x0f, 0xae, how, ..] => match (operand, how >> 3 & 7, how >> 6) {
            (true, 6, 0..=2) => Some(Done::Clwb),
            (true, 7, 0..=2) => Some(Done::ClflushOpt),
            (false, 7, 0..=2) => Some(Done::Clflush),
            (false, 7, 3) => Some(Done::Fence),
            _ => None,
        },
        _ => None,
    }
}

fn called(child: libc::pid_t, registers: &libc::user_regs_struct) -> Option<Done> {
    match registers.orig_rax as libc::c_long {
        libc::SYS_fsync | libc::SYS_fdatasync => {
            let link = format!("/proc/{child}/fd/{}", registers.rdi);
            let path = std::fs::read_link(link).expect("an open file");
            let name = path.file_name().expect("a name").to_string_lossy();
            // A file without a name yet.
            Some(Done::Sync(match name.starts_with('#') {
                true => String::new(),
                false => name.into_owned(),
            }))
        }
        libc::SYS_msync => Some(Done::SyncRange(registers.rsi)),
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => Some(Done::Name),
        libc::SYS_linkat | libc::SYS_unlink | libc::SYS_unlinkat => Some(Done::Name),
        _ => None,
    }
}

fn options() -> CallOptions<'static> {
    CallOptions::default()
}

/// Storage in a directory, whose file system the plugin does not know to be in memory.
struct Bed {
    instance: Instance,
    device: DeviceSpec,
    _dir: TempDir,
}

impl Bed {
    fn new(persist: &str) -> Self {
        let dir = TempDir::with_prefix_in("scm-dcpm-test-", "/dev/shm").expect("temp dir");
        let mount = dir.path().join("storage");
        let Value::Object(config) =
            json!({"scm_mount": mount, "scm_list": [dir.path()], "scm_size_mib": 8})
        else {
            unreachable!("an object literal")
        };
        let instance = InstanceOptions {
            settings: Map::from_iter([("persist".to_owned(), Value::from(persist))]),
            ..InstanceOptions::built_in()
        };
        let instance = Instance::create(thunks::table::<ScmDcpm>(), instance).expect("an instance");
        let request = ClassRequest {
            class: "dcpm".into(),
            config,
        };
        let device = instance.devices(&request, options()).expect("devices");
        Self {
            instance,
            device: device.into_iter().next().expect("one"),
            _dir: dir,
        }
    }

    fn format(&self) {
        let request = FormatRequest {
            device: self.device.clone(),
            overwrite_foreign: false,
            nvme_format: false,
            check_only: false,
        };
        self.instance.format(&request, options()).expect("format");
    }
}

fn sync(name: &str) -> Done {
    Done::Sync(name.to_owned())
}

#[test]
fn each_line_is_written_back_by_its_instruction_and_a_fence_follows() {
    let Some(best) = cpu::best() else {
        return;
    };
    let page = vec![7u8; 4096];
    let at = page.as_ptr().map_addr(|a| a.next_multiple_of(64) + 8);
    let all = [
        (Instruction::Clwb, Done::Clwb),
        (Instruction::ClflushOpt, Done::ClflushOpt),
        (Instruction::Clflush, Done::Clflush),
    ];
    // What is better than `clflush` implies what is worse.
    let from = all.iter().position(|(i, _)| *i == best).expect("one");
    for (instruction, line) in &all[from..] {
        let method = Method::Lines(*instruction);
        let found = done(Each::Instruction, || {
            // SAFETY: inside the page, and the processor has it.
            unsafe { method.flush(at, 128) }.expect("flush");
            method.drain();
        });
        let expected = [line.clone(), line.clone(), line.clone(), Done::Fence];
        assert!(found.is_none_or(|found| found == expected), "{method:?}");
        let found = done(Each::Instruction, || {
            // SAFETY: as above.
            unsafe { method.persist(at, 128) }.expect("persist");
        });
        assert!(found.is_none_or(|found| found == expected), "{method:?}");
    }
    let found = done(Each::Instruction, || Method::FenceOnly.drain());
    assert!(found.is_none_or(|found| found == [Done::Fence]));
}

#[test]
fn zeroes_are_streamed_and_a_fence_follows() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(4096).expect("a page");
    let found = done(Each::Instruction, || {
        let mut map = SharedMap::new(&file, 128, false).expect("mapped");
        map.zero();
    });
    let Some(found) = found else {
        return;
    };
    let (last, before) = found.split_last().expect("something");
    assert_eq!((last, before.len()), (&Done::Fence, 128 / 16));
    assert!(before.iter().all(|one| *one == Done::Stream));
}

#[test]
fn pages_are_synced_by_the_kernel() {
    let file: File = tempfile::tempfile().expect("a file");
    file.set_len(8192).expect("two pages");
    let map = SharedMap::new(&file, 8192, false).expect("mapped");
    let at = map.ptr().wrapping_add(4000).cast_const();
    let found = done(Each::Call, || {
        // SAFETY: inside the mapping.
        unsafe { Method::Msync.flush(at, 200) }.expect("msync");
    });
    assert!(found.is_none_or(|found| found == [Done::SyncRange(4200)]));
    let found = done(Each::Call, || {
        // SAFETY: inside the mapping.
        unsafe { Method::Msync.persist(at, 200) }.expect("msync");
    });
    assert!(found.is_none_or(|found| found == [Done::SyncRange(4200)]));
}

#[test]
fn a_mark_and_the_names_and_contents_of_regions_are_synced_in_order() {
    let bed = Bed::new("auto");
    let Some(found) = done(Each::Call, || bed.format()) else {
        return;
    };
    assert_eq!(
        found,
        [
            sync(".daos-scm-dcpm.unfinished"),
            sync(".daos-scm-lock"),
            sync("storage"),
            Done::Name,
            sync("storage"),
        ]
    );
    let memory = bed.instance.open_scm(&bed.device, options()).expect("open");
    let found = done(Each::Call, || {
        let region = memory.create_region("r", 4096, options());
        // What it ends with is not looked at.
        std::mem::forget(region.expect("a region"));
    });
    assert_eq!(
        found.expect("traced"),
        [sync(""), Done::Name, sync("regions")]
    );
    let found = done(Each::Call, || {
        memory.remove_region("r", options()).expect("removed")
    });
    assert_eq!(found.expect("traced"), [Done::Name, sync("regions")]);
}

#[test]
fn the_mark_of_a_device_that_is_being_formatted_is_synced_both_times() {
    let dir = TempDir::new().expect("temp dir");
    let device = BlockDevice::image(&dir.path().join("image"), 1 << 20);
    for under_way in [true, false] {
        let Some(found) = done(Each::Call, || {
            device.set_under_way(under_way).expect("written")
        }) else {
            return;
        };
        assert_eq!(found, [sync("image")], "{under_way}");
    }
}

#[test]
fn the_table_flushes_drains_and_persists() {
    if cpu::best().is_none() {
        return;
    }
    let bed = Bed::new("cache_lines");
    bed.format();
    let memory = bed.instance.open_scm(&bed.device, options()).expect("open");
    let region = memory.create_region("r", 4096, options()).expect("region");
    let Some(found) = done(Each::Instruction, || region.flush(0, 64).expect("flush")) else {
        return;
    };
    assert_eq!(found.len(), 1);
    assert_ne!(found, [Done::Fence]);
    let found = done(Each::Instruction, || region.drain().expect("drain"));
    assert_eq!(found.expect("traced"), [Done::Fence]);
    let found = done(Each::Instruction, || {
        region.persist(0, 64).expect("persist")
    });
    let found = found.expect("traced");
    assert_eq!((found.len(), &found[1]), (2, &Done::Fence));
    assert_ne!(found[0], Done::Fence);
}
