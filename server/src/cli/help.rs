//! What `-h` and `--help` print after the flags.
//!
//! No line has more than 80 columns.

/// Printed after the flags of `halloo serve`, by `-h` and `--help`.
pub(crate) const SERVE_EXAMPLES: &str = "\
Examples:
  halloo                              TCP and UDP on localhost:8888
  halloo --listen 0.0.0.0:9000        on every IPv4 address of this machine
  halloo --tcp :9000 --mode line      one greeting for each line
  halloo --greeting 'Hello, {peer}!'  a greeting of your own
  halloo --unix /run/halloo.sock      a unix socket alone
  halloo --workers 4 --events off     on four cores
  halloo --listen 127.0.0.1:0 --max-greetings 2 --events json";

/// Printed after the flags of `halloo serve`, by `--help` only.
pub(crate) const SERVE_NOTES: &str = "\
Addresses and paths:
  9000, :9000, localhost:9000, 127.0.0.1:9000, [::1]:9000, name:9000
  A missing host is localhost, a missing port 8888; port 0 is any free one.
  For several, repeat the flag or put commas between them; paths alike. All
  that flags and variables name is served: HALLOO_TCP adds to --listen.
  A socket file that no server uses is replaced; any other file is left alone.
  A path with @ in front is an abstract name on Linux; a file is ./@name then.

Values:
  Times are 500ms, 10s, 2m, 1m30s, in ms, s, m, h or d.
  In a greeting \\n \\r \\t \\0 \\\\ \\xNN and \\u{N} are escapes; a brace is {{ or }},
  and the braces of \\u{N} stay single.
  For a client of a unix socket, {peer} is the word unix and {local} the path.
  A flag wins over its environment variable, and, with a warning, over one that
  contradicts it. An empty variable counts as none.

Output:
  The first line on standard output is READY with every address served. In a
  path there every byte but letters, digits and -._~/ is percent-encoded (%20).
  Errors and the log are on standard error.
  With --events json every line is an object, READY too, with paths as they are,
  but for bytes that are not UTF-8, which become U+FFFD.
  Its event is ready, received, suppressed (count: events beyond 1000 a second)
  or lost (count: lines that the output was too slow for). Its text is how the
  bytes received begin, 256 at most; truncated is true if there were more, and
  hex has the same bytes if they are not UTF-8.

Signals:
  SIGTERM, SIGINT  answer the clients that have asked, then end; line, echo and
                   discard wait for no more, greet waits for the question, for
                   --drain-timeout at most. A client that keeps its side open
                   after the answer delays the end by 2 s at most, that of
                   --max-greetings too. A second signal resets the connections
                   that are left.
  SIGHUP           the same if a standard stream is a terminal, else no effect
  SIGUSR1          log the counters
  SIGUSR2          no effect
  SIGHUP and SIGINT stay ignored if the parent ignores them (nohup, or & in a
  script).

Supervisor:
  Sockets handed over by LISTEN_FDS are served in place of the default, by all
  workers together. NOTIFY_SOCKET gets READY, STOPPING and the watchdog.

Workers:
  The kernel chooses a worker for each client by its address and port. Totals
  hold for all workers together, and --max-connections is divided among them:
  clients of a full worker wait though others have room.

Exit status:
  0  stopped as asked, by a signal or by a limit
  1  an error while running
  2  the command line is wrong
  3  an address, a path or a socket handed over could not be served
  4  idle for --exit-when-idle before the last of --max-greetings was given";

/// Printed after the flags of `halloo probe`, by `-h` and `--help`.
pub(crate) const PROBE_EXAMPLES: &str = "\
Examples:
  halloo probe localhost              TCP and UDP on port 8888
  halloo probe --tcp --expect Hello example.org:9000
  halloo probe --connect-only 9000
  halloo probe -6 example.org:9000
  halloo probe unix:/run/halloo.sock
  halloo probe --tcp --send 'PING\\r\\n' --expect PONG 6379";

/// Printed after the flags of `halloo probe`, by `--help` only.
pub(crate) const PROBE_NOTES: &str = "\
Output:
  One line for each answer: protocol, address, a word, the time it took, the
  text. The word is
    ok           the answer, or with --connect-only the connection, has come
    timeout      no answer in time
    refused      no server listens there
    unreachable  no way leads there
    dns          the name is unknown, or has no address of the version asked for
    resolver     the name could not be looked up
    mismatch     a wrong answer, or closed without one
    reset        closed by a reset without a right answer
  Of an answer the first 64 KiB are read and printed. A connection that stays
  open ends it when it falls silent for 250 ms.

Values:
  The escapes of what is printed are \\n \\r \\t \\0 \\\\ \\xNN and \\u{N}, and --send,
  --expect and the greetings of halloo serve take the same: what is printed can
  be pasted there between single quotes, a single quote written as \\x27, and the
  braces of a greeting double, but for those of \\u{N}.
  A flag wins over its environment variable, and, with a warning, over one that
  contradicts it. An empty variable counts as none.

Names:
  The addresses of a name are tried in the resolver's order, the next one beside
  one that is silent for 250 ms, until one accepts (TCP) or answers (UDP).
  Standard error tells which were passed over, and the line which of them failed
  if all did.

Exit status, of several answers the worst (5, 3, 4, 0):
  0  every answer was right
  2  the command line is wrong
  3  refused, unreachable, or no address for the name
  4  no answer in time
  5  a wrong answer, or closed or reset without a right one";
