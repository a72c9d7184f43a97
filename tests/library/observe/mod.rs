//! The journal: its levels, its entries and their observer.

mod entries_of_objects;
mod noted_turns;
mod observers_and_levels;
mod perfetto_import;
mod recordings_page;
