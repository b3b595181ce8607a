use proptest::prelude::*;

use super::*;

fn device(index: u32, class: &str, address: &str) -> Device {
    Device {
        index,
        class: class.into(),
        plugin: format!("bdev-{class}"),
        address: address.into(),
        name: Device::name_of(class, "host1", index, 1, 0),
        tier: 1,
        role_bits: 0,
        block_size: 4096,
        blocks: 1 << 18,
        size_bytes: 1 << 30,
        label: Uuid::from_u128(u128::from(index) + 1),
        volatile: class == "malloc",
        settings: serde_json::Map::new(),
    }
}

fn config(devices: Vec<Device>) -> DeviceConfig {
    DeviceConfig { devices }
}

/// The text without spaces and ends of lines.
fn compact(text: &str) -> String {
    text.lines()
        .map(|line| line.trim_start().replace("\": ", "\":"))
        .collect()
}

#[test]
fn an_nvme_file_is_that_of_the_control_plane() {
    let options = Options {
        without_devices: true,
        ..Options::default()
    };
    let text = config(vec![device(0, "nvme", "0000:81:00.0")]).render(&options);
    assert_eq!(
        compact(&text),
        r#"{"daos_data":{"config":[]},"subsystems":[{"subsystem":"bdev","config":[{"params":{"bdev_io_pool_size":65536,"bdev_io_cache_size":256},"method":"bdev_set_options"},{"params":{"transport_retry_count":4,"timeout_us":0,"nvme_adminq_poll_period_us":100000,"action_on_timeout":"none","nvme_ioq_poll_period_us":0},"method":"bdev_nvme_set_options"},{"params":{"trtype":"PCIe","name":"Nvme_host1_0_1_0","traddr":"0000:81:00.0"},"method":"bdev_nvme_attach_controller"},{"params":{"enable":false,"period_us":0},"method":"bdev_nvme_set_hotplug"}]}]}"#
    );
    assert!(
        text.starts_with("{\n  \"daos_data\": {\n    \"config\": []\n  },\n"),
        "{text}"
    );
}

#[test]
fn a_controller_is_attached_once_for_all_of_its_namespaces() {
    let names = ["0000:82:00.0/1", "0000:81:00.0", "0000:82:00.0/2"];
    let devices = (0..).zip(names).map(|(n, name)| device(n, "nvme", name));
    let text = compact(&config(devices.collect()).render(&Options::default()));
    let attached: Vec<&str> = text
        .split(r#""traddr":""#)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(attached, ["0000:82:00.0", "0000:81:00.0"]);
    for name in names {
        assert!(text.contains(&format!(r#""address":"{name}""#)), "{text}");
    }
}

#[test]
fn classes_and_options() {
    let devices = vec![
        device(0, "file", "/srv/b0"),
        device(1, "kdev", "/dev/sdb"),
        device(2, "malloc", "malloc0"),
        device(3, "acme", "slot 4"),
        device(4, "nvme", "0000:82:00.0"),
    ];
    let options = Options {
        hotplug: Some((0, 127)),
        vmd: true,
        accelerator: Some(Accelerator {
            engine: "dml".into(),
            options: 3,
        }),
        rpc_server: Some(RpcServer {
            socket: "/run/spdk.sock".into(),
        }),
        auto_faulty: Some(AutoFaulty {
            max_io_errs: 10,
            max_csum_errs: 20,
        }),
        iobuf: Some(IoBuffers {
            small: 8192,
            large: 1024,
        }),
        without_devices: false,
    };
    let text = compact(&config(devices).render(&options));
    let in_order = [
        r#"{"params":{"accel_engine":"dml","accel_opts":3},"method":"accel_props"}"#,
        r#"{"params":{"enable":true,"sock_addr":"/run/spdk.sock"},"method":"spdk_rpc_srv"}"#,
        r#"{"params":{"enable":true,"max_io_errs":10,"max_csum_errs":20},"method":"auto_faulty"}"#,
        r#"{"params":{"begin":0,"end":127},"method":"hotplug_busid_range"}],"devices":["#,
        r#""class":"acme","plugin":"bdev-acme","address":"slot 4","name":"acme_host1_3_1_0""#,
        r#"{"params":{"block_size":4096,"name":"AIO_host1_0_1_0","filename":"/srv/b0"},"method":"bdev_aio_create"}"#,
        r#"{"params":{"block_size":0,"name":"AIO_host1_1_1_0","filename":"/dev/sdb"},"method":"bdev_aio_create"}"#,
        r#"{"params":{"block_size":4096,"num_blocks":262144,"name":"Malloc_host1_2_1_0"},"method":"bdev_malloc_create"}"#,
        r#""method":"bdev_nvme_attach_controller"}"#,
        r#"{"params":{"enable":true,"period_us":5000000},"method":"bdev_nvme_set_hotplug"}]}"#,
        r#"{"subsystem":"vmd","config":[{"params":{},"method":"vmd_enable"}]}"#,
        r#"{"subsystem":"iobuf","config":[{"params":{"small_pool_count":8192,"large_pool_count":1024},"method":"iobuf_set_options"}]}]}"#,
    ];
    let mut rest = text.as_str();
    for part in in_order {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("{part} is not in {rest}"));
        rest = &rest[at + part.len()..];
    }
    assert_eq!(rest, "");
}

#[test]
fn the_file_is_written_and_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    assert!(matches!(
        DeviceConfig::read(&path),
        Err(DeviceConfigError::Missing { .. })
    ));
    let written = config(vec![
        device(0, "file", "/srv/b0"),
        device(1, "file", "/srv/b1"),
    ]);
    written.write(&path, &Options::default()).unwrap();
    assert_eq!(DeviceConfig::read(&path).unwrap(), written);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        MODE
    );
    config(Vec::new())
        .write(&path, &Options::default())
        .unwrap();
    assert_eq!(DeviceConfig::read(&path).unwrap(), config(Vec::new()));
}

#[test]
fn inconsistent_lists_are_refused_on_either_way() {
    let two = || vec![device(0, "file", "/srv/b0"), device(1, "file", "/srv/b1")];
    type Change = fn(&mut Vec<Device>);
    let cases: [(Change, &str); 4] = [
        (
            |devices| devices.swap(0, 1),
            "device 1 is listed at position 0",
        ),
        (
            |devices| devices[1].label = devices[0].label,
            "is another device's",
        ),
        (
            |devices| devices[1].address = devices[0].address.clone(),
            "file /srv/b0 is listed twice",
        ),
        (
            |devices| devices[0].blocks = u64::MAX,
            "are not 1073741824 bytes",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    for (change, text) in cases {
        let mut devices = two();
        change(&mut devices);
        let config = config(devices);
        let error = config
            .write(&path, &Options::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(text) && error.contains(FILE_NAME), "{error}");
        assert!(!path.exists());
        let rendered = config.render(&Options::default());
        assert!(DeviceConfig::decode(&path, rendered.as_bytes()).is_err());
    }
    // A file made for SPDK alone has nothing for our engine.
    let without = config(two()).render(&Options {
        without_devices: true,
        ..Options::default()
    });
    let error = DeviceConfig::decode(&path, without.as_bytes())
        .unwrap_err()
        .to_string();
    assert!(error.contains("devices"), "{error}");
}

fn any_device() -> impl Strategy<Value = Device> {
    (
        any::<(String, String, String)>(),
        any::<(u32, u32, bool)>(),
        0u64..1 << 40,
        any::<Vec<(String, i64)>>(),
    )
        .prop_map(
            |((class, plugin, name), (tier, role_bits, volatile), blocks, settings)| Device {
                index: 0,
                class,
                plugin,
                address: String::new(),
                name,
                tier,
                role_bits,
                block_size: 512,
                blocks,
                size_bytes: blocks * 512,
                label: Uuid::nil(),
                volatile,
                settings: settings
                    .into_iter()
                    .map(|(key, value)| (key, value.into()))
                    .collect(),
            },
        )
}

proptest! {
    #[test]
    fn any_devices_come_back(mut devices in prop::collection::vec(any_device(), 0..6)) {
        for (index, device) in devices.iter_mut().enumerate() {
            device.index = index as u32;
            device.address = format!("{index} \" \\ \u{1}");
            device.label = Uuid::from_u128(index as u128);
        }
        let config = config(devices);
        let text = config.render(&Options::default());
        prop_assert_eq!(DeviceConfig::decode(Path::new("x"), text.as_bytes()).unwrap(), config);
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(DeviceConfig::decode(Path::new("x"), &bytes).is_err());
    }

    #[test]
    fn any_damage_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = config(vec![device(0, "file", "/srv/b0")]).render(&Options::default()).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let _ = DeviceConfig::decode(Path::new("x"), &text);
    }
}

#[test]
fn the_text_form_is_that_of_2019() {
    let names = ["0000:81:00.0", "0000:82:00.0/1", "0000:82:00.0/2"];
    let devices = (0..).zip(names).map(|(n, name)| device(n, "nvme", name));
    let text = config(devices.collect()).render_text("host1").unwrap();
    assert_eq!(
        text,
        "[Nvme]\n    TransportID \"trtype:PCIe traddr:0000:81:00.0\" Nvme_host1_0\n    TransportID \"trtype:PCIe \
         traddr:0000:82:00.0\" Nvme_host1_1\n    RetryCount 4\n    TimeoutUsec 0\n    ActionOnTimeout None\n    \
         AdminPollRate 100000\n    HotplugEnable No\n    HotplugPollRate 0\n"
    );
    for (class, addresses, expected) in [
        (
            "file",
            &["/tmp/daos-bdev1", "/tmp/daos-bdev2"][..],
            "[AIO]\n    AIO /tmp/daos-bdev1 AIO_host1_0 4096\n    AIO /tmp/daos-bdev2 AIO_host1_1 4096\n",
        ),
        (
            "kdev",
            &["/dev/sdb"],
            "[AIO]\n    AIO /dev/sdb AIO_host1_0\n",
        ),
        (
            "malloc",
            &["a", "b"],
            "[Malloc]\n    NumberOfLuns 2\n    LunSizeInMB 4000\n",
        ),
    ] {
        let devices = (0..).zip(addresses).map(|(n, address)| Device {
            size_bytes: 3_999_997_952,
            ..device(n, class, address)
        });
        let text = config(devices.collect()).render_text("host1").unwrap();
        assert_eq!(text, expected);
        check_text(&text).unwrap();
    }
}

#[test]
fn what_the_text_form_cannot_carry_is_refused() {
    for (class, address) in [
        ("acme", "x"),
        ("file", "/tmp/a b"),
        ("file", "/tmp/a\nb"),
        ("kdev", "/dev/\""),
    ] {
        let one = config(vec![device(0, class, address)]);
        assert!(one.render_text("h").is_err(), "{class} {address:?}");
    }
    for text in [
        "",
        "{}",
        "[Global]\n",
        "[AIO]\nAIO /a b\n",
        "[AIO]\n    AIO\u{1b} /a\n",
        "[Nvme]\n[AIO]\n",
    ] {
        assert!(check_text(text).is_err(), "{text:?}");
    }
}
