//! Prints the fully commented configuration: `examples/daos_server.yml` is its output.

fn main() {
    print!("{}", daos_config::example());
}
