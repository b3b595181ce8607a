//! Labels and mount files through a helper.

mod common;

use common::{Bed, bed, deadline, device, hostile, plugin_error};
use daos_helper::{
    CallOptions, Cause, DeviceInspection, HelperError, LabelRequest, LabelState, MountFile,
};
use daos_media::superblock::{Superblock, VERSION};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{DeviceSpec, DeviceState};
use fixture_files::HOSTILE;
use serde_json::json;
use std::path::Path;

fn label(generation: u64) -> LabelRequest {
    LabelRequest {
        engine: uuid::Uuid::from_u128(7),
        generation,
        index: 0,
        count: 1,
        device: uuid::Uuid::from_u128(8),
        created: 1_700_000_000,
    }
}

async fn inspect(bed: &Bed) -> Result<DeviceInspection, HelperError> {
    bed.pool
        .inspect_device(&bed.plugin, device(), CallOptions::default())
        .await
}

#[tokio::test]
async fn a_label_is_written_seen_and_cleared() {
    let bed = hostile(json!({}));
    let blank = inspect(&bed).await.unwrap();
    assert_eq!((blank.block_size, blank.blocks), (4096, 8192));
    assert!(blank.blank && !blank.foreign, "{blank:?}");
    assert_eq!(blank.label, LabelState::None);
    let write = |l| {
        bed.pool
            .write_label(&bed.plugin, device(), l, CallOptions::default())
    };
    let written = write(label(1)).await.unwrap();
    assert_eq!(
        (written.block_size, written.blocks, written.volatile),
        (4096, 8192, false)
    );
    let seen = inspect(&bed).await.unwrap();
    assert!(!seen.blank && !seen.foreign, "{seen:?}");
    assert_eq!(
        seen.label,
        LabelState::Present {
            label: label(1),
            volatile: false,
            repair: None
        }
    );
    write(label(2)).await.unwrap();
    assert!(matches!(inspect(&bed).await.unwrap().label,
        LabelState::Present { label, .. } if label.generation == 2));
    let clear = || {
        bed.pool
            .clear_label(&bed.plugin, device(), CallOptions::default())
    };
    assert!(clear().await.unwrap());
    assert!(!clear().await.unwrap(), "nothing left to clear");
    assert!(inspect(&bed).await.unwrap().blank);
}

#[tokio::test]
async fn an_impossible_label_is_refused() {
    let bed = hostile(json!({}));
    let mut bad = label(1);
    bad.index = 3;
    let result = bed
        .pool
        .write_label(&bed.plugin, device(), bad, CallOptions::default())
        .await;
    // Whatever is written must be readable: an index beyond the count is not.
    assert_eq!(result.unwrap_err().status(), Status::INVALID);
    assert!(inspect(&bed).await.unwrap().blank);
}

#[tokio::test]
async fn devices_that_misbehave_cost_one_operation() {
    for (function, behaviour) in [
        ("open", "panic"),
        ("open", "segfault"),
        ("submit", "panic"),
        ("submit", "segfault"),
        ("submit", "abort"),
        ("poll", "panic"),
        ("poll", "too-many"),
        ("poll", "overflow"),
    ] {
        let bed = hostile(json!({ function: behaviour }));
        let error = inspect(&bed).await.unwrap_err();
        println!("{function} {behaviour}: {error}");
        assert_eq!(error.operation, "inspect_device");
        match behaviour {
            "panic" => assert_eq!(plugin_error(&error).status(), Status::PANIC),
            "too-many" => assert_eq!(plugin_error(&error).status(), Status::INTERNAL),
            _ => assert!(matches!(error.cause, Cause::Died { .. })),
        }
        bed.scan().await.unwrap();
    }
}

#[tokio::test]
async fn a_device_that_never_completes_meets_the_deadline() {
    for (function, behaviour) in [("submit", "swallow"), ("open", "hang"), ("poll", "hang")] {
        let bed = hostile(json!({ function: behaviour }));
        let error = bed
            .pool
            .inspect_device(&bed.plugin, device(), deadline(400))
            .await
            .unwrap_err();
        assert!(
            matches!(error.cause, Cause::Deadline { after_ms: 400, .. }),
            "{error}"
        );
        bed.scan().await.unwrap();
    }
}

fn scm(mount: &Path) -> DeviceSpec {
    let mount = mount.to_str().unwrap();
    DeviceSpec {
        class: "ram".to_owned(),
        index: 0,
        address: mount.to_owned(),
        size: 0,
        state: DeviceState::Present,
        detail: String::new(),
        config: json!({ "scm_mount": mount }).as_object().unwrap().clone(),
    }
}

fn superblock() -> String {
    let superblock = Superblock {
        version: VERSION,
        uuid: uuid::Uuid::from_u128(7),
        system: "daos_server".to_owned(),
        rank: None,
        uri: String::new(),
        validrank: false,
        hostfaultdomain: "/h".to_owned(),
        incarnation: 0,
        generation: 1,
        immutable: Default::default(),
        devices: Vec::new(),
    };
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("s");
    superblock.write(&path).unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn mount_files_are_written_whole_and_only_where_they_belong() {
    let bed = bed(HOSTILE, json!({}), |_| {});
    let mount = bed.dir.join("mnt");
    std::fs::create_dir(&mount).unwrap();
    let options = CallOptions::default;
    let (pool, plugin) = (&bed.pool, &bed.plugin);
    let read = |spec| pool.read_mount_file(plugin, spec, MountFile::Superblock, options());
    let write = |spec, text: &str| {
        let text = text.to_owned();
        pool.write_mount_file(plugin, spec, MountFile::Superblock, text, options())
    };
    let spec = scm(&mount);
    assert_eq!(read(spec.clone()).await.unwrap(), None);
    // What could not be read back is not written.
    let error = write(spec.clone(), "version: 99").await.unwrap_err();
    assert_eq!(error.status(), Status::INVALID, "{error}");
    assert!(!mount.join("superblock").exists());
    write(spec.clone(), &superblock()).await.unwrap();
    assert_eq!(read(spec.clone()).await.unwrap(), Some(superblock()));
    assert!(
        Superblock::read(&mount.join("superblock"))
            .unwrap()
            .is_some()
    );
    let remove = || pool.remove_mount_file(plugin, spec.clone(), MountFile::Superblock, options());
    assert!(remove().await.unwrap());
    assert!(!remove().await.unwrap());

    // Somewhere else than scm_mount says, relative, with `..`, through a link.
    let mut elsewhere = spec.clone();
    elsewhere.address = "/etc".to_owned();
    let dotted = scm(&mount.join("../mnt"));
    let link = bed.dir.join("link");
    std::os::unix::fs::symlink(&mount, &link).unwrap();
    for bad in [elsewhere, dotted, scm(Path::new("mnt")), scm(&link)] {
        let error = write(bad.clone(), &superblock()).await.unwrap_err();
        assert_eq!(error.status(), Status::INVALID, "{}: {error}", bad.address);
    }
    assert_eq!(std::fs::read_dir(&mount).unwrap().count(), 0);
}
