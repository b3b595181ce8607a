//! A client in a process of its own that asks for more than it helps with, to be killed in the middle of it:
//! offers large values to a target, and says that it is ready; when standard input ends or has a line, it tells the target
//! to read them, makes progress until it has been told and for a while, says so, and stands still.
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
    let offered: Vec<_> = (1..=values)
        .map(|sequence| {
            let value = vec![sequence as u8; 1 << 20];
            let rma = peer.offer(value.clone());
            peer.encoded(&put_rma(sequence, &dkey, &value, rma))
        })
        .collect();
    println!("ready");
    std::io::stdout().flush().expect("somebody reads");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("standard input can be read");
    for message in offered {
        peer.send_bytes(&message);
    }
    peer.flush();
    peer.idle(Duration::from_micros(pause));
    println!("standing still");
    std::io::stdout().flush().expect("somebody reads");
    loop {
        std::thread::park();
    }
}
