//! Median and spread of a series of figures.

/// The median of some runs, with the minimum and the maximum.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` if there are no figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }

    /// The spread around the median, in percent of it: `-2..+3 %`.
    pub(crate) fn spread(&self) -> String {
        let percent = |figure: f64| (figure / self.median - 1.0) * 100.0;
        format!("{:+.0}..{:+.0} %", percent(self.min), percent(self.max))
    }
}

/// The figure below which this share of the figures is. Sorts the figures.
pub(crate) fn percentile(figures: &mut [u32], share: f64) -> Option<u32> {
    figures.sort_unstable();
    let last = figures.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let index = (last as f64 * share).round() as usize;
    figures.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_figure_or_between_the_two_middle_ones() {
        assert_eq!(Summary::of([3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]).unwrap().median.to_string(), "2.5");
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn the_spread_is_in_percent_of_the_median() {
        assert_eq!(Summary::of([98.0, 100.0, 103.0]).unwrap().spread(), "-2..+3 %");
        assert_eq!(Summary::of([5.0]).unwrap().spread(), "+0..+0 %");
    }

    #[test]
    fn half_of_the_figures_are_below_the_fiftieth_percentile() {
        let mut figures: Vec<u32> = (0..=100).rev().collect();
        assert_eq!(percentile(&mut figures, 0.5), Some(50));
        assert_eq!(percentile(&mut figures, 0.99), Some(99));
        assert_eq!(percentile(&mut figures, 1.0), Some(100));
        assert_eq!(percentile(&mut [], 0.5), None);
    }
}
