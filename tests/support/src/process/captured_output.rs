//! The output of a child process so far.
//!
//! A thread reads the pipe until EOF, so that the child never blocks on it.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::wait::{INTERVAL, repeat_every, wait_until};

/// Everything that a child process has written into a pipe so far.
#[derive(Clone, Default)]
pub struct CapturedOutput(Arc<Mutex<Vec<u8>>>);

impl CapturedOutput {
    /// Starts to read a pipe. Without a pipe there is no output.
    pub fn read_from(pipe: Option<impl Read + Send + 'static>) -> Self {
        let captured = Self::default();
        if let Some(mut pipe) = pipe {
            let into = Arc::clone(&captured.0);
            thread::spawn(move || {
                let mut chunk = vec![0; 64 * 1024];
                loop {
                    match pipe.read(&mut chunk) {
                        Ok(count @ 1..) => {
                            into.lock().expect("the lock is not poisoned").extend_from_slice(&chunk[..count]);
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Ok(0) | Err(_) => return,
                    }
                }
            });
        }
        captured
    }

    /// The bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("the lock is not poisoned").clone()
    }

    /// The number of bytes so far.
    pub fn byte_count(&self) -> usize {
        self.0.lock().expect("the lock is not poisoned").len()
    }

    /// Whether the output ends with `text`.
    pub fn ends_with(&self, text: &str) -> bool {
        self.0.lock().expect("the lock is not poisoned").ends_with(text.as_bytes())
    }

    /// The output so far, which has to be UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("the output is valid UTF-8")
    }

    /// The complete lines so far.
    pub fn lines(&self) -> Vec<String> {
        let text = self.text();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().map(str::to_owned).collect()
    }

    /// The first line, if it is complete. The rest is not copied: it may be large.
    pub fn first_line(&self) -> Option<String> {
        let bytes = self.0.lock().expect("the lock is not poisoned");
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        Some(String::from_utf8(bytes[..end].to_vec()).expect("the output is valid UTF-8"))
    }

    /// The number of complete lines that contain `text`.
    pub fn count_lines_with(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// Whether the pipe has reached EOF.
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Waits for a line that contains `text`, and returns it.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        let mut found = None;
        repeat_every(INTERVAL, || {
            found = self.lines().into_iter().find(|line| line.contains(text));
            found.is_none()
        });
        found.unwrap_or_else(|| panic!("no line contains `{text}`:\n{}", self.text()))
    }

    /// Waits for a text anywhere in the output.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) {
        wait_until(&format!("{text:?} in the output"), || self.text().contains(text));
    }

    /// Waits for a text at the end of the output.
    #[track_caller]
    pub fn wait_for_end(&self, text: &str) {
        wait_until(&format!("{text:?} at the end of the output"), || self.ends_with(text));
    }
}
