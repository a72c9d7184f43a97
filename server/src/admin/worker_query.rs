//! Questions to all workers, each answered on the worker's own thread.
//!
//! A worker that left a question unanswered gets no other before it has answered: its mailbox does not grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::Duration;

use halloo::observe::Level;
use halloo::{ConnectionId, Context, Handle, LoopStopped};

use crate::process::worker_loops::{WorkerLoop, WorkerLoops};

/// How long a request waits for the workers.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);

/// The most questions in the mailbox of a worker: one for each connection of the endpoint.
const QUESTIONS_MAX: usize = 64;

/// What became of a question to one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerAnswer<T> {
    Answered(T),
    /// No answer in time.
    Silent,
    /// The worker has not started to serve, or has ended.
    NotRunning,
}

/// The connection of the admin endpoint that waits for answers, and the handle to its loop.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) handle: Handle,
    pub(crate) connection: ConnectionId,
}

/// The questions in the mailbox of one worker.
#[derive(Debug, Default)]
struct Questions {
    unanswered: AtomicUsize,
    /// Whether an asker has gone on without the answer.
    is_given_up: AtomicBool,
}

impl Questions {
    /// Counts a question, unless the worker seems stuck.
    fn begin(&self) -> bool {
        let may_ask =
            !self.is_given_up.load(Ordering::SeqCst) && self.unanswered.load(Ordering::SeqCst) < QUESTIONS_MAX;
        if may_ask {
            self.unanswered.fetch_add(1, Ordering::SeqCst);
        }
        may_ask
    }

    fn end(&self) {
        if self.unanswered.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.is_given_up.store(false, Ordering::SeqCst);
        }
    }

    fn give_up(&self) {
        self.is_given_up.store(true, Ordering::SeqCst);
        // The worker may have answered meanwhile.
        if self.unanswered.load(Ordering::SeqCst) == 0 {
            self.is_given_up.store(false, Ordering::SeqCst);
        }
    }
}

/// Asks the workers.
#[derive(Clone, Debug)]
pub(crate) struct WorkerQuery {
    loops: WorkerLoops,
    /// By worker number, the first worker's first.
    questions: Arc<[Questions]>,
}

impl WorkerQuery {
    /// For that many workers.
    pub(crate) fn new(loops: WorkerLoops, workers: usize) -> Self {
        Self { loops, questions: (0..workers).map(|_| Questions::default()).collect() }
    }

    /// Sets how much the loops note, from their next turn on. Loops that have ended note nothing.
    pub(crate) fn set_journal_level(&self, level: Level) {
        let _ = self.loops.post(move |_, context| context.journal_level(level));
    }

    /// Asks every worker. `question` runs on the worker's thread, with its loop. The asker's connection is
    /// notified after each answer.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        asker: &Asker,
        question: impl Fn(&WorkerLoop, &mut Context) -> T + Clone + Send + 'static,
    ) -> PendingAnswers<T> {
        let (sender, receiver) = mpsc::channel();
        let ask_worker = |index: usize| {
            let Some(worker) = self.loops.as_slice().get(index) else { return AnswerState::NotRunning };
            if !self.questions[index].begin() {
                return AnswerState::NotAsked;
            }
            let sender = Some(sender.clone());
            let pending =
                PendingQuestion { sender, questions: Arc::clone(&self.questions), index, asker: asker.clone() };
            let (question, loops) = (question.clone(), self.loops.clone());
            let compute = move |context: &mut Context| question(&loops.as_slice()[index], context);
            match worker.handle.post(move |context| pending.answer(|| compute(context))) {
                Ok(()) => AnswerState::Asked,
                Err(LoopStopped) => AnswerState::NotRunning,
            }
        };
        let answers = (0..self.questions.len()).map(ask_worker).collect();
        PendingAnswers { receiver, answers, questions: Arc::clone(&self.questions) }
    }
}

/// A question in the mailbox of a worker. A loop that ends drops it.
struct PendingQuestion<T> {
    sender: Option<Sender<(usize, T)>>,
    questions: Arc<[Questions]>,
    index: usize,
    asker: Asker,
}

impl<T> PendingQuestion<T> {
    fn answer(self, compute: impl FnOnce() -> T) {
        if let Some(sender) = &self.sender {
            // The asker may have gone on.
            let _ = sender.send((self.index, compute()));
        }
    }
}

impl<T> Drop for PendingQuestion<T> {
    fn drop(&mut self) {
        // Before the notification: the receiver is disconnected when no answer is left.
        self.sender = None;
        self.questions[self.index].end();
        // The endpoint may have ended.
        let _ = self.asker.handle.notify(self.asker.connection, 0);
    }
}

/// What is known about the answer of one worker.
enum AnswerState<T> {
    Asked,
    NotAsked,
    NotRunning,
    Answered(T),
}

/// The answers to one question, while they arrive.
pub(crate) struct PendingAnswers<T> {
    receiver: Receiver<(usize, T)>,
    answers: Vec<AnswerState<T>>,
    questions: Arc<[Questions]>,
}

impl<T> PendingAnswers<T> {
    /// Takes the answers that have arrived, and returns whether no other will.
    pub(crate) fn are_complete(&mut self) -> bool {
        loop {
            match self.receiver.try_recv() {
                Ok((index, answer)) => self.answers[index] = AnswerState::Answered(answer),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// The answers so far, by worker number.
    pub(crate) fn finish(mut self) -> Vec<WorkerAnswer<T>> {
        let are_complete = self.are_complete();
        let finish_one = |(state, questions): (AnswerState<T>, &Questions)| match state {
            AnswerState::Answered(answer) => WorkerAnswer::Answered(answer),
            AnswerState::NotRunning => WorkerAnswer::NotRunning,
            // Its loop has dropped the question.
            AnswerState::Asked if are_complete => WorkerAnswer::NotRunning,
            AnswerState::Asked => {
                questions.give_up();
                WorkerAnswer::Silent
            }
            AnswerState::NotAsked => WorkerAnswer::Silent,
        };
        self.answers.into_iter().zip(self.questions.iter()).map(finish_one).collect()
    }
}
