//! The limits of one connection: timeouts and buffer sizes.

use std::time::Duration;

use crate::limits;

/// Limits of one connection in bytes and time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) input_bytes_max: usize,
    pub(crate) outbox_bytes_max: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            idle_timeout: Some(limits::IDLE_TIMEOUT),
            write_timeout: Some(limits::WRITE_TIMEOUT),
            connect_timeout: limits::CONNECT_TIMEOUT,
            input_bytes_max: limits::INPUT_BYTES_MAX,
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
        }
    }
}

impl ConnectionLimits {
    /// Refuses invalid limits, for a handler that needs `input_bytes_min` bytes of input at once.
    pub(crate) fn validate(&self, input_bytes_min: usize) -> Result<(), &'static str> {
        if self.connect_timeout.is_zero() {
            Err("a connect with a timeout of zero would fail at once; give a longer time, the default is 10 s")
        } else if [self.idle_timeout, self.write_timeout].contains(&Some(Duration::ZERO)) {
            Err("a timeout of zero would close every connection; give a longer time, or None for no timeout")
        } else if self.input_bytes_max == 0 || u32::try_from(self.input_bytes_max).is_err() {
            Err("input_bytes_max must be between 1 and 4,294,967,295")
        } else if self.outbox_bytes_max == 0 || u32::try_from(self.outbox_bytes_max).is_err() {
            Err("outbox_bytes_max must be between 1 and 4,294,967,295")
        } else if self.input_bytes_max < input_bytes_min {
            Err(
                "the handler's longest frame does not fit input_bytes_max; raise input_bytes_max, or lower the longest frame",
            )
        } else {
            Ok(())
        }
    }
}
