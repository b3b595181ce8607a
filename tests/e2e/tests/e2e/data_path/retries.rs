//! Changes that are repeated across the deaths of engine and server take effect once.

use daos_e2e::Site;
use daos_e2e::peer::{Fabric, OBJECT, Peer, dkey_of, get, put};
use daos_wire::WireStatus;
use uuid::Uuid;

/// A client does not hear that its change was carried out, since the server dies; when it asks again somebody
/// else has changed the same value since. Its repetition is answered and overwrites nothing.
#[test]
fn a_change_that_is_repeated_at_the_next_server_is_not_made_again() {
    let mut site = Site::with_file();
    site.tell_addresses();
    let mut server = site.start();
    server.make_ready();
    let client = Uuid::new_v4();
    let mut place = site.place();
    let dkey = dkey_of(0, 2);
    for life in 1..=3 {
        let fabric = Fabric::open(&place);
        let mut peer = Peer::new(&fabric, &place, 0, client);
        let mine = put(life, &dkey, b"mine");
        assert_eq!(peer.ask(&mine).status, WireStatus::OK);
        if life == 2 {
            server.kill_engine(0);
            server.wait_state("restarted", |s| {
                s["phase"] == "ready" && s["engines"][0]["restarts"] == 1
            });
        } else {
            server.kill();
            drop(server);
            server = site.start();
            server.wait_phase("ready");
        }
        place = site.place();
        let fabric = Fabric::open(&place);
        let mut other = Peer::new(&fabric, &place, 0, Uuid::new_v4());
        assert_eq!(other.ask(&put(1, &dkey, b"theirs")).status, WireStatus::OK);
        let mut peer = Peer::new(&fabric, &place, 0, client);
        for _ in 0..3 {
            assert_eq!(peer.ask(&mine).status, WireStatus::OK, "life {life}");
        }
        let said = other.ask(&get(2, &dkey));
        assert_eq!(said.inline, b"theirs", "life {life}: {OBJECT:?}");
    }
    server.stop();
}
