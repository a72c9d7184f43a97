//! Parses the requests of HTTP/1.0 and HTTP/1.1.
//!
//! A request is bounded in its head and its body, and is whole or not there.

use httparse::{EMPTY_HEADER, Error, Header, Status};

use crate::admin::http_response::Response;

/// The longest head of a request, in bytes: the common limit of HTTP servers.
pub(crate) const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The longest body of a request, in bytes: a list of faults.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// The most headers of a request; browsers send about 20.
const HEADERS_MAX: usize = 64;

/// A whole request.
#[derive(Debug)]
pub(crate) struct Request<'i> {
    pub(crate) method: &'i str,
    /// The path without the query.
    pub(crate) path: &'i str,
    pub(crate) has_query: bool,
    /// Whether the connection stays open after the response.
    pub(crate) keeps_alive: bool,
    /// Whether it is HTTP/1.0, which needs a header to stay connected.
    pub(crate) is_http_1_0: bool,
    /// The value of `Host`.
    pub(crate) host: Option<&'i str>,
    /// The host of an absolute URL, which counts instead of `Host` (RFC 9112, section 3.2.2).
    pub(crate) url_host: Option<&'i str>,
    pub(crate) origin: Option<&'i str>,
    pub(crate) fetch_site: Option<&'i str>,
    pub(crate) accept: Option<&'i str>,
    pub(crate) body: &'i [u8],
}

impl Request<'_> {
    /// Whether it may only read.
    pub(crate) fn only_reads(&self) -> bool {
        ["GET", "HEAD"].contains(&self.method)
    }
}

/// What the input begins with.
pub(crate) enum Parsed<'i> {
    Incomplete,
    /// A request, and its length in bytes.
    Complete(Request<'i>, usize),
    /// No request that can be answered: the response, after which the connection closes.
    Invalid(Response),
}

/// Parses the first request of the input.
pub(crate) fn parse(input: &[u8]) -> Parsed<'_> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(input) {
        Ok(Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => return Parsed::Incomplete,
        Ok(_) => return Parsed::Invalid(Response::text(431, "the head of the request is longer than 8 KiB")),
        Err(error) => return Parsed::Invalid(refuse(error)),
    };
    let (Some(method), Some(target), Some(minor_version)) = (head.method, head.path, head.version) else {
        return Parsed::Invalid(Response::text(400, "the request has no method, path and version"));
    };
    let fields = match Fields::read(head.headers, minor_version) {
        Ok(fields) => fields,
        Err(response) => return Parsed::Invalid(response),
    };
    let length = head_bytes + fields.body_bytes;
    let Some(body) = input.get(head_bytes..length) else { return Parsed::Incomplete };
    let (url_host, path) = split_target(target);
    let request = Request {
        method,
        path,
        has_query: target.contains('?'),
        keeps_alive: fields.keeps_alive,
        is_http_1_0: minor_version == 0,
        host: fields.host,
        url_host,
        origin: fields.origin,
        fetch_site: fields.fetch_site,
        accept: fields.accept,
        body,
    };
    Parsed::Complete(request, length)
}

fn refuse(error: Error) -> Response {
    match error {
        Error::Version => Response::text(505, "only HTTP/1.0 and HTTP/1.1 are served"),
        Error::TooManyHeaders => Response::text(431, "the request has more than 64 headers"),
        error => Response::text(400, &format!("not an HTTP request: {error}")),
    }
}

/// The authority of an absolute URL, and the path without its query.
fn split_target(target: &str) -> (Option<&str>, &str) {
    let (authority, path) = match target.strip_prefix("http://") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), if rest[end..].starts_with('/') { &rest[end..] } else { "/" })
        }
        None => (None, target),
    };
    (authority, path.split('?').next().unwrap_or_default())
}

/// The headers that have a meaning here.
struct Fields<'i> {
    host: Option<&'i str>,
    origin: Option<&'i str>,
    fetch_site: Option<&'i str>,
    accept: Option<&'i str>,
    keeps_alive: bool,
    body_bytes: usize,
}

impl<'i> Fields<'i> {
    fn read(headers: &[Header<'i>], minor_version: u8) -> Result<Self, Response> {
        let is_http_1_1 = minor_version == 1;
        if one_value(headers, "Transfer-Encoding")?.is_some() {
            return Err(Response::text(501, "Transfer-Encoding is not supported; send Content-Length"));
        }
        if one_value(headers, "Expect")?.is_some() {
            return Err(Response::text(417, "Expect is not supported; leave it out"));
        }
        let host = one_value(headers, "Host")?;
        if is_http_1_1 && host.is_none() {
            return Err(Response::text(400, "the header Host is missing"));
        }
        let body_bytes = match one_value(headers, "Content-Length")? {
            None => 0,
            Some(text) if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(Response::text(400, "Content-Length is not a number"));
            }
            // A number that does not fit is too long, too.
            Some(text) => match text.parse() {
                Ok(bytes) if bytes <= BODY_BYTES_MAX => bytes,
                _ => return Err(Response::text(413, "the body of the request is longer than 4 KiB")),
            },
        };
        let options = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("Connection"));
        let options = options.filter_map(|header| std::str::from_utf8(header.value).ok());
        let options: Vec<&str> = options.flat_map(|value| value.split(',')).map(str::trim).collect();
        let has_option = |name: &str| options.iter().any(|option| option.eq_ignore_ascii_case(name));
        Ok(Self {
            host,
            origin: one_value(headers, "Origin")?,
            fetch_site: one_value(headers, "Sec-Fetch-Site")?,
            accept: headers.iter().find(|header| header.name.eq_ignore_ascii_case("Accept")).and_then(text_of),
            keeps_alive: !has_option("close") && (is_http_1_1 || has_option("keep-alive")),
            body_bytes,
        })
    }
}

fn text_of<'i>(header: &Header<'i>) -> Option<&'i str> {
    std::str::from_utf8(header.value).ok()
}

/// The value of a header that may occur once. Two different values could mislead a check (RFC 9112, section 3.2).
fn one_value<'i>(headers: &[Header<'i>], name: &str) -> Result<Option<&'i str>, Response> {
    let mut found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(header), None) => text_of(header)
            .map(|value| Some(value.trim()))
            .ok_or_else(|| Response::text(400, &format!("the header {name} is not UTF-8"))),
        (Some(_), Some(_)) => Err(Response::text(400, &format!("the header {name} occurs more than once"))),
    }
}
