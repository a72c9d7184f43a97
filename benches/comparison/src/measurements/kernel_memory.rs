//! Kernel memory per connection.
//!
//! The kinds of objects are those that grew in `/proc/slabinfo` while 9,000 connections were opened. Their sizes come
//! from `/sys/kernel/slab` of this machine, which only root can read.

use std::fs;

/// The socket, its inode, file, name and the security module's part of the file. For epoll: the watched file, its entry
/// in the file's wait queue, and the head of the file's list of watchers.
const OBJECT_NAMES: [&str; 8] =
    ["TCP", "sock_inode_cache", "filp", "dentry", "lsm_file_cache", "eventpoll_epi", "eventpoll_pwq", "ep_head"];

/// A kind of kernel object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KernelObject {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
}

/// The kinds that this kernel has; `None` if their sizes cannot be read.
pub(crate) fn objects() -> Option<Vec<KernelObject>> {
    let object = |name: &'static str| {
        let text = fs::read_to_string(format!("/sys/kernel/slab/{name}/slab_size")).ok()?;
        Some(KernelObject { name, bytes: text.trim().parse().ok()? })
    };
    let objects: Vec<KernelObject> = OBJECT_NAMES.into_iter().filter_map(object).collect();
    // Older kernels lack the smaller kinds. Without the socket itself the sum would be useless.
    objects.iter().any(|object| object.name == "TCP").then_some(objects)
}
