//! `tftp` with other clients, and on simulated networks.

mod curl_and_tftp_hpa;
mod lossy_networks;
#[expect(dead_code, reason = "the simulated networks need the server, not its program")]
#[path = "../../../../tftp.rs"]
mod server;

use std::fs;

use support::byte_pattern::byte_pattern;
use tempfile::TempDir;

/// Sizes around one block of 512 bytes, and 2,048 blocks.
const SIZES: [usize; 5] = [0, 511, 512, 513, 1 << 20];

/// Creates a folder of files, each named by its size.
fn folder_of_files(sizes: &[usize]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for size in sizes {
        fs::write(folder.path().join(size.to_string()), byte_pattern(*size)).expect("a file");
    }
    folder
}
