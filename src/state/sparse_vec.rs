//! A column of the tables that few connections have something in.
//!
//! Pure. It stands beside the entries, by slot, and takes no room before its first use, so that what is rare does not
//! make every entry longer.

/// Values by slot; where none was set, the column's own.
pub(crate) struct Column<T> {
    unset: T,
    values: Vec<T>,
}

impl<T: Copy + PartialEq> Column<T> {
    pub(crate) fn new(unset: T) -> Self {
        Self { unset, values: Vec::new() }
    }

    pub(crate) fn get(&self, slot: u32) -> T {
        self.values.get(slot as usize).copied().unwrap_or(self.unset)
    }

    pub(crate) fn set(&mut self, slot: u32, value: T) {
        match self.values.get_mut(slot as usize) {
            Some(entry) => *entry = value,
            None if value == self.unset => {}
            None => {
                self.values.resize(slot as usize, self.unset);
                self.values.push(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_takes_no_room_for_what_is_not_set() {
        let mut column = Column::new(0);
        column.set(7, 0);
        assert!(column.values.is_empty());
        column.set(3, 9);
        assert_eq!([column.get(2), column.get(3), column.get(4)], [0, 9, 0]);
        column.set(3, 0);
        assert_eq!(column.get(3), 0);
    }
}
