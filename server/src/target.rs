//! Whom a probe asks, as people write it: an address, or `unix:` and a path.
//!
//! Beside the flow: the command line reads it here. It never looks whether anybody is there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::address::Address;
use crate::site::Site;

/// What stands before a path.
const UNIX: &str = "unix:";

/// One server to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Internet(Address),
    Unix(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_start().strip_prefix(UNIX) {
            Some("") => Err(format!("the path is missing: write {UNIX}/run/halloo.sock")),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Internet),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(formatter),
            Self::Unix(path) => Site::path(path).fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn a_path_has_its_word_before_it_and_all_else_is_an_address() {
        let read = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(read("unix:/run/a b:c").as_deref(), Ok("/run/a b:c"));
        assert_eq!(read("unix:a.sock").as_deref(), Ok("a.sock"));
        assert_eq!(read("9000").as_deref(), Ok("localhost:9000"));
        assert_eq!(read("unix").as_deref(), Ok("unix:8888"));
        assert!(read("unix:").unwrap_err().contains("unix:/run/halloo.sock"));
        assert!(read("/run/a").is_err());
    }
}
