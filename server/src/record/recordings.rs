//! The recordings of all workers: a ring for each loop.
//!
//! A loop only copies its entries. The file is written by another thread, or when all loops have ended.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use halloo::observe::{EntryKind, Level, Recorder, Recording, TurnEntries};
use halloo::{Context, EventLoop};
use log::LevelFilter;

use crate::cli::flags::serve_options::{RecordOptions, ServeOptions};
use crate::exit::ExitError;
use crate::process::worker_loops::WorkerLoops;
use crate::record::recording_file::RecordingFile;

/// How long the end of a recording waits for the turns of all loops.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts, ends and writes the recordings of all workers.
#[derive(Clone, Debug)]
pub(crate) struct Recordings(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: RecordingFile,
    options: RecordOptions,
    /// The recorder of each loop, by the number of its worker; `None` while nothing is recorded.
    recorders: Vec<Mutex<Option<Recorder>>>,
    /// The recorders that have ended, and are not written yet.
    ended: Vec<Mutex<Option<Recorder>>>,
    loops: WorkerLoops,
    /// Whether the admin endpoint shows the statistics of turns.
    has_admin: bool,
    is_recording: AtomicBool,
    /// The thread that writes a recording, or has written it.
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What a loop notes while nothing is recorded: all if each step is logged, its turns if the admin endpoint shows their
/// statistics.
pub(crate) fn level_without_recording(has_admin: bool) -> Level {
    match (log::max_level(), has_admin) {
        (LevelFilter::Trace, _) => Level::All,
        (_, true) => Level::Turns,
        (_, false) => Level::Off,
    }
}

impl Recordings {
    /// The recordings that the command line asks for. The first one begins with the loops. An error if their file cannot
    /// be written.
    pub(crate) fn new(options: &ServeOptions, loops: &WorkerLoops) -> Result<Option<Self>, ExitError> {
        let ServeOptions { recording, workers, given, .. } = options;
        let Some(path) = &recording.record else { return Ok(None) };
        let shared = Shared {
            file: RecordingFile::check(path, "the recording", &format!("{}FILE", given.assignment("record")))?,
            options: recording.clone(),
            recorders: std::iter::repeat_with(Mutex::default).take(*workers).collect(),
            ended: std::iter::repeat_with(Mutex::default).take(*workers).collect(),
            loops: loops.clone(),
            has_admin: options.operation.admin.is_some(),
            is_recording: AtomicBool::new(true),
            writer: Mutex::new(None),
        };
        (0..*workers).for_each(|index| shared.begin(index));
        Ok(Some(Self(Arc::new(shared))))
    }

    /// Whether a recording goes on.
    pub(crate) fn is_recording(&self) -> bool {
        self.0.is_recording.load(Ordering::Relaxed)
    }

    /// Records a loop from its start. `observer` is called with each turn, too.
    pub(crate) fn record<'h>(
        &self,
        worker_number: usize,
        event_loop: &mut EventLoop<'h>,
        mut observer: impl FnMut(&TurnEntries<'_>) + 'h,
    ) {
        let (shared, index) = (Arc::clone(&self.0), worker_number - 1);
        event_loop.set_observer(move |turn| {
            if let Some(recorder) = lock(&shared.recorders[index]).as_mut() {
                recorder.record(turn);
            }
            observer(turn);
        });
        event_loop.journal_payload_bytes_max(self.0.options.record_payload);
        event_loop.journal_level(Level::All);
    }

    /// Ends the recording and starts to write it, or starts the next one.
    pub(crate) fn start_or_stop(&self) {
        if !self.0.is_recording.load(Ordering::Relaxed) {
            self.start();
        } else if lock(&self.0.writer).as_ref().is_some_and(|writer| !writer.is_finished()) {
            // A third recording in memory would be above its limit.
            log::warn!("the recording goes on: the one before is still being written; send SIGUSR2 again later");
        } else {
            self.stop();
        }
    }

    fn start(&self) {
        self.0.is_recording.store(true, Ordering::Relaxed);
        let (shared, loops_left) = (Arc::clone(&self.0), Arc::new(AtomicUsize::new(self.0.recorders.len())));
        // A loop notes what exists when a turn begins at the level All after one at a lower level. If it has slept since
        // the end of the last recording, that one is the next turn. A job posted by a job runs a turn later.
        let _ = self.0.loops.post(move |index, _| {
            let (of_job, loops_left) = (Arc::clone(&shared), Arc::clone(&loops_left));
            let _ = shared.loops.as_slice()[index]
                .handle
                .post(move |context| of_job.begin_again(index, context, &loops_left));
        });
    }

    fn stop(&self) {
        self.0.is_recording.store(false, Ordering::Relaxed);
        let (shared, idle_level) = (Arc::clone(&self.0), level_without_recording(self.0.has_admin));
        let (sender, is_ended) = mpsc::channel();
        // The turn in which a loop takes the first job is recorded: the poll before it shows how long the loop has waited.
        // Loops that have ended already need no message.
        let _ = self.0.loops.post(move |index, context| {
            context.journal_level(idle_level);
            let (of_job, sender) = (Arc::clone(&shared), sender.clone());
            let _ = shared.loops.as_slice()[index].handle.post(move |_| {
                *lock(&of_job.ended[index]) = lock(&of_job.recorders[index]).take();
                let _ = sender.send(());
            });
        });
        let shared = Arc::clone(&self.0);
        let write = move || {
            shared.wait_for_end(&is_ended);
            let written = write(&shared.file, shared.take());
            written.unwrap_or_else(|error| log::error!("{}", error.message));
        };
        match thread::Builder::new().name("recorder".to_owned()).spawn(write) {
            Ok(writer) => *lock(&self.0.writer) = Some(writer),
            Err(error) => {
                let error = ExitError::from_io("cannot write the recording, which is lost", &error);
                log::error!("{}", error.message);
            }
        }
    }

    /// Writes the recording that has not ended, if there is one. All loops have ended.
    pub(crate) fn finish(&self) -> Result<(), ExitError> {
        if let Some(writer) = lock(&self.0.writer).take() {
            // It has logged its error.
            let _ = writer.join();
        }
        // A server that never served leaves the file of the one before.
        let has_served = !self.0.loops.as_slice().is_empty();
        let is_recording = self.0.is_recording.swap(false, Ordering::Relaxed);
        if has_served && is_recording { write(&self.0.file, self.0.take()) } else { Ok(()) }
    }
}

impl Shared {
    /// Begins the recording of one loop.
    fn begin(&self, index: usize) {
        let bytes_max = self.options.record_memory / self.recorders.len();
        *lock(&self.recorders[index]) = Some(Recorder::new(format!("worker {}", index + 1), bytes_max));
    }

    /// Begins the next recording of one loop, unless it has ended since.
    fn begin_again(&self, index: usize, context: &mut Context, loops_left: &AtomicUsize) {
        if self.is_recording.load(Ordering::Relaxed) {
            self.begin(index);
            context.journal_level(Level::All);
            if loops_left.fetch_sub(1, Ordering::Relaxed) == 1 {
                log::info!("recording again; the next SIGUSR2 writes it to {}", self.file);
            }
        }
    }

    /// Waits until each loop has ended its recording, or has ended. A loop that is busy for longer is not waited for.
    fn wait_for_end(&self, is_ended: &Receiver<()>) {
        let deadline = Instant::now() + END_TIMEOUT;
        for _ in &self.recorders {
            if is_ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
                return;
            }
        }
    }

    fn take(&self) -> Vec<Recorder> {
        let pairs = self.ended.iter().zip(&self.recorders);
        pairs.filter_map(|(ended, recorder)| lock(ended).take().or_else(|| lock(recorder).take())).collect()
    }
}

fn write(file: &RecordingFile, recorders: Vec<Recorder>) -> Result<(), ExitError> {
    let recording = Recording::new(recorders);
    file.write(&recording)?;
    let entries = || recording.loops.iter().flat_map(|part| &part.entries);
    let lost: u64 = entries().filter(|entry| entry.kind == EntryKind::Lost).map(|entry| entry.numbers[0]).sum();
    log::info!("recording written to {file}: entries={} lost={lost}", entries().count());
    Ok(())
}

/// Locks, also after a panic of another thread: a recorder is never half changed where a callback can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::SocketAddr;

    use clap::Parser;
    use halloo::stream;

    use super::*;
    use crate::cli::flags::CommandLine;
    use crate::process::worker_loops::WorkerLoop;

    /// A loop that is recorded, and its recordings.
    fn recorded_loop(folder: &tempfile::TempDir) -> (EventLoop<'static>, Recordings) {
        let file = folder.path().join("run.json");
        loop_with_options(&CommandLine::parse_from(["halloo".as_ref(), "--record".as_ref(), file.as_os_str()]).serve)
    }

    fn loop_with_options(options: &ServeOptions) -> (EventLoop<'static>, Recordings) {
        let loops = WorkerLoops::default();
        let recordings = Recordings::new(options, &loops).unwrap().unwrap();
        let mut event_loop = EventLoop::new().unwrap();
        recordings.record(1, &mut event_loop, |_| {});
        loops.set(vec![WorkerLoop::for_test(&event_loop)]);
        (event_loop, recordings)
    }

    fn run_turns(event_loop: &mut EventLoop<'_>) {
        for _ in 0..5 {
            let _ = event_loop.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    #[test]
    fn the_next_recording_begins_with_what_exists_even_if_the_loop_slept_between() {
        let folder = tempfile::tempdir().unwrap();
        let (mut event_loop, recordings) = recorded_loop(&folder);
        event_loop.listen(SocketAddr::from(([127, 0, 0, 1], 0)), stream(|_, input| input.len())).unwrap();
        run_turns(&mut event_loop);
        for is_recording in [false, true] {
            recordings.start_or_stop();
            assert_eq!(recordings.0.is_recording.load(Ordering::Relaxed), is_recording);
        }
        run_turns(&mut event_loop);
        recordings.finish().unwrap();
        let text = fs::read_to_string(folder.path().join("run.json")).unwrap();
        let kinds: Vec<&str> = text.split("\"kind\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(kinds[..2], ["existing", "poll-begin"], "{kinds:?}");
    }

    #[test]
    fn a_recording_that_ends_before_it_has_begun_leaves_the_loop_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let (mut event_loop, recordings) = recorded_loop(&folder);
        run_turns(&mut event_loop);
        for _ in 0..3 {
            recordings.start_or_stop();
            // Its thread ends before the next signal.
            while lock(&recordings.0.writer).as_ref().is_some_and(|writer| !writer.is_finished()) {
                thread::yield_now();
            }
        }
        run_turns(&mut event_loop);
        assert!(recordings.0.take().is_empty());
        let turns = event_loop.stats().turn_time.count();
        run_turns(&mut event_loop);
        assert_eq!(event_loop.stats().turn_time.count(), turns, "the loop notes nothing");
    }

    #[test]
    fn with_the_admin_endpoint_turns_are_measured_also_after_a_recording() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.json");
        let arguments = ["halloo".as_ref(), "--admin".as_ref(), "0".as_ref(), "--record".as_ref(), file.as_os_str()];
        let (mut event_loop, recordings) = loop_with_options(&CommandLine::parse_from(arguments).serve);
        run_turns(&mut event_loop);
        recordings.start_or_stop();
        run_turns(&mut event_loop);
        assert!(lock(&recordings.0.recorders[0]).is_none(), "nothing is recorded");
        let turns = event_loop.stats().turn_time.count();
        run_turns(&mut event_loop);
        assert_eq!(event_loop.stats().turn_time.count(), turns + 5);
        recordings.finish().unwrap();
    }

    #[test]
    fn a_recording_goes_on_while_the_one_before_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (_event_loop, recordings) = recorded_loop(&folder);
        let (end, is_ended) = mpsc::channel::<()>();
        *lock(&recordings.0.writer) = Some(thread::spawn(move || is_ended.recv().unwrap_or_default()));
        recordings.start_or_stop();
        assert!(recordings.0.is_recording.load(Ordering::Relaxed));
        drop(end);
        while lock(&recordings.0.writer).as_ref().is_some_and(|writer| !writer.is_finished()) {
            thread::yield_now();
        }
        recordings.start_or_stop();
        assert!(!recordings.0.is_recording.load(Ordering::Relaxed));
        recordings.finish().unwrap();
        assert!(folder.path().join("run.json").exists());
    }
}
