//! Which requests are refused because of where they come from.
//!
//! A page in a browser of this machine changes nothing and reads nothing but health and metrics.

use std::net::{IpAddr, SocketAddr};

use crate::admin::http_request::Request;
use crate::admin::http_response::Response;
use crate::text::escape::excerpt;

/// The paths that are read under any name of this machine: by supervisors, load balancers and Prometheus.
const READ_UNDER_ANY_NAME: [&str; 3] = ["/live", "/ready", "/metrics"];

/// Checks a request of a peer; a client of a unix socket has no address. Every request that changes something must pass
/// this check.
pub(crate) fn check(request: &Request<'_>, peer: Option<SocketAddr>) -> Result<(), Response> {
    if request.only_reads() && READ_UNDER_ANY_NAME.contains(&request.path) {
        return Ok(());
    }
    match refusal(request, peer) {
        None => Ok(()),
        Some(sentence) => Err(Response::text(403, &sentence)),
    }
}

/// The cause and a hint, if the request is refused.
fn refusal(request: &Request<'_>, peer: Option<SocketAddr>) -> Option<String> {
    let Request { method, host, url_host, origin, fetch_site, .. } = request;
    if !request.only_reads() && peer.is_some_and(|peer| !peer.ip().to_canonical().is_loopback()) {
        return Some(format!("{method} is refused: it is for clients on this machine, over loopback or a unix socket"));
    }
    // A page can reach this machine under a name of its own, which resolves to a loopback address (DNS rebinding).
    if let Some(host) = [url_host, host].into_iter().flatten().find(|host| !is_address_or_localhost(host)) {
        return Some(format!("Host {} is refused: it must be localhost or an IP address", excerpt(host)));
    }
    if let Some(origin) = origin {
        let own = url_host.or(*host).map(|host| format!("http://{host}"));
        if !own.is_some_and(|own| own.eq_ignore_ascii_case(origin)) {
            return Some(format!("Origin {} is refused: it must be http:// and the value of Host", excerpt(origin)));
        }
    }
    let is_refused = |site: &&str| {
        // A page of another port of this machine (same-site) reads nothing: the browser hides the response from it.
        if request.only_reads() { *site == "cross-site" } else { !["same-origin", "none"].contains(site) }
    };
    let refused_site = fetch_site.filter(is_refused);
    refused_site.map(|site| format!("Sec-Fetch-Site {} is refused: it must be same-origin or none", excerpt(site)))
}

/// Whether the host of a `Host` header, with or without a port, is no name that another machine could resolve.
fn is_address_or_localhost(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let ip = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').and_then(|ip| ip.parse().ok()).map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    };
    ip.is_some() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{check, is_address_or_localhost};
    use crate::admin::http_request::{Parsed, parse};

    fn is_allowed(request: &str, peer: Option<&str>) -> bool {
        let Parsed::Complete(request, _) = parse(request.as_bytes()) else { panic!("not a whole request: {request}") };
        check(&request, peer.map(|peer| peer.parse::<SocketAddr>().unwrap())).is_ok()
    }

    #[test]
    fn only_this_machine_changes_something() {
        for (peer, may_change) in [
            (None, true),
            (Some("127.0.0.1:5000"), true),
            (Some("127.9.9.9:5000"), true),
            (Some("[::1]:5000"), true),
            (Some("[::ffff:127.0.0.1]:5000"), true),
            (Some("192.0.2.7:5000"), false),
            (Some("10.0.0.1:5000"), false),
            (Some("[::ffff:192.0.2.7]:5000"), false),
            (Some("[fe80::1]:5000"), false),
        ] {
            for method in ["PUT", "POST", "DELETE", "PATCH", "ANYTHING"] {
                let request = format!("{method} /log-level HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
                assert_eq!(is_allowed(&request, peer), may_change, "{method} from {peer:?}");
            }
            for method in ["GET", "HEAD"] {
                assert!(is_allowed(&format!("{method} /log-level HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), peer));
            }
        }
    }

    #[test]
    fn a_request_without_a_host_is_not_from_a_browser_but_needs_one_beside_an_origin() {
        assert!(is_allowed("PUT /log-level HTTP/1.0\r\n\r\n", None));
        assert!(!is_allowed("PUT /log-level HTTP/1.0\r\nOrigin: http://\r\n\r\n", None));
    }

    #[test]
    fn a_host_is_an_address_or_localhost_with_any_port() {
        for host in ["localhost", "LocalHost:1", "127.0.0.1", "10.0.0.1:65535", "[::1]", "[fd00::1]:80", "localhost:"] {
            assert!(is_address_or_localhost(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "a",
            "localhost.",
            "localhost.a",
            "127.0.0.1.a",
            "127.1",
            "0x7f000001",
            "[::1",
            "::1",
            "a:1",
            "[::1]a",
            "localhost:80:80",
            "127.0.0.1:a",
        ] {
            assert!(!is_address_or_localhost(host), "{host}");
        }
    }
}
