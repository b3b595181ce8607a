//! What a crash does to a bdev: what flush or FUA covers stays, of the rest anything may.

mod support;

use bdev_malloc::BdevMalloc;
use crash_images::{Crash, Power, Tear};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Request, Status};
use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::thunks;
use serde_json::json;
use std::collections::BTreeSet;
use support::Bed;

const SEEDS: u64 = 40;

/// What is seen after a crash with each seed.
fn outcomes<T: Ord>(tear: Tear, work: impl Fn(&Bed), see: impl Fn(&Bed) -> T) -> BTreeSet<T> {
    (0..SEEDS)
        .map(|seed| {
            let bed = Bed::new(tear);
            work(&bed);
            bed.power.crash(seed).expect("crash");
            see(&bed)
        })
        .collect()
}

#[test]
fn an_unflushed_write_can_vanish_and_can_survive() {
    let seen = outcomes(
        Tear::Block,
        |bed| bed.open().write(0, 7),
        |bed| bed.blocks(1)[0][0],
    );
    assert_eq!(seen, BTreeSet::from([0, 7]));
}

#[test]
fn a_flushed_write_cannot_vanish() {
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        disk.write(0, 7);
        disk.flush();
        disk.write(1, 8);
    };
    let seen = outcomes(Tear::Sector, work, |bed| {
        let blocks = bed.blocks(1);
        assert!(blocks[0].iter().all(|b| *b == 7));
    });
    assert_eq!(seen.len(), 1);
}

#[test]
fn a_write_with_fua_cannot_vanish_and_takes_nothing_along() {
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        disk.write(1, 1);
        disk.write_fua(0, 7);
    };
    let seen = outcomes(Tear::Sector, work, |bed| {
        let blocks = bed.blocks(2);
        assert!(blocks[0].iter().all(|b| *b == 7));
        blocks[1][0]
    });
    assert_eq!(seen, BTreeSet::from([0, 1]), "FUA is no flush");
}

#[test]
fn writes_reach_the_medium_in_any_order() {
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        disk.write(0, 1);
        disk.write(1, 2);
    };
    let seen = outcomes(Tear::Block, work, |bed| {
        let blocks = bed.blocks(2);
        (blocks[0][0], blocks[1][0])
    });
    assert_eq!(seen, BTreeSet::from([(0, 0), (1, 0), (0, 2), (1, 2)]));
}

#[test]
fn an_overwritten_version_can_be_the_one_that_survives() {
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        disk.write_fua(0, 1);
        disk.write(0, 2);
        disk.write(0, 3);
    };
    let seen = outcomes(Tear::Block, work, |bed| bed.blocks(1)[0][0]);
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_large_write_can_be_torn_between_its_blocks_but_not_inside_one() {
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        let data = vec![5; 4 * disk.block()];
        assert_eq!(disk.batch(&[(BdevOp::WRITE, 0, 0, &data)], 1), [Status::OK]);
    };
    let seen = outcomes(Tear::Block, work, |bed| {
        let blocks = bed.blocks(4);
        for block in &blocks {
            assert!(block.iter().all(|b| *b == block[0]), "torn inside a block");
        }
        blocks.iter().map(|b| b[0]).collect::<Vec<_>>()
    });
    let whole = [vec![0; 4], vec![5; 4]];
    assert!(
        seen.iter().any(|blocks| !whole.contains(blocks)),
        "{seen:?}"
    );
}

#[test]
fn sectors_tear_inside_large_blocks() {
    let block = Bed::new(Tear::Sector).open().block();
    if block <= 512 {
        println!(
            "NOT RUN sectors_tear_inside_large_blocks: the wrapped device has {block}-byte blocks"
        );
        return;
    }
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        disk.write_fua(0, 1);
        disk.write(0, 2);
    };
    let seen = outcomes(Tear::Sector, work, |bed| {
        let blocks = bed.blocks(1);
        blocks[0]
            .chunks(512)
            .map(|sector| {
                assert!(
                    sector.iter().all(|b| *b == sector[0]),
                    "torn inside a sector"
                );
                sector[0]
            })
            .collect::<Vec<_>>()
    });
    assert!(
        seen.iter().any(|s| s.contains(&1) && s.contains(&2)),
        "{seen:?}"
    );
}

#[test]
fn a_flush_does_not_cover_writes_that_had_not_completed_when_it_was_submitted() {
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        let data = vec![7; disk.block()];
        let steps = [
            (BdevOp::WRITE, 0, 0, &data[..]),
            (BdevOp::FLUSH, 0, 0, &[][..]),
        ];
        assert_eq!(disk.batch(&steps, 2), [Status::OK, Status::OK]);
    };
    let seen = outcomes(Tear::Block, work, |bed| bed.blocks(1)[0][0]);
    assert_eq!(seen, BTreeSet::from([0, 7]));
}

#[test]
fn a_flush_or_fua_that_nobody_saw_complete_promises_nothing() {
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        disk.write(0, 7);
        let data = vec![8; disk.block()];
        let steps = [
            (BdevOp::FLUSH, 0, 0, &[][..]),
            (BdevOp::WRITE, Request::FUA, 1, &data[..]),
        ];
        assert!(disk.batch(&steps, 0).is_empty());
    };
    let seen = outcomes(Tear::Block, work, |bed| {
        let blocks = bed.blocks(2);
        (blocks[0][0], blocks[1][0])
    });
    assert_eq!(seen, BTreeSet::from([(0, 0), (7, 0), (0, 8), (7, 8)]));
}

#[test]
fn zeroes_are_cached_like_other_writes() {
    let work = |bed: &Bed| {
        let mut disk = bed.open();
        disk.write_fua(0, 9);
        let length = vec![0xff; disk.block()];
        let step = (BdevOp::WRITE_ZEROES, 0, 0, &length[..]);
        assert_eq!(disk.batch(&[step], 1), [Status::OK]);
    };
    let seen = outcomes(Tear::Block, work, |bed| bed.blocks(1)[0][0]);
    assert_eq!(seen, BTreeSet::from([0, 9]));
}

#[test]
fn the_same_seed_leaves_the_same_image() {
    let image = |seed| {
        let bed = Bed::new(Tear::Sector);
        let mut disk = bed.open();
        for n in 0..64 {
            disk.write(n % 16, n as u8 + 1);
        }
        drop(disk);
        let survival = bed.power.crash(seed).expect("crash");
        (survival, bed.blocks(16))
    };
    assert_eq!(image(3), image(3));
    assert_ne!(image(3), image(4));
}

#[test]
fn what_was_open_stays_dead_and_new_openers_see_the_image() {
    let bed = Bed::new(Tear::Block);
    let mut old = bed.open();
    old.write_fua(0, 1);
    bed.power.fail();
    let data = vec![2; old.block()];
    let step = (BdevOp::WRITE, Request::FUA, 0, &data[..]);
    assert_eq!(old.batch(&[step], 1), [Status::DEVICE_GONE]);
    bed.power.crash(1).expect("crash");
    assert_eq!(old.batch(&[step], 1), [Status::DEVICE_GONE], "still dead");
    assert_eq!(bed.blocks(1)[0][0], 1);
    drop(old);
    bed.open().write_fua(0, 3);
    assert_eq!(bed.blocks(1)[0][0], 3);
}

#[test]
fn a_planned_failure_strikes_after_so_many_operations() {
    let bed = Bed::new(Tear::Block);
    let mut disk = bed.open();
    bed.power.fail_after(2);
    disk.write_fua(0, 1);
    disk.write_fua(1, 1);
    let data = vec![1; disk.block()];
    let step = (BdevOp::WRITE, Request::FUA, 2, &data[..]);
    assert_eq!(disk.batch(&[step], 1), [Status::DEVICE_GONE]);
    assert!(bed.power.is_off());
    assert_eq!(bed.power.operations(), 2);
    bed.power.crash(0).expect("crash");
    let blocks = bed.blocks(3);
    assert_eq!([blocks[0][0], blocks[1][0], blocks[2][0]], [1, 1, 0]);
}

#[test]
fn without_a_crash_nothing_is_lost_by_closing() {
    let bed = Bed::new(Tear::Block);
    bed.open().write(0, 7);
    assert_eq!(bed.blocks(1)[0][0], 7);
    let flags = bed.open().device().geometry().flags;
    assert_ne!(flags & BdevGeometry::VOLATILE_CACHE, 0);
    assert_eq!(flags & BdevGeometry::EPHEMERAL, 0);
}

#[test]
fn a_cached_bdev_keeps_every_promise() {
    let crash = Crash::wrap(thunks::table::<BdevMalloc>(), &Power::on(), Tear::Sector);
    let crash = crash.expect("wrapped");
    let config = json!({"bdev_number": 2, "bdev_size_mib": 8});
    check(
        crash.table(),
        Target::new(ClassKind::Bdev, "malloc", config),
    );
}
