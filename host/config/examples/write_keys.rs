//! Prints the table of keys and their effects: `docs/config-keys.md` is its output.

fn main() {
    print!("{}", daos_config::effects_table());
}
