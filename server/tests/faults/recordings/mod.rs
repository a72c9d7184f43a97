//! Recordings of the server, compared with what strace saw.

mod calls_of_a_loop;
mod clients_under_load;
mod comparison;
mod entries_in_file;
mod noted_calls;
mod recorded_calls;
mod strace_calls;
mod traced_server;
mod words_of_calls;
