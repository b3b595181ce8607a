//! `daos_server`: the control-plane daemon of a storage node.
fn main() {}
