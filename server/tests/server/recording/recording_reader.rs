//! The file of a recording, as a JSON reader sees it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// A path for recordings, in a folder of its own that is removed with it.
pub(crate) struct RecordingPath(TempDir);

impl RecordingPath {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("run.json")
    }

    /// The path as an argument.
    pub(crate) fn text(&self) -> String {
        self.path().to_str().expect("a plain path").to_owned()
    }

    /// The names of all files in the folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

/// The events of a recording.
pub(crate) struct Events(Vec<Value>);

impl Events {
    #[track_caller]
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a recording");
        let mut file: Value = serde_json::from_str(&text).expect("the file is JSON");
        Self(std::mem::take(file["traceEvents"].as_array_mut().expect("an array of events")))
    }

    /// The names of the loops, each with the number of its process.
    pub(crate) fn loops(&self) -> Vec<(String, u64)> {
        let names = self.0.iter().filter(|event| event["ph"] == "M" && event["name"] == "process_name");
        names
            .map(|event| {
                let name = event["args"]["name"].as_str().expect("a name");
                (name.to_owned(), event["pid"].as_u64().expect("a number"))
            })
            .collect()
    }

    /// The entries of a kind, over all loops.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.entries().into_iter().filter(|entry| entry["kind"] == kind).collect()
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Vec<&Value> {
        self.0.iter().map(|event| &event["args"]).filter(|arguments| arguments["kind"].is_string()).collect()
    }

    /// The entries of the loop with this process number.
    pub(crate) fn of_loop(&self, process: u64) -> Vec<&Value> {
        let events = self.0.iter().filter(|event| event["pid"] == process && event["args"]["kind"].is_string());
        events.map(|event| &event["args"]).collect()
    }

    /// The kinds of the entries of the connection with this generation, in order.
    pub(crate) fn kinds_of_connection(&self, generation: &Value) -> Vec<&str> {
        let is_one = |entry: &&Value| entry["object"] == "connection" && entry["generation"] == *generation;
        self.entries().into_iter().filter(is_one).filter_map(|entry| entry["kind"].as_str()).collect()
    }
}
