use super::*;
use proptest::prelude::*;

const EXAMPLE: &str = "; a comment\n[global]\nrw=randrw\nrwmixread=70\nbs=8k\nruntime=10m\ntime_based\n\n[one]\n\
                       iodepth=16\nverify=crc32c\n# more\n[two]\nrw=write\nbs=,64k\nsize=50%\noffset=1g\n\
                       rate=1m,2m\nrate_iops=100\nnumjobs=2\n[three]\nbssplit=4k/10:64k/50:32k/40,512\nruntime=5\n";

#[test]
fn sections_inherit_what_is_global() {
    let load = parse("x.fio", EXAMPLE).unwrap();
    let [one, two, three] = &load.jobs[..] else {
        panic!("{load:?}")
    };
    assert_eq!(
        (one.name.as_str(), one.depth, one.verify),
        ("one", 16, true)
    );
    assert_eq!((one.pattern.random, one.pattern.read_percent), (true, 70));
    assert_eq!((one.runtime_ms, one.time_based), (Some(600_000), true));
    assert_eq!(one.read_sizes[0].bytes, 8192);
    assert_eq!((two.pattern.random, two.pattern.read_percent), (false, 0));
    assert_eq!(
        (two.read_sizes[0].bytes, two.write_sizes[0].bytes),
        (8192, 65536)
    );
    assert_eq!(
        (two.size, two.offset),
        (Some(Extent::Percent(50)), Extent::Bytes(1 << 30))
    );
    assert_eq!(two.rate.read_bytes, Some(1 << 20));
    assert_eq!(two.rate.write_bytes, Some(2 << 20));
    assert_eq!(
        (two.rate.read_iops, two.rate.write_iops),
        (Some(100), Some(100))
    );
    assert_eq!((two.copies, two.verify), (2, false));
    assert_eq!(three.read_sizes.len(), 3);
    assert_eq!(
        three.write_sizes,
        [SizeShare {
            bytes: 512,
            percent: 100
        }]
    );
    assert_eq!(load.duration_ms(), Some(600_000));
}

#[test]
fn shares_that_are_left_out_are_filled() {
    let percents = |text| split(text).map(|s| s.iter().map(|s| s.percent).collect::<Vec<_>>());
    assert_eq!(percents("4k/50:1k/:32k/").unwrap(), [50, 25, 25]);
    assert_eq!(percents("4k:1k:32k").unwrap(), [34, 33, 33]);
    assert!(percents("4k/50:8k/20").unwrap_err().contains("70"));
    assert!(percents("4k/90:8k/20").unwrap_err().contains("exceed"));
}

#[test]
fn what_cannot_be_used_is_named_with_its_line() {
    for (text, line, words) in [
        ("[a]\nrw=randrw\niodpth=4\n", 3, &["iodpth", "iodepth"][..]),
        ("[a]\nioengine=libaio\n", 2, &["ioengine", "not supported"]),
        (
            "[a]\nfilename=/dev/sda\n",
            2,
            &["filename", "burn-in understands"],
        ),
        ("bs=4k\n", 1, &["before the first section"]),
        ("[a\n", 1, &["heading"]),
        ("[]\n", 1, &["heading"]),
        ("", 1, &["no job"]),
        ("[global]\nbs=4k\n", 2, &["no job"]),
        ("[a]\nrw=trim\n", 2, &["trim", "randrw"]),
        ("[a]\nrw\n", 2, &["needs a value"]),
        ("[a]\nrwmixread=101\n", 2, &["101"]),
        ("[a]\nbs=4k,4k,4k\n", 2, &["trims"]),
        ("[a]\nbs=1000\n", 1, &["multiples of 512"]),
        ("[a]\nbs=4ki\n", 2, &["4ki"]),
        ("[a]\nsize=${SIZE}\n", 2, &["variables"]),
        ("[a]\nsize=0\n", 1, &["size is 0"]),
        ("[a]\nverify=md5\n", 2, &["md5", "crc32c"]),
        ("[a]\ntime_based=maybe\n", 2, &["maybe"]),
        ("[a]\ntime_based\n", 1, &["runtime"]),
        ("[a]\niodepth=0\n", 1, &["iodepth"]),
        ("[a]\nnumjobs=99999999999\n", 2, &["too much"]),
    ] {
        let error = parse("job.fio", text).unwrap_err();
        assert_eq!(error.line, line, "{text:?}: {error}");
        let told = error.to_string();
        assert!(told.starts_with(&format!("job.fio:{line}: ")), "{told}");
        for word in words {
            assert!(told.contains(word), "{text:?}: {told}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(\\[[a-z]{0,3}\\]?\n|(rw|bs|bssplit|size|rate|runtime|verify|iodepth)=[0-9a-z,:/%]{0,8}\n|.{0,12}\n){0,12}") {
        match parse("f", &text) {
            Ok(load) => prop_assert!(load.check().is_ok()),
            Err(error) => {
                prop_assert!(error.line >= 1 && error.line <= text.lines().count().max(1));
                prop_assert!(!error.what.is_empty());
            }
        }
    }
}
