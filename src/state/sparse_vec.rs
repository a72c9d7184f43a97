//! Values by slot that only few connections have.
//!
//! It allocates nothing until a value is set.

use crate::limits;
use crate::state::memory::{OutOfMemory, shrink_table};

/// Values by slot.
pub(crate) struct SparseVec<T> {
    values: Vec<Option<T>>,
}

impl<T: Copy> SparseVec<T> {
    pub(crate) fn new() -> Self {
        Self { values: Vec::new() }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<T> {
        self.values.get(slot as usize).copied().flatten()
    }

    /// Sets or removes a value. If the system has no memory for it, the value is not set, and the loop works without
    /// it.
    #[inline]
    pub(crate) fn set(&mut self, slot: u32, value: Option<T>) {
        if value.is_some() || (slot as usize) < self.values.len() {
            let is_set = self.try_set(slot, value);
            debug_assert!(is_set.is_ok() || value.is_some(), "a removal needs no memory");
        }
    }

    /// The same, with an error if there is no memory.
    pub(crate) fn try_set(&mut self, slot: u32, value: Option<T>) -> Result<(), OutOfMemory> {
        let slot = slot as usize;
        match self.values.get_mut(slot) {
            Some(entry) => *entry = value,
            None if value.is_none() => {}
            None => {
                self.values.try_reserve(slot + 1 - self.values.len())?;
                self.values.resize(slot, None);
                self.values.push(value);
            }
        }
        Ok(())
    }

    /// Removes a value, and returns it.
    pub(crate) fn take(&mut self, slot: u32) -> Option<T> {
        self.values.get_mut(slot as usize)?.take()
    }

    /// Releases the memory of a burst: no slot from `slots` on is in use.
    pub(crate) fn shrink(&mut self, slots: usize) {
        self.values.truncate(slots);
        shrink_table(&mut self.values, slots, limits::BURST_MIN);
    }

    /// For how many slots there is room.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.values.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_vec_allocates_nothing_for_unset_values() {
        let mut values = SparseVec::new();
        values.set(7, None);
        assert!(values.values.is_empty());
        values.set(3, Some(9));
        assert_eq!([values.get(2), values.get(3), values.get(4)], [None, Some(9), None]);
        values.set(3, None);
        assert_eq!(values.get(3), None);
        assert!(values.try_set(1, Some(8)).is_ok());
        assert_eq!([values.take(1), values.take(1), values.take(9)], [Some(8), None, None]);
    }
}
