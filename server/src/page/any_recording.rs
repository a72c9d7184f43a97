//! Recordings of any entries, for property tests.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use halloo::observe::{Detail, Entry, EntryKind, LoopRecording, Object, Recording};
use proptest::prelude::*;

/// Up to two loops with all kinds of entries, numbers, texts and details.
pub(crate) fn any_recording() -> impl Strategy<Value = Recording> {
    prop::collection::vec(loop_recording(), 0..3).prop_map(|loops| {
        let mut recording = Recording::default();
        recording.loops = loops;
        recording
    })
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..20_u64,
        1 => prop::sample::select(vec![(1 << 53) - 1, 1 << 53, (1 << 53) + 1, u64::MAX - 1, u64::MAX]),
        1 => any::<u64>(),
    ]
}

fn address() -> impl Strategy<Value = Detail> {
    let inet = any::<(Ipv4Addr, u16)>().prop_map(|address| Detail::Address(address.into()));
    let inet6 = any::<(Ipv6Addr, u16, u32)>()
        .prop_map(|(ip, port, scope)| Detail::Address(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))));
    let path = any::<Vec<u8>>().prop_map(|path| Detail::Path(PathBuf::from(OsString::from_vec(path))));
    prop_oneof![inet, inet6, path]
}

prop_compose! {
    fn entry()(
        kind in prop::sample::select(EntryKind::ALL),
        object in prop::sample::select(Object::ALL),
        slot in any::<u32>(),
        generation in number(),
        numbers in [number(), number()],
        errno in any::<Option<NonZeroU16>>(),
        nanoseconds in number(),
    ) -> Entry {
        Entry { errno, nanoseconds, ..Entry::new(kind, object, slot, generation).numbers(numbers) }
    }
}

fn loop_recording() -> impl Strategy<Value = LoopRecording> {
    let step = (entry(), proptest::option::of(address()), proptest::option::of(any::<Vec<u8>>()));
    (any::<String>(), number(), prop::collection::vec(step, 0..8)).prop_map(|(name, started_after, steps)| {
        let mut part = LoopRecording::default();
        (part.name, part.started_after) = (name, Duration::from_nanos(started_after));
        for (index, (entry, address, payload)) in steps.into_iter().enumerate() {
            part.entries.push(entry);
            part.details.extend(address.map(|address| (index, address)));
            if let Some(bytes) = payload {
                let start = u32::try_from(part.payload.len()).unwrap();
                part.details.push((index, Detail::Payload { start, len: u32::try_from(bytes.len()).unwrap() }));
                part.payload.extend(bytes);
            }
        }
        part
    })
}
