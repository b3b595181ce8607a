//! A client in a process of its own that asks for more than it helps with, to be killed in the middle of it:
//! offers large values to a target, tells it to read them, makes progress for a while, says so, and stands
//! still.
//!
//! `daos_e2e_peer PLACE... TARGET VALUES MICROSECONDS`

use daos_e2e::Place;
use daos_e2e::peer::{Fabric, Peer, dkey_of, put_rma};
use std::io::Write as _;
use std::time::Duration;
use uuid::Uuid;

fn main() {
    let mut words = std::env::args().skip(1);
    let place = Place::from_words(&mut words);
    let mut number = || -> u64 {
        let word = words.next().expect("another number");
        word.parse().expect("a number")
    };
    let (target, values, pause) = (number(), number(), number());
    let targets = place.uri.targets.len() as u32;
    let dkey = dkey_of(target as u32, targets);
    let fabric = Fabric::open(&place);
    let mut peer = Peer::new(&fabric, &place, target as usize, Uuid::new_v4());
    for sequence in 1..=values {
        let value = vec![sequence as u8; 1 << 20];
        let rma = peer.offer(value.clone());
        peer.send(&put_rma(sequence, &dkey, &value, rma));
    }
    peer.idle(Duration::from_micros(pause));
    println!("standing still");
    std::io::stdout().flush().expect("somebody reads");
    loop {
        std::thread::park();
    }
}
