//! Values by slot for what few connections have.
//!
//! It allocates nothing until a value other than the default is set.

/// Values by slot; where none was set, the values's own.
pub(crate) struct SparseVec<T> {
    default: T,
    values: Vec<T>,
}

impl<T: Copy + PartialEq> SparseVec<T> {
    pub(crate) fn new(default: T) -> Self {
        Self { default, values: Vec::new() }
    }

    pub(crate) fn get(&self, slot: u32) -> T {
        self.values.get(slot as usize).copied().unwrap_or(self.default)
    }

    pub(crate) fn set(&mut self, slot: u32, value: T) {
        match self.values.get_mut(slot as usize) {
            Some(entry) => *entry = value,
            None if value == self.default => {}
            None => {
                self.values.resize(slot as usize, self.default);
                self.values.push(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_vec_takes_no_room_for_what_is_not_set() {
        let mut values = SparseVec::new(0);
        values.set(7, 0);
        assert!(values.values.is_empty());
        values.set(3, 9);
        assert_eq!([values.get(2), values.get(3), values.get(4)], [0, 9, 0]);
        values.set(3, 0);
        assert_eq!(values.get(3), 0);
    }
}
