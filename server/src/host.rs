//! The name of this machine, as greetings tell it.
//!
//! It promises one by which a greeting is known again.

/// The longest name of a host, in bytes (POSIX).
pub(crate) const HOST_NAME_BYTES_MAX: usize = 255;

/// The name of this machine.
pub(crate) fn hostname() -> String {
    let told =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    usable_name(&told.unwrap_or_default()).to_owned()
}

/// The name as told; what a machine takes itself for if it tells none, or one that no greeting is known again by.
fn usable_name(told: &str) -> &str {
    Some(told.trim()).filter(|name| is_host_name(name)).unwrap_or("localhost")
}

/// Whether a greeting with this name of a host is known again.
pub(crate) fn is_host_name(name: &str) -> bool {
    (1..=HOST_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_host_name_byte)
}

pub(crate) fn is_host_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests {
    use super::{hostname, usable_name};

    #[test]
    fn this_machine_has_a_name() {
        assert!(!hostname().is_empty() && !hostname().contains('\n'));
    }

    #[test]
    fn a_name_that_no_greeting_is_known_again_by_is_not_used() {
        let longest = "a".repeat(255);
        for name in ["box-1.example.org", "my_box", &longest] {
            assert_eq!(usable_name(&format!("{name}\n")), name);
        }
        for name in ["", "\n", "(none)", "my box", "kästchen", "a\nb", "a:1", &format!("{longest}a")] {
            assert_eq!(usable_name(name), "localhost", "{name:?}");
        }
    }
}
