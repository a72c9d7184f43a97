//! Keys, their values, and when they go: one timer of the loop for each key that does.

use std::collections::HashMap;
use std::time::Duration;

use halloo::{Context, HandlerId, TimerId};

/// Keys and values in all. Past it nothing is added.
const STORE_BYTES_MAX: usize = 256 * 1024 * 1024;

#[derive(Default)]
pub(crate) struct Store {
    entries: HashMap<Vec<u8>, Entry>,
    /// Which key a timer is about, by the number that it brings back: one of its own for each that is set.
    expiring: HashMap<u64, Vec<u8>>,
    expiries: u64,
    bytes: usize,
}

struct Entry {
    value: Vec<u8>,
    expiry: Option<(u64, TimerId)>,
}

impl Store {
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > STORE_BYTES_MAX
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|entry| entry.value.as_slice())
    }

    /// Gives a key a value; when it goes stays as it was.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes += value.len();
        if let Some(entry) = self.entries.get_mut(key) {
            self.bytes -= entry.value.len();
            entry.value = value.to_vec();
        } else {
            self.bytes += key.len();
            self.entries.insert(key.to_vec(), Entry { value: value.to_vec(), expiry: None });
        }
    }

    /// Has a key go after a time, or never, whatever was said before.
    pub(crate) fn expire(&mut self, context: &mut Context, handler: HandlerId, key: &[u8], after: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some((number, timer)) = entry.expiry.take() {
            context.remove(timer);
            self.expiring.remove(&number);
        }
        if let Some(after) = after {
            self.expiries += 1;
            entry.expiry = Some((self.expiries, context.schedule(handler, after, self.expiries)));
            self.expiring.insert(self.expiries, key.to_vec());
        }
    }

    /// A timer has come up: its key goes.
    pub(crate) fn on_timer(&mut self, number: u64) {
        if let Some(key) = self.expiring.remove(&number)
            && let Some(entry) = self.entries.remove(&key)
        {
            self.bytes -= key.len() + entry.value.len();
        }
    }

    pub(crate) fn delete(&mut self, context: &mut Context, handler: HandlerId, key: &[u8]) {
        self.expire(context, handler, key, None);
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= key.len() + entry.value.len();
        }
    }
}
