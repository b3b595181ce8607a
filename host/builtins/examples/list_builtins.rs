//! Prints the names of the built-in plugins, for `tests/builtins-lto`.

fn main() {
    for built_in in daos_builtins::all() {
        println!("{}", daos_builtins::name(built_in));
    }
}
