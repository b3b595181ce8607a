//! Commands to the QEMU that runs this guest, through the second serial port.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};

/// Runs a QMP command (JSON) and returns the reply.
fn command(text: &str) -> Result<String, String> {
    let port = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/ttyS1")
        .map_err(|e| format!("/dev/ttyS1: {e}"))?;
    let mut writer = &port;
    writer
        .write_all(format!("{text}\n").as_bytes())
        .map_err(|e| format!("/dev/ttyS1: {e}"))?;
    let mut reply = String::new();
    BufReader::new(&port)
        .read_line(&mut reply)
        .map_err(|e| format!("/dev/ttyS1: {e}"))?;
    if reply.contains("\"error\"") {
        return Err(format!("QEMU refuses {text}: {reply}"));
    }
    Ok(reply)
}

/// Limits the controller of 512-byte blocks to `iops` requests a second; 0 = no limit. Lifted when
/// the guard drops.
pub(crate) fn throttle(iops: u32) -> Result<Throttle, String> {
    set_throttle(iops)?;
    Ok(Throttle)
}

/// A limit that is in force.
pub(crate) struct Throttle;

impl Drop for Throttle {
    fn drop(&mut self) {
        if let Err(error) = set_throttle(0) {
            println!("       cannot lift the throttle: {error}");
        }
    }
}

fn set_throttle(iops: u32) -> Result<(), String> {
    command(&format!(
        r#"{{"execute":"qom-set","arguments":{{"path":"/objects/throttle-512","property":"limits","value":{{"iops-total":{iops}}}}}}}"#
    ))
    .map(drop)
}

/// Asks for the removal of a controller, as an operator's button press would.
pub(crate) fn unplug(name: &str) -> Result<(), String> {
    command(&format!(
        r#"{{"execute":"device_del","arguments":{{"id":"{name}"}}}}"#
    ))
    .map(drop)
}

/// What a controller's health says is critical: bits of the NVMe log page.
pub(crate) fn critical_warning(name: &str, bits: u8) -> Result<(), String> {
    command(&format!(
        r#"{{"execute":"qom-set","arguments":{{"path":"/machine/peripheral/{name}","property":"smart_critical_warning","value":{bits}}}}}"#
    ))
    .map(drop)
}
