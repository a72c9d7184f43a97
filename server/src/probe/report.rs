//! The lines of a probe: results, and a summary at the end.
//!
//! A failed write is kept and ends no request, except that a reader that has closed the pipe has read enough.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io;
use std::time::{Instant, SystemTime};

use crate::output::standard_stream;
use crate::probe::latencies::{Latencies, Tally};
use crate::probe::query_result::{Outcome, QueryResult};
use crate::text::address::Endpoint;
use crate::text::bound_address::BoundAddress;
use crate::text::duration::{format_elapsed, format_json_millis};
use crate::text::escape;
use crate::text::greeting_event::write_json_head;
use crate::text::protocol::Protocol;

/// A target over one protocol.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) protocol: Protocol,
    pub(crate) target: Endpoint,
}

/// Which results are printed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// One for each lane, in the order of the lanes.
    AsGiven,
    /// Each when it is known.
    AsKnown,
}

/// The lanes with their results so far.
#[derive(Debug)]
pub(crate) struct Report {
    lanes: Vec<(Lane, Tally)>,
    started: Instant,
    is_json: bool,
    order: Order,
    /// The results that wait for those of earlier lanes, from the first lane that has none yet.
    unprinted: VecDeque<Option<QueryResult>>,
    /// The first error of standard output.
    error: Option<io::Error>,
}

impl Report {
    pub(crate) fn new(lanes: Vec<Lane>, is_json: bool, order: Order) -> Self {
        let unprinted = lanes.iter().map(|_| None).collect();
        let lanes = lanes.into_iter().map(|lane| (lane, Tally::default())).collect();
        Self { lanes, started: Instant::now(), is_json, order, unprinted, error: None }
    }

    /// Counts a result for the summary.
    pub(crate) fn count(&mut self, index: usize, result: &QueryResult) {
        self.lanes[index].1.add(result);
    }

    /// Prints a result, once those of earlier lanes are printed if the order is that of the lanes.
    pub(crate) fn add(&mut self, index: usize, result: QueryResult) {
        if self.order == Order::AsKnown {
            self.print(index, &result);
            return;
        }
        let printed = self.lanes.len() - self.unprinted.len();
        self.unprinted[index - printed] = Some(result);
        while let Some(result) = self.unprinted.front_mut().and_then(Option::take) {
            self.print(self.lanes.len() - self.unprinted.len(), &result);
            self.unprinted.pop_front();
        }
    }

    /// Whether the reader of standard output has closed it.
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The first error of standard output, unless its reader has closed it.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }

    fn print(&mut self, index: usize, result: &QueryResult) {
        let lane = &self.lanes[index].0;
        if self.is_json {
            self.write_line(&json_line(lane, result));
            return;
        }
        let Lane { protocol, target } = lane;
        let address = result.address.map_or_else(|| target.to_string(), |address| address.to_string());
        for note in &result.notes {
            super::write_to_stderr(&format!("{protocol} {address}: {note}"));
        }
        let (word, elapsed, text) = (result.outcome.as_str(), format_elapsed(result.elapsed), &result.text);
        self.write_line(&format!("{protocol} {address} {word} {elapsed} {text}"));
    }

    fn write_line(&mut self, line: &str) {
        if !self.is_reader_gone()
            && let Err(error) = standard_stream::stdout().write_line(line)
        {
            self.error.get_or_insert(error);
        }
    }

    /// Prints the summary: a line for each lane, or one JSON object.
    pub(crate) fn print_summary(&mut self) {
        let lines: Vec<String> = if self.is_json {
            vec![self.json_summary()]
        } else {
            self.lanes.iter().map(|(lane, tally)| summary_line(lane, tally)).collect()
        };
        for line in lines {
            self.write_line(&line);
        }
    }

    fn json_summary(&self) -> String {
        let targets: Vec<String> = self.lanes.iter().map(|(lane, tally)| json_tally(lane, tally)).collect();
        let elapsed = format_json_millis(self.started.elapsed());
        format!(
            "{},\"elapsed_ms\":{elapsed},\"targets\":[{}]}}",
            json_head("summary", SystemTime::now()),
            targets.join(",")
        )
    }
}

fn summary_line(Lane { protocol, target }: &Lane, tally: &Tally) -> String {
    let mut line = format!("summary {protocol} {target} sent={} ok={} failed={}", tally.sent, tally.ok, tally.failed());
    if let Some(Latencies { min, median, p95, max }) = tally.latencies() {
        for (name, time) in [("min", min), ("median", median), ("p95", p95), ("max", max)] {
            // Writing into a string cannot fail.
            let _ = write!(line, " {name}={}", format_elapsed(time));
        }
    }
    line
}

fn json_tally(lane: &Lane, tally: &Tally) -> String {
    let latencies = tally.latencies();
    let time = |time: fn(&Latencies) -> std::time::Duration| {
        latencies.as_ref().map_or_else(|| "null".to_owned(), |latencies| format_json_millis(time(latencies)))
    };
    let (target, protocol) = (json_target(&lane.target), lane.protocol);
    format!(
        "{{\"target\":{target},\"protocol\":\"{protocol}\",\"sent\":{},\"ok\":{},\"failed\":{},\"min_ms\":{},\
         \"median_ms\":{},\"p95_ms\":{},\"max_ms\":{}}}",
        tally.sent,
        tally.ok,
        tally.failed(),
        time(|latencies| latencies.min),
        time(|latencies| latencies.median),
        time(|latencies| latencies.p95),
        time(|latencies| latencies.max),
    )
}

/// The object of a result. A text that is not a reply is its error.
fn json_line(Lane { protocol, target }: &Lane, result: &QueryResult) -> String {
    let mut line = json_head("answer", result.time);
    let address = result.address.map_or_else(|| "null".to_owned(), |address| format!("\"{address}\""));
    let (target, word, elapsed) = (json_target(target), result.outcome.as_str(), format_json_millis(result.elapsed));
    // Writing into a string cannot fail, here and below.
    let _ =
        write!(line, ",\"target\":{target},\"protocol\":\"{protocol}\",\"address\":{address},\"result\":\"{word}\"");
    let _ = write!(line, ",\"elapsed_ms\":{elapsed},\"tries\":{}", result.tries);
    let (bytes, is_truncated) =
        result.reply.as_ref().map_or((&[][..], false), |reply| (&reply.bytes, reply.is_truncated));
    let text = result.reply.as_ref().map_or_else(|| "null".to_owned(), |_| escape::json(bytes));
    let _ = write!(line, ",\"bytes\":{},\"text\":{text},\"truncated\":{is_truncated}", bytes.len());
    if str::from_utf8(bytes).is_err() {
        let _ = write!(line, ",\"hex\":\"{}\"", escape::hex(bytes));
    }
    let is_error = result.reply.is_none() && result.outcome != Outcome::Ok;
    let error = if is_error { escape::json(result.text.as_bytes()) } else { "null".to_owned() };
    let notes: Vec<String> = result.notes.iter().map(|note| escape::json(note.as_bytes())).collect();
    let _ = write!(line, ",\"error\":{error},\"notes\":[{}]}}", notes.join(","));
    line
}

fn json_head(event: &str, time: SystemTime) -> String {
    let mut head = Vec::new();
    write_json_head(&mut head, event, time);
    String::from_utf8_lossy(&head).into_owned()
}

/// The target as it can be given: an address, or `unix:` and a path.
fn json_target(target: &Endpoint) -> String {
    match target {
        Endpoint::Internet(address) => format!("\"{address}\""),
        Endpoint::Unix(path) => {
            let path = BoundAddress::from_path(path.as_path()).json();
            format!("\"unix:{}", path.trim_start_matches('"'))
        }
    }
}
