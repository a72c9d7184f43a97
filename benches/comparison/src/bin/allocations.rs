//! The library as a server that counts its allocations.
//!
//! Arguments: a mode, and the number of exchanges after which it prints the count and exits. It is a program of its
//! own, because counting costs time.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let exchanges = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(1);
    let counted = allocation_counter::measure(|| {
        if let Err(error) = comparison::serve_library(&mode, exchanges) {
            eprintln!("allocations: {error}");
            std::process::exit(1);
        }
    });
    println!("{}", counted.count_total);
}
