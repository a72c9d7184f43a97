//! `cargo run --release -p comparison`: halloo beside other servers on this machine.

fn main() -> std::process::ExitCode {
    comparison::main()
}
