//! What flags, environment variables and `probe` do.

mod contradictions_and_warnings;
mod environment_variables;
mod exit_conditions;
mod generated_documents;
mod greeting_flags;
mod limit_flags;
mod modes_and_placeholders;
mod nonsense;
mod probe_command;
mod usage_and_bind_errors;
