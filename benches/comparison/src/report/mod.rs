//! Figures as tables and charts.

pub(crate) mod chart;
pub(crate) mod statistics;
pub(crate) mod table;
