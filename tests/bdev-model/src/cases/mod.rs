//! The cases of the suite. Each opens the device itself and leaves it closed.

mod contents;
mod queues;

use crate::driver::{Driver, Io};
use crate::model::fill;
use daos_plugin_api::abi::{BdevOp, Status};

pub use contents::*;
pub use queues::*;

const MIB: usize = 1 << 20;

fn write_pattern(driver: &mut Driver, lba: u64, blocks: u64, seed: u64) {
    let len = blocks as usize * driver.block();
    fill(&mut driver.memory()[..len], seed);
    assert_eq!(
        driver.run(&Io::with(BdevOp::WRITE, lba, blocks, 0..len)),
        Status::OK
    );
}

fn read(driver: &mut Driver, lba: u64, blocks: u64) -> Vec<u8> {
    let len = blocks as usize * driver.block();
    driver.memory()[..len].fill(0x5a);
    assert_eq!(
        driver.run(&Io::with(BdevOp::READ, lba, blocks, 0..len)),
        Status::OK
    );
    driver.memory()[..len].to_vec()
}

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    fill(&mut out, seed);
    out
}
