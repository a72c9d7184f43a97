//! The examples of the library, as programs.
//!
//! They are built once for each test program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::server::ServerBinary;

/// The path of an example. `cargo test` builds all examples; if only this target was built, they are built here.
#[track_caller]
pub fn example(halloo: ServerBinary, name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = Path::new(halloo.path()).parent().expect("the binary is in a folder").join("examples");
        if !folder.join("tcp_client").exists() {
            build_examples(&folder);
        }
        folder
    });
    folder.join(name)
}

fn build_examples(folder: &Path) {
    let profile = folder.parent().expect("the examples are in the folder of a profile");
    let target = profile.parent().expect("the folder of a profile is in the target folder");
    let profile = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--offline",
            "--package",
            "halloo",
            "--examples",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the examples do not build");
}
