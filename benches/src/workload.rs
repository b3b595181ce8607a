//! A closed loop: so many workers, each with one operation under way, all on the calling thread.
//!
//! Both sides of a comparison with a server run in this loop, so that what differs is the server and
//! its protocol, not the way in which it is asked.

use crate::process::{Cpu, own_cpu};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// One connection, or one caller among several on a connection.
pub(crate) trait Worker: Sized + 'static {
    /// Carries out the worker's next operation on key `n`.
    async fn step(&mut self, n: u64) -> anyhow::Result<()>;
}

/// When a turn ends, whichever comes first, and which keys it uses.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) operations: u64,
    pub(crate) keys: Keys,
}

/// Which keys are used.
#[derive(Clone, Copy)]
pub(crate) enum Keys {
    /// Any of so many, at random.
    Random(u64),
    /// All of so many, once.
    Each(u64),
}

/// What came of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Microseconds of CPU per operation in the server.
    pub(crate) server_us: f64,
    /// Microseconds of CPU per operation in this process.
    pub(crate) client_us: f64,
}

/// Runs the workers until the limits are reached; hands them back for the next turn. To be called
/// inside a `LocalSet`.
pub(crate) async fn run<W: Worker>(
    workers: Vec<W>,
    limits: Limits,
    server: &Cpu,
) -> anyhow::Result<(Turn, Vec<W>)> {
    let count = workers.len() as u64;
    let server_before = server.used()?;
    let own_before = own_cpu();
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for (number, mut worker) in workers.into_iter().enumerate() {
        let number = number as u64;
        running.spawn_local(async move {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number + 1);
            let mut done = 0;
            while done * count + number < limits.operations && begun.elapsed() < limits.time {
                let n = match limits.keys {
                    Keys::Random(keys) => {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random % keys
                    }
                    Keys::Each(keys) if done * count + number >= keys => break,
                    Keys::Each(_) => done * count + number,
                };
                worker.step(n).await?;
                done += 1;
            }
            anyhow::Ok((done, worker))
        });
    }
    let (mut operations, mut workers) = (0, Vec::new());
    while let Some(ended) = running.join_next().await {
        let (done, worker) = ended??;
        operations += done;
        workers.push(worker);
    }
    let elapsed = begun.elapsed();
    let each = operations.max(1) as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / each;
    let turn = Turn {
        rate: operations as f64 / elapsed.as_secs_f64(),
        server_us: micros(server.used()?.saturating_sub(server_before)),
        client_us: micros(own_cpu().saturating_sub(own_before)),
    };
    Ok((turn, workers))
}

/// A value of `len` bytes; its first bytes say of which key it is (see [`stamp`]).
pub(crate) fn value(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Makes a value that of key `n`.
pub(crate) fn stamp(value: &mut [u8], n: u64) {
    value[..8].copy_from_slice(&n.to_le_bytes());
}

/// Checks that a value of `len` bytes is that of key `n`.
pub(crate) fn check(value: &[u8], len: usize, n: u64) -> anyhow::Result<()> {
    anyhow::ensure!(
        value.len() == len && value[..8] == n.to_le_bytes(),
        "key {n} has another value than was put"
    );
    Ok(())
}

/// Bytes of a key: as many as redis-benchmark uses.
pub(crate) const KEY: usize = 16;

/// Key `n` as text.
pub(crate) fn key(n: u64) -> [u8; KEY] {
    let mut out = *b"key:000000000000";
    let mut left = n;
    for digit in out[4..].iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(Vec<u64>);

    impl Worker for Count {
        async fn step(&mut self, n: u64) -> anyhow::Result<()> {
            tokio::task::yield_now().await;
            self.0.push(n);
            Ok(())
        }
    }

    #[test]
    fn each_key_is_used_once_and_the_limit_is_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let own = Cpu::of(std::process::id());
        let used = |keys, operations| {
            let limits = Limits {
                time: Duration::from_secs(60),
                operations,
                keys,
            };
            let workers = (0..4).map(|_| Count(Vec::new())).collect();
            let all = async { run(workers, limits, &own).await.unwrap().1 };
            let all = tokio::task::LocalSet::new().block_on(&runtime, all);
            let mut all: Vec<u64> = all.into_iter().flat_map(|w| w.0).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(used(Keys::Each(10), u64::MAX), (0..10).collect::<Vec<_>>());
        let random = used(Keys::Random(5), 30);
        assert_eq!(random.len(), 30);
        assert!(random.iter().all(|n| *n < 5));
    }

    #[test]
    fn keys_and_values_tell_their_number() {
        assert_eq!(&key(120_034), b"key:000000120034");
        let mut value = value(64);
        stamp(&mut value, 77);
        assert!(check(&value, 64, 77).is_ok());
        assert!(check(&value, 64, 78).is_err());
        assert!(check(&value[..63], 64, 77).is_err());
    }
}
