//! The system calls of one thread, from the output of strace.
//!
//! With `-ff` each thread has a file of its own, in which a call is one line.

use std::fmt;

use nix::errno::Errno;

/// The arguments of strace: a file for each thread, the server as its parent's child, no bytes, numbers for constants.
pub(crate) const STRACE: [&str; 9] = ["strace", "-D", "-ff", "-q", "-s", "0", "-X", "raw", "-esignal=none"];

/// The same, but as a person reads it: 32 bytes of each string, and names of constants.
pub(crate) const STRACE_FOR_PEOPLE: [&str; 5] = ["strace", "-D", "-ff", "-q", "-esignal=none"];

/// The calls that change an epoll or a socket, or transfer data. The loop makes no calls of the second line.
pub(crate) const TRACED: &str = "accept,accept4,close,connect,epoll_ctl,epoll_pwait,epoll_wait,recvfrom,recvmmsg,\
    recvmsg,sendmmsg,sendmsg,sendto,setsockopt,shutdown,\
    epoll_pwait2,read,readv,write,writev,sendfile,splice";

const SOL_UDP: i64 = 17;
const UDP_GRO: i64 = 104;
const MSG_PEEK: i64 = 2;

/// One system call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    arguments: Vec<String>,
    /// The returned number, or the error number.
    pub(crate) result: Result<u64, i32>,
    line: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl Call {
    /// An argument that is a number.
    pub(crate) fn argument(&self, index: usize) -> Option<i64> {
        let text = self.arguments.get(index)?;
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |digits| i64::from_str_radix(digits, 16).ok())
    }

    /// The descriptor that the call is about: of `epoll_ctl(2)`, the one that is added or removed.
    pub(crate) fn descriptor(&self) -> Option<u64> {
        let index = if self.name == "epoll_ctl" { 2 } else { 0 };
        u64::try_from(self.argument(index)?).ok()
    }

    /// Whether it starts or ends the merging of received datagrams. Before the end, the loop looks for merged ones.
    pub(crate) fn is_about_merging(&self) -> bool {
        match self.name.as_str() {
            "setsockopt" => (self.argument(1), self.argument(2)) == (Some(SOL_UDP), Some(UDP_GRO)),
            "recvfrom" => self.argument(3) == Some(MSG_PEEK),
            _ => false,
        }
    }

    /// Parses a line; `None` for the end of a thread, and for a call that the kernel restarts after a signal.
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with("+++ ") || line.contains(" = ? ERESTART") {
            return None;
        }
        let wrong = || panic!("not a call: {line}");
        let (name, rest) = line.split_once('(').unwrap_or_else(wrong);
        // The result comes last, and the explanation of an error contains no equals sign.
        let (rest, result) = rest.rsplit_once(" = ").unwrap_or_else(wrong);
        let arguments = rest.trim_end().strip_suffix(')').unwrap_or_else(|| panic!("not a call: {line}"));
        let mut words = result.split_whitespace();
        let result = match (words.next(), words.next()) {
            (Some("-1"), Some(errno)) => Err(errno_named(errno)),
            (Some(number), _) => Ok(number.parse().unwrap_or_else(|_| panic!("not a result: {line}"))),
            (None, _) => panic!("no result: {line}"),
        };
        Some(Self { name: name.to_owned(), arguments: split_arguments(arguments), result, line: line.to_owned() })
    }
}

/// Parses the file of one thread.
pub(crate) fn parse_calls(text: &str) -> Vec<Call> {
    text.lines().filter_map(Call::parse).collect()
}

/// The error number with a name.
fn errno_named(name: &str) -> i32 {
    let is_it = |number: &i32| format!("{:?}", Errno::from_raw(*number)) == name;
    (1..=150).find(is_it).unwrap_or_else(|| panic!("no error number is called {name}"))
}

/// Splits at the commas that are in no structure, array or string.
fn split_arguments(text: &str) -> Vec<String> {
    let (mut arguments, mut depth, mut in_string, mut is_escaped) = (vec![String::new()], 0, false, false);
    for character in text.chars() {
        let is_end = character == ',' && depth == 0 && !in_string;
        match character {
            '"' if !is_escaped => in_string = !in_string,
            '{' | '[' | '(' if !in_string => depth += 1,
            '}' | ']' | ')' if !in_string => depth -= 1,
            _ => {}
        }
        is_escaped = character == '\\' && !is_escaped;
        if is_end {
            arguments.push(String::new());
        } else if let Some(last) = arguments.last_mut() {
            last.push(character);
        }
    }
    arguments.iter().map(|argument| argument.trim().to_owned()).collect()
}

#[test]
fn a_line_of_strace_is_a_call_with_its_numbers_and_its_result() {
    let lines = [
        r#"accept4(7, {sa_family=0x2, sin_port=",\"\xa9", sin_addr="\x7f\x00\x00\x01"}, [128 => 16], 0x80800) = 9"#,
        "epoll_ctl(5, 0x1, 9, {events=0x80002007, data={u32=8, u64=8}}) = 0",
        "recvfrom(9, 0x557e37ad1dd0, 65536, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)",
        "accept4(7, NULL, NULL, 0x80800) = -1 EMFILE (Too many open files) (INJECTED)",
        "accept4(7, NULL, NULL, 0x80800) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)",
        "+++ exited with 0 +++",
    ];
    let calls = parse_calls(&lines.join("\n"));
    assert_eq!(calls.iter().map(|call| call.result).collect::<Vec<_>>(), [Ok(9), Ok(0), Err(11), Err(24)]);
    assert_eq!(calls.iter().map(Call::descriptor).collect::<Vec<_>>(), [Some(7), Some(9), Some(9), Some(7)]);
    assert_eq!(
        (calls[0].argument(3), calls[1].argument(1), calls[2].argument(2)),
        (Some(0x80800), Some(1), Some(65536))
    );
    assert_eq!((calls[0].argument(1), calls[2].argument(9)), (None, None));
}
