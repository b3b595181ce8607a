//! What was read against what must be there.

use super::area::Area;
use super::job::Pending;
use super::ledger::Ledger;
use super::stamp::{Finding, Stamp};
use crate::record::Mode;
use uuid::Uuid;

/// A wrong place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) kind: &'static str,
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
    pub(crate) expected: String,
    pub(crate) found: String,
}

/// What is constant during a run.
#[derive(Clone, Copy)]
pub(crate) struct Checker {
    pub(crate) run: Uuid,
    pub(crate) area: Area,
    pub(crate) block_size: u32,
    pub(crate) mode: Mode,
}

impl Checker {
    /// Marks the memory of a write.
    pub(crate) fn stamp(&self, request: &Pending, data: &mut [u8]) {
        let first = self.area.lba(request.cell);
        for (lba, block) in (first..).zip(data.chunks_exact_mut(self.block_size as usize)) {
            self.stamp_of(lba, request.number).write(block);
        }
    }

    fn stamp_of(&self, lba: u64, number: u64) -> Stamp {
        Stamp {
            run: self.run,
            lba,
            number,
        }
    }

    /// Compares the memory of a read with the ledger; returns the bytes that could be compared. A cell that was found
    /// wrong is not known any more, so that it is told once.
    pub(crate) fn check(
        &self,
        request: &Pending,
        data: &mut [u8],
        ledger: &mut Ledger,
        wrong: &mut Vec<Wrong>,
    ) -> u64 {
        let cell_bytes = self.area.cell_bytes() as usize;
        let mut checked = 0;
        for (cell, data) in (request.cell..).zip(data.chunks_exact_mut(cell_bytes)) {
            let known = ledger.known(cell);
            let before = wrong.len();
            match (self.mode, known) {
                (Mode::ReadOnly, _) => {
                    // 0 stands for "nothing is known".
                    let crc = crc_fast::crc32_iscsi(data).max(1);
                    if known == 0 {
                        ledger.set(cell, 1, crc);
                        continue;
                    }
                    if known != crc {
                        wrong.push(Wrong {
                            kind: "changed",
                            lba: self.area.lba(cell),
                            blocks: self.area.cell_blocks(),
                            expected: format!(
                                "data with CRC-32C {known:#010x}, as when it was first read"
                            ),
                            found: format!("CRC-32C {crc:#010x}, although nobody writes"),
                        });
                    }
                }
                (Mode::ReadWrite, 0) => continue,
                (Mode::ReadWrite, _) => self.check_blocks(cell, ledger.whole(known), data, wrong),
            }
            checked += cell_bytes as u64;
            if wrong.len() > before {
                ledger.set(cell, 1, 0);
            }
        }
        checked
    }

    fn check_blocks(&self, cell: u64, number: u64, data: &mut [u8], wrong: &mut Vec<Wrong>) {
        let first = self.area.lba(cell);
        for (lba, block) in (first..).zip(data.chunks_exact_mut(self.block_size as usize)) {
            if let Err(finding) = self.stamp_of(lba, number).check(block) {
                wrong.push(Wrong {
                    kind: finding.kind(),
                    lba,
                    blocks: 1,
                    expected: match finding {
                        Finding::Corrupt { .. } => {
                            format!("write {number} of block {lba}, bit by bit")
                        }
                        _ => format!("write {number} of block {lba}"),
                    },
                    found: finding.to_string(),
                });
            }
        }
    }
}
