//! What `-h`, `--help` and the man pages print after the flags.
//!
//! No line has more than 80 columns. `sections` reads the texts: a line without an indent is a heading.

/// Joins texts to the one that stands after the flags.
pub(crate) fn after_flags(texts: &[&str]) -> String {
    texts.join("\n\n")
}

/// A section of such a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section<'t> {
    /// The heading, without its colon.
    pub(crate) heading: &'t str,
    /// What stands below it.
    pub(crate) blocks: Vec<Block>,
}

/// A part of a section.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// Sentences. The lines are joined.
    Paragraph(String),
    /// A term and its explanation, which stands two spaces after it or below it with a deeper indent.
    Term { term: String, explanation: String },
}

/// Reads the sections of a text. In a section of examples, each line begins a term.
pub(crate) fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut term_indent = 0;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        if indent == 0 {
            sections.push(Section { heading: line.trim_end_matches(':'), blocks: Vec::new() });
            continue;
        }
        let Some(Section { heading, blocks }) = sections.last_mut() else { continue };
        match blocks.last_mut() {
            Some(Block::Term { explanation, .. }) if indent > term_indent => add_words(explanation, body),
            Some(Block::Paragraph(paragraph)) if !body.contains("  ") => add_words(paragraph, body),
            _ if *heading == EXAMPLES || body.contains("  ") => {
                let (term, explanation) = body.split_once("  ").unwrap_or((body, ""));
                let explanation = explanation.trim_start().to_owned();
                blocks.push(Block::Term { term: term.to_owned(), explanation });
                term_indent = indent;
            }
            _ => blocks.push(Block::Paragraph(body.to_owned())),
        }
    }
    sections
}

fn add_words(text: &mut String, words: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(words);
}

/// The help of a flag as `-h` prints it: its first sentence, up to a semicolon, and its default.
pub(crate) fn short_help(help: &str) -> String {
    let (text, default) = help.rfind(" [default: ").map_or((help, ""), |start| help.split_at(start));
    let end = [". ", "; "].into_iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    format!("{}{default}", &text[..end])
}

/// The variables of a command, with one of its flags as an example.
macro_rules! environment {
    ($flag:literal, $variable:literal) => {
        concat!(
            "Environment:\n  Each flag has a variable: ",
            $flag,
            " is ",
            $variable,
            ". A flag replaces\n  its own variable without a warning. It wins with a warning over the variable\n  \
             of another flag that contradicts it. An empty variable is ignored. For a flag\n  \
             without a value it is true or false."
        )
    };
}

/// The heading of the examples.
pub(crate) const EXAMPLES: &str = "Examples";

/// Printed after the flags of `halloo serve`, by `-h` and `--help`.
pub(crate) const SERVE_EXAMPLES: &str = "\
Examples:
  halloo                              TCP and UDP on localhost:8888
  halloo --listen 0.0.0.0:9000        on every IPv4 address of this machine
  halloo --tcp :9000 --mode line      one greeting for each line
  halloo --greeting 'Hello, {peer}!'  a greeting of your own
  halloo --greeting '{json}\\n'        who am I: all that is known of a client
  halloo --unix /run/halloo.sock      only a unix socket
  halloo --workers 4 --events off     four threads
  halloo --tcp :9000 --proxy-protocol 10.0.0.1
                                      behind the load balancer 10.0.0.1
  halloo --admin 9090                 metrics and health on localhost:9090
  halloo --fault delay=1s,share=10%   one client in ten waits for its reply
  halloo --listen 127.0.0.1:0 --max-greetings 2 --events json
  halloo --record run.json            every step, for halloo view and Perfetto
  halloo --record run.html            the same as a page for a browser";

/// Printed after the examples of `halloo serve`, by `-h` and `--help`.
pub(crate) const SERVE_ENVIRONMENT: &str = "\
Environment:
  Each flag has a variable: --udp-rate is HALLOO_UDP_RATE. A flag replaces its
  own variable without a warning. It wins with a warning over the variable of
  another flag that contradicts it. An empty variable is ignored. For -v and -q
  the variable is a number, or true or false.";

/// Printed after the flags of `halloo serve`, by `--help` only.
pub(crate) const SERVE_NOTES: &str = "\
Addresses and paths:
  An address is 9000, :9000, localhost:9000, 127.0.0.1:9000, [::1]:9000 or
  name:9000. The default host is localhost, the default port 8888; port 0 is
  any free one.
  To serve several, repeat the flag or separate them by commas; the same for
  paths. The variable of another flag adds to them: HALLOO_TCP to --listen. The
  flag's own variable is replaced: HALLOO_TCP has no effect beside --tcp.
  A socket file that no server uses is replaced; any other file is left alone.
  On Linux a path with a leading @ is an abstract name; write a file as ./@name.

Values:
  Times are written as 500ms, 10s, 2m or 1m30s; units are ms, s, m, h and d.
  Escapes in a greeting are \\n \\r \\t \\0 \\\\ \\xNN and \\u{N}. A brace is {{ or }};
  the braces of \\u{N} are single. A greeting has at most 16 KiB.
  A LISTENER is 9000, 127.0.0.1:9000, tcp:9000, udp:localhost:9000, or
  unix:/run/halloo.sock. A variable has one LISTENER=TEXT on each line.

Placeholders of a greeting:
  {peer}       the address of the client; the word unix at a unix socket
  {peer_ip}    its IP address; the word unix at a unix socket
  {peer_port}  its port; - at a unix socket
  {local}      the address of the server that the client used, or the path
  {protocol}   tcp, udp or unix
  {number}     1 for the first greeting, 2 for the second
  {time}       the time in UTC
  {hostname}   the name of this machine
  {received}   what the client has sent, at most 1,024 bytes. Over UDP it is
               cut so that the whole greeting is shorter than the datagram that
               it answers: hi gets at most one byte
  {json}       an object with all that is known of the client; over UDP without
               what it has sent

Output:
  The first line on standard output is READY with every address served. In a
  path, every byte except letters, digits and -._~/ is percent-encoded (%20).
  Errors and the log go to standard error.
  With --events json every line is an object, READY too. It contains paths as
  they are, except that bytes that are not UTF-8 become U+FFFD.
  event is ready, received, fault (a fault of --fault that the client meets),
  suppressed (count: events beyond 1000 a second) or lost (count: lines dropped
  because standard output was read too slowly).
  text is the beginning of the bytes received, at most 256. truncated is true
  if there were more. hex has the same bytes if they are not UTF-8.
  With --log-format json the log has time, level, target and message.
  The file of --ready-file is there while the server is ready. It is removed at
  the end, and one of a killed server when all sockets are open. A file that is
  not empty and does not begin with READY is an error, and stays.

Signals:
  SIGTERM, SIGINT  serve for --drain-delay, while /ready of --admin reports 503;
                   then reply to the requests sent before, and exit. greet also
                   waits for requests, for at most --drain-timeout; line, echo
                   and discard do not. A client that keeps its side open after
                   the reply delays the exit by at most 2 s, also the exit
                   after --max-greetings. A second signal resets the connections
                   that are left, also during the delay. --max-greetings and
                   --exit-when-idle stop without the delay.
  SIGHUP           the same if a standard stream is a terminal, else no effect
  SIGUSR1          log the counters
  SIGUSR2          with --record: end the recording and write it, or start the
                   next one; else no effect
  With --exit-on-eof the end of standard input has the effect of SIGTERM. Input
  that ends at once, such as /dev/null, is then an error.
  SIGHUP and SIGINT stay ignored if the parent ignores them (nohup, or & in a
  script).

Other variables:
  LISTEN_FDS       the number of sockets that a supervisor hands over. They
                   replace the default address; all workers serve them. They
                   are for the process LISTEN_PID
  NOTIFY_SOCKET    gets READY, STOPPING and, with WATCHDOG_USEC, watchdog
                   messages
  NO_COLOR         switches the colours of the help off

Recording:
  A recording has an entry for every step of a worker: polls, events, accepts,
  reads, writes, callbacks, deadlines, closes. It starts with the server.
  It is written at the end, after the drain, and also after an error. It is
  written beside FILE and renamed, so that FILE is always a whole recording,
  and clients are served meanwhile. Each recording replaces the one before.
  SIGUSR2 ends and writes it at once; the next SIGUSR2 starts another one.
  While one is written, SIGUSR2 does not end the next.
  A folder that cannot be written is an error at the start. Later errors are
  log lines. If the recording at the end cannot be written, the exit status
  is 1.
  halloo view and https://ui.perfetto.dev read the file. If its name ends in
  .html or .htm, it is instead a page that plays the recording in a browser.
  It has the addresses of the clients, and bytes that they sent only with
  --record-payload.

Another user:
  --user needs root, or the same user. The files of unix sockets then belong to
  the user, which removes them at the end if it may write to their folder, and
  writes the files of --record and --ready-file.

Admin endpoint:
  --admin serves HTTP: /live, /ready, /metrics, /connections (JSON), /log-level
  and /faults. /ready is 200 from READY until a stop is requested, else 503.
  PUT /log-level with error, warn, info, debug or trace sets the level. READY
  has the address as admin=. The file of a unix socket has the mode 600. Over
  TCP there is no password: all clients that reach the address may read. Only
  clients on loopback or at the unix socket change something, and no web page
  does.

Faults:
  --fault FAULT, or FAULT,share=10%,listener=9000: the first for all clients.
  Of connections:
    delay=TIME      each reply is sent after this time; MIN..MAX: after a random
                    one between the two
    reset=BYTES     RST after that many bytes of the replies, or at their end
    half            the first half of the first reply, then FIN
    dribble=TIME    one byte each TIME; with ,bytes=N as many
    silence         no reply and no FIN, until the idle timeout
    refuse          RST right after the connect
  Of datagrams:
    delay=TIME      as above
    drop            no reply
    duplicate       the reply twice
    reorder         the reply after the next one, or after 50 ms
    truncate=BYTES  only the first bytes of the reply
  Each connection, and each datagram with a reply, meets at most one fault: the
  shares are taken in the order given. none stands alone, and sets no fault.
  PUT /faults of --admin replaces them, one on a line; a server without --fault
  refuses it. It is for new connections and datagrams: open connections keep the
  fault that they have. It begins the sequence of the seed and the counts of
  /faults again; those of /metrics go on.

PROXY protocol:
  Clients in the networks of --proxy-protocol are proxies: each sends a header
  of version 1 or 2 first, within 5 s. The address in it is that of the client
  in {peer}, events, limits and rates. Over UDP each datagram has a header of
  version 2. Other clients are served directly, and refused if they send a
  header. A client that may send one can choose its address: write only the
  addresses of proxies.

Workers:
  The kernel chooses a worker for each client by its address and port. READY,
  --max-greetings, --exit-when-idle and the drain apply to all workers
  together. --max-connections is divided among them: clients of a full worker
  wait even if another worker has room.

Exit status:
  0  stopped on request, by a signal or by a limit
  1  an error while running, or the recording could not be written at the end
  2  the command line is wrong
  3  an address, a path or an inherited socket could not be served, or the
     file of --record or --ready-file could not be written
  4  idle for --exit-when-idle before the last of --max-greetings was sent";

/// Printed after the flags of `halloo probe`, by `-h` and `--help`.
pub(crate) const PROBE_EXAMPLES: &str = "\
Examples:
  halloo probe localhost              TCP and UDP on port 8888
  halloo probe --tcp --expect Hello example.org:9000
  halloo probe --connect-only 9000
  halloo probe -6 example.org:9000
  halloo probe unix:/run/halloo.sock
  halloo probe --tcp --send 'PING\\r\\n' --expect PONG 6379
  halloo probe --wait 30s db:5432 cache:6379 --connect-only
                                      until both are up, 30 s at most
  halloo probe --wait-gone 10s 9000   until no server is there any more
  halloo probe --count 0 --json a:9000 b:9000
                                      every second, until Ctrl-C
  halloo probe --tcp --proxy=192.0.2.7 9000
                                      as a proxy with that client";

/// Printed after the examples of `halloo probe`, by `-h` and `--help`.
pub(crate) const PROBE_ENVIRONMENT: &str = environment!("--timeout", "HALLOO_PROBE_TIMEOUT");

/// Printed after the flags of `halloo probe`, by `--help` only.
pub(crate) const PROBE_NOTES: &str = "\
Targets:
  Each target is queried over TCP and UDP, or at its unix socket. All are
  queried at the same time, and none delays another one.

Output:
  One line for each request: protocol, address, result, time, text. With one
  request for each target the lines are in the order of the command line, else
  as they become known. Times are in milliseconds. Results:
    ok           a right reply, or with --connect-only a connection
    timeout      no reply in time
    refused      no server listens there
    unreachable  the address cannot be reached
    dns          the name is unknown, or has no address of the version asked for
    resolver     the lookup of the name failed
    mismatch     a wrong reply, or a connection closed without one
    reset        a connection closed by an RST before a right reply
  The first 64 KiB of a reply are read and printed. If the connection stays
  open, the reply ends after 250 ms of silence.
  If --count is not 1, the last lines begin with the word summary: for each
  target and protocol the requests sent, right replies (ok), other results
  (failed), and the shortest time of a right reply, the median, that of 95 per
  cent, and the longest.
  With --json each line is an object. event is answer or summary, result is the
  word, text the reply, error what happened instead, notes what else happened.
  halloo generate probe-schema prints the JSON Schema.

Repetition:
  With --count each target has its own requests, one after the other.
  --retries sends a datagram again over the same socket: the timeout is divided
  evenly by the tries, and a reply to any of them counts.
  --wait is done with a target after its first right reply, --wait-gone once it
  refuses connections or datagrams, cannot be reached, does not accept a
  connection in time, does not reply to a datagram in time, or has no name any
  more. A server that accepts connections is not gone, though it does not reply.
  The last request of --wait is cut short at the end of its time.

PROXY header:
  --proxy sends it before the request, over UDP in each datagram. Its
  destination is the address of the server. A SOURCE without a port has that of
  the probe.
  Over a unix socket the header has no client unless SOURCE is given.

Signals:
  With --count other than 1, SIGINT and SIGTERM end the requests: the summary is
  printed, and the exit status is that of the results so far. A second signal
  ends the probe at once. Else, and before the first result, they end it as they
  end other programs.

Values:
  Printed text has the escapes \\n \\r \\t \\0 \\\\ \\xNN and \\u{N}. --send, --expect
  and the greetings of halloo serve take the same escapes: printed text can be
  pasted there between single quotes. Write a single quote as \\x27. In a
  greeting, double the braces, except those of \\u{N}.

Names:
  The addresses of a name are tried in the resolver's order, until one accepts
  (TCP) or replies (UDP). After 250 ms of silence the next one is tried as well.
  Standard error lists the addresses that failed or were silent. If all fail,
  the output line lists them.

Exit status:
  Of several results the worst counts: 5, 3, 4, 0. With --wait and --wait-gone
  the last result of each target counts.
  0  every reply was right; with --wait-gone, every server is gone
  2  the command line is wrong
  3  refused, unreachable, or no address for the name
  4  no reply in time
  5  a wrong reply, or a connection closed or reset without a right one; with
     --wait-gone, a server is still there";

/// Printed after the flags of `halloo view`, by `-h` and `--help`.
pub(crate) const VIEW_EXAMPLES: &str = "\
Examples:
  halloo --record run.json            record a server until it ends, then
  halloo view --findings run.json     print what delayed its clients
  halloo view run.json --html run.html
                                      write a page that plays the recording";

/// Printed after the examples of `halloo view`, by `-h` and `--help`.
pub(crate) const VIEW_ENVIRONMENT: &str = "\
Environment:
  Each flag has a variable: --findings is HALLOO_VIEW_FINDINGS, which is true
  or false. The flag wins over the variable. An empty variable is ignored.";

/// Printed after the flags of `halloo view`, by `--help` only.
pub(crate) const VIEW_NOTES: &str = "\
Output:
  With --findings one line for each finding: time, loop, entry, kind, and what
  happened. Then a line with the number of findings, of entries, of entries
  that were lost because the recording was full, and of loops.
  With --html the last line begins with the name of the page. The page is
  written beside OUT and renamed, so that OUT is always a whole page. It is one
  file, and loads nothing from the network. If the recording has payload, only
  the owner can read the page. With --html - it is all that is printed.

Exit status:
  0  the page is written, and no finding; without --findings, also with some
  1  an error while writing
  2  the command line is wrong
  3  the file could not be read, or is not a whole recording, or a page could
     not be written to OUT
  5  findings, with --findings";

/// Printed after the flags of `halloo tour`, by `-h` and `--help`.
pub(crate) const TOUR_EXAMPLES: &str = "\
Examples:
  halloo tour                         list the twelve cases
  halloo tour 6                       run case 6: wrong, then right, and why
  halloo tour fatal-reset --html      the same, with pages for a browser
  halloo tour --against 127.0.0.1:9000
                                      try all cases on a server of your own
  halloo tour --against 9000 --mode line 1 6 7
                                      try three, on a server that reads lines
  halloo tour 6 --serve twin          only run the server with the mistake";

/// Printed after the examples of `halloo tour`, by `-h` and `--help`.
pub(crate) const TOUR_ENVIRONMENT: &str = environment!("--against", "HALLOO_TOUR_AGAINST");

/// Printed after the flags of `halloo tour`, by `--help` only.
pub(crate) const TOUR_NOTES: &str = "\
Cases:
  Each case has two servers and a hostile client. One server is on mio and has
  the mistake of the case, in one function. The other is on halloo's loop and
  is right. Both run as processes of their own on 127.0.0.1, with bounds on
  processor time and memory, and end with this program.

Files:
  The recordings are tour-06-twin.json and tour-06-halloo.json in the folder of
  --save, and with --html pages. Older ones are replaced. A tour that is
  interrupted leaves the files of the cases that were done, and no other.
  --serve writes its recording there, too, when its standard input ends.

A server of your own:
  The clients expect what --mode says. Before the first case, a line and a
  datagram show what the server does: a mode that does not fit is an error with
  the one that does. Cases of a protocol that it does not serve cannot be
  judged. Two more things are needed for all twelve: for case 8 a server that
  was started after ulimit -n 64, and for the cases 9 and 11 the line work 300,
  or that of --slow. It is sent alone; the reply comes after 300 ms of work.
  A case takes a few seconds. One that is not done within 20 s fails.
  Before each further case the server has to serve a calm client, within 2 s:
  a supervisor may start it again meanwhile. Else the cases that are left are
  not judged, and the last lines have the command for them. If the server ends
  during another case than 6, that case cannot be judged.
  A FAIL has what was sent, what came, and what to read. Try only servers of
  your own: the clients open many connections, and one mistake ends the server.

Output:
  With --json every line is an object. With --against it has case, name,
  verdict (pass, fail or cannot-be-judged), sent, came, and read (a list). For
  a case it has twin and halloo instead, each with verdict, sent, came,
  recording and findings.

Other variables:
  NO_COLOR  switches colours off

Exit status:
  0  a case passed, and none failed; without --against, each server behaved as
     expected
  1  an error while running, or a recording could not be written
  2  the command line is wrong, or another mode fits the server
  3  the server could not be reached, or does what no mode says; a folder
     cannot be written
  5  a case failed, or none could be judged, or the server was lost;
     without --against, a server did not behave as expected";

/// Printed after the flags of `halloo generate`, by `-h` and `--help`.
pub(crate) const GENERATE_EXAMPLES: &str = "\
Examples:
  halloo generate man | man -l -      read the man page of the server
  halloo generate man >/usr/share/man/man1/halloo.1
                                      install it
  halloo generate bash >/usr/share/bash-completion/completions/halloo
                                      complete words in bash";

/// Printed after the flags of `halloo generate`, by `--help` only.
pub(crate) const GENERATE_NOTES: &str = "\
Where they belong:
  man       /usr/share/man/man1/halloo.1
  man-...   the same folder: halloo-probe.1, halloo-view.1, halloo-tour.1
  bash      /usr/share/bash-completion/completions/halloo
  zsh       /usr/share/zsh/vendor-completions/_halloo
  fish      /usr/share/fish/vendor_completions.d/halloo.fish

Exit status:
  0  the document is printed
  1  an error while writing
  2  the command line is wrong";

#[cfg(test)]
mod tests {
    use super::{Block, Section, sections, short_help};

    #[test]
    fn the_short_help_of_a_flag_is_its_first_sentence_and_its_default() {
        for (help, short) in [
            ("Only connect", "Only connect"),
            ("Serve a path; on Linux also a name. More", "Serve a path"),
            ("Close it after 30s. 0: never [default: 60s]", "Close it after 30s [default: 60s]"),
        ] {
            assert_eq!(short_help(help), short);
        }
    }

    #[test]
    fn the_text_after_the_flags_is_read_as_sections_of_paragraphs_and_terms() {
        let text = "Examples:\n  halloo -v  more\n  halloo --tcp :9000 --udp :9001\n             two ports\n\nOutput:\n  \
                    One line. It has\n  a result:\n    ok    right\n    dns   no name, or\n          no address\n  Then EOF.";
        let term = |term: &str, text: &str| Block::Term { term: term.to_owned(), explanation: text.to_owned() };
        let paragraph = |text: &str| Block::Paragraph(text.to_owned());
        let examples = vec![term("halloo -v", "more"), term("halloo --tcp :9000 --udp :9001", "two ports")];
        let output = vec![
            paragraph("One line. It has a result:"),
            term("ok", "right"),
            term("dns", "no name, or no address"),
            paragraph("Then EOF."),
        ];
        let expected =
            [Section { heading: "Examples", blocks: examples }, Section { heading: "Output", blocks: output }];
        assert_eq!(sections(text), expected);
    }
}
