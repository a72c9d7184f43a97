//! halloo beside other servers on this machine: what an exchange costs each of them, how fast they answer, what they
//! keep, and how that grows.
//!
//! `cargo run --release -p comparison` runs all of it in a few minutes.

mod arguments;
mod load;
mod machine;
mod measure;
mod process;
mod serve;
mod servers;
mod statistics;
mod workload;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use arguments::{Arguments, Part};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.exit_code() == 0 => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{}", arguments::sentence(&error));
            return ExitCode::from(2);
        }
    };
    let result = match arguments.part {
        Some(Part::Serve { server, mode }) => serve::run(server, mode),
        Some(Part::Hold { .. }) => Ok(()),
        None => run(&arguments),
    };
    if let Err(error) = result {
        eprintln!("comparison: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let machine = machine::Machine::prepare()?;
    let servers = arguments.chosen_servers();
    let site = servers::Site::prepare(&servers)?;
    machine.go_to_server_core()?;
    let time = Duration::from_secs_f64(arguments.seconds);
    for workload in arguments.workloads() {
        let mut all: Vec<Vec<f64>> = vec![Vec::new(); servers.len()];
        for _ in 0..arguments.rounds {
            for (server, figures) in servers.iter().zip(&mut all) {
                let running = site.start(*server, workload.mode())?.ok_or("absent")?;
                let cost = measure::cost(&running, workload.shape(), time)?;
                figures.push(cost.nanos);
            }
        }
        for (server, figures) in servers.iter().zip(&all) {
            let ratios = figures.iter().zip(&all[0]).map(|(own, floor)| own / floor);
            let ratio = statistics::Figure::of(ratios).ok_or("no rounds")?;
            let nanos = statistics::Figure::of(figures.iter().copied()).ok_or("no rounds")?;
            println!(
                "{:12} {:25} {:8.0} ns {:14} {:5.2} {}",
                workload.name(),
                server.title(),
                nanos.median,
                nanos.spread(),
                ratio.median,
                ratio.spread()
            );
        }
    }
    Ok(())
}
