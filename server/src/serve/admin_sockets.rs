//! Opens the sockets of the admin endpoint, and starts its thread.
//!
//! A host with several addresses has one port for all of them.

use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use halloo::{EventLoop, HandlerId, Listen, ListenerId, SourceId};

use crate::admin::admin_thread::AdminThread;
use crate::admin::http_handler::{ACCEPTED_MAX, DESCRIPTOR_RESERVE};
use crate::admin::metrics::figures::FigureSources;
use crate::admin::worker_query::WorkerQuery;
use crate::admin::{AdminContext, LargePages};
use crate::cli::flags::serve_options::ServeOptions;
use crate::cli::usage_error::usage_error;
use crate::exit::{ExitError, ExitStatus, describe_io_error, os_error};
use crate::serve::bind_error;
use crate::serve::server_context::ServerContext;
use crate::serve::socket::connections_max;
use crate::serve::socket_plan::{AddressGroup, with_port};
use crate::text::address::{Address, Endpoint, UnixPath};
use crate::text::bound_address::{BoundAddress, BoundSocket};
use crate::text::protocol::Protocol;

/// The most attempts to find a port that is free on every address of the host.
const PORT_TRIES_MAX: usize = 16;

/// The permissions of the file of a unix socket: only this user changes the server.
const UNIX_MODE: u32 = 0o600;

/// Where to serve the endpoint; a name is looked up already.
pub(crate) enum AdminEndpoint {
    Internet { address: Address, resolved: Vec<SocketAddr> },
    Unix(UnixPath),
}

/// Returns an error if the endpoint has an address or a path that is also served: the system's error would blame another
/// program.
pub(crate) fn check_not_served(
    endpoint: &AdminEndpoint,
    groups: &[AddressGroup],
    options: &ServeOptions,
) -> Result<(), ExitError> {
    let same = match endpoint {
        AdminEndpoint::Internet { address, resolved } => {
            let excludes = |group: &&AddressGroup| resolved.iter().any(|address| group.excludes(*address));
            groups.iter().find(excludes).map(|group| (address.to_string(), group.setting(), "port"))
        }
        AdminEndpoint::Unix(path) => {
            let absolute = |path: &UnixPath| std::path::absolute(path.as_path()).ok();
            let is_same =
                |served: &&UnixPath| *served == path || !path.is_abstract() && absolute(served) == absolute(path);
            let shown = |path: &UnixPath| BoundAddress::from_path(path.as_path());
            let setting = |served| format!("{}{}", options.given.assignment("unix"), shown(served));
            let served = options.listening.unix.iter().find(is_same);
            served.map(|served| (format!("unix:{}", shown(path)), setting(served), "path"))
        }
    };
    let Some((endpoint, served, part)) = same else { return Ok(()) };
    let cause = format!("{}{endpoint} and {served} are the same {part}", options.given.assignment("admin"));
    Err(usage_error(&format!("{cause}; give one of the two another {part}")))
}

/// The endpoint of the command line, if there is one. Looks up a name, which may block.
pub(crate) fn resolve(options: &ServeOptions) -> Result<Option<AdminEndpoint>, ExitError> {
    let address = match &options.operation.admin {
        None => return Ok(None),
        Some(Endpoint::Unix(path)) => return Ok(Some(AdminEndpoint::Unix(path.clone()))),
        Some(Endpoint::Internet(address)) => address.clone(),
    };
    let unresolved = |cause: &str| bind_error::for_unresolved(&address, cause, &options.given.assignment("admin"));
    match address.resolve() {
        Ok(resolved) if resolved.is_empty() => Err(unresolved("it has no address")),
        Ok(resolved) => Ok(Some(AdminEndpoint::Internet { address, resolved })),
        Err(error) => Err(unresolved(&describe_io_error(&error))),
    }
}

/// Starts the thread of the endpoint, and waits until its sockets are open.
pub(crate) fn start(server: &ServerContext<'_>, endpoint: AdminEndpoint) -> Result<AdminThread, ExitError> {
    let context = AdminContext {
        state: server.shutdown.state.clone(),
        recordings: server.recordings.clone(),
        workers: WorkerQuery::new(server.shutdown.loops.clone(), server.options.workers),
        figures: FigureSources {
            started_at: SystemTime::now(),
            state: server.shutdown.state.clone(),
            counters: server.counters.clone(),
            worker_counters: server.worker_counters.clone(),
            connections_max: (1..=server.options.workers).map(|number| connections_max(server.options, number)).sum(),
        },
        large_pages: LargePages::default(),
        faults: server.faults.clone(),
    };
    let assignment = server.options.given.assignment("admin");
    AdminThread::start(context, move |event_loop, handler| match endpoint {
        AdminEndpoint::Internet { address, resolved } => {
            open_addresses(event_loop, handler, &address, &resolved, &assignment)
        }
        AdminEndpoint::Unix(path) => open_path(event_loop, handler, &path, &assignment),
    })
}

fn open_path(
    event_loop: &mut EventLoop<'_>,
    handler: HandlerId,
    path: &UnixPath,
    assignment: &str,
) -> Result<Vec<BoundSocket>, ExitError> {
    let unix_path = path.as_path();
    let path_error = |error: &io::Error| bind_error::for_path(unix_path, error, &format!("{assignment}unix:"));
    let shown = if path.is_abstract() { Ok(unix_path.to_owned()) } else { std::path::absolute(unix_path) };
    let address = BoundAddress::from_path(&shown.map_err(|error| path_error(&error))?);
    listen(event_loop, handler, Listen::unix(unix_path).unix_mode(UNIX_MODE)).map_err(|error| path_error(&error))?;
    Ok(vec![(Protocol::Unix, address)])
}

/// Opens every address of a host on one port. An address that this machine does not have is left out.
fn open_addresses(
    event_loop: &mut EventLoop<'_>,
    handler: HandlerId,
    given: &Address,
    resolved: &[SocketAddr],
    assignment: &str,
) -> Result<Vec<BoundSocket>, ExitError> {
    let mut last_error = None;
    for _ in 0..PORT_TRIES_MAX {
        let mut opened: Vec<(SourceId, SocketAddr)> = Vec::new();
        let mut is_port_taken = false;
        for &address in resolved {
            let port = opened.first().map_or(address.port(), |(_, first)| first.port());
            let address = with_port(address, port);
            match open_address(event_loop, handler, address) {
                Ok(socket) => opened.push(socket),
                Err(error) => {
                    let exit_error = bind_error::for_address(Protocol::Tcp, address, &error, (given, assignment), &[]);
                    let is_free_port = resolved[0].port() == 0;
                    if !bind_error::is_address_unavailable(&error) {
                        if !(is_free_port && error.kind() == io::ErrorKind::AddrInUse) {
                            return Err(exit_error);
                        }
                        is_port_taken = true;
                    }
                    last_error = Some(exit_error);
                }
            }
        }
        if !is_port_taken && !opened.is_empty() {
            return Ok(opened.into_iter().map(|(_, address)| (Protocol::Tcp, address.into())).collect());
        }
        if !is_port_taken {
            break;
        }
        // They stay bound until the loop turns, so that the next attempt finds another port.
        for (id, _) in opened {
            event_loop.context().remove(id);
        }
    }
    Err(last_error.unwrap_or_else(|| ExitError::new(ExitStatus::Unavailable, "cannot serve the admin endpoint")))
}

fn open_address(
    event_loop: &mut EventLoop<'_>,
    handler: HandlerId,
    address: SocketAddr,
) -> io::Result<(SourceId, SocketAddr)> {
    let id = listen(event_loop, handler, Listen::from(address))?;
    Ok((id.into(), event_loop.local_addr(id).map_err(os_error)?))
}

fn listen(event_loop: &mut EventLoop<'_>, handler: HandlerId, at: Listen) -> io::Result<ListenerId> {
    // The handler has timeouts of its own.
    let at = at.connections_max(ACCEPTED_MAX).idle_timeout(None).descriptor_reserve(DESCRIPTOR_RESERVE);
    event_loop.listen_for(at, handler).map_err(os_error)
}
