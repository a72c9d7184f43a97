//! The benchmark's program: `cargo run --release -p comparison`.

fn main() -> std::process::ExitCode {
    comparison::main()
}
