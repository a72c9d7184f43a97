//! Responses of the admin endpoint, and their bytes.
//!
//! A text response is one sentence and a newline.

use std::fmt::Write;

use crate::admin::LargePagePermit;

/// The type of a text.
pub(crate) const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// A response, before it is known for which request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// The value of `Allow`, for a wrong method.
    pub(crate) allow: Option<&'static str>,
    pub(crate) body: Vec<u8>,
    /// Of a large page: kept until it is sent.
    pub(crate) permit: Option<LargePagePermit>,
}

/// What the request decides about the bytes of a response.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResponseForm {
    /// Only the head is sent (HEAD).
    pub(crate) is_head: bool,
    pub(crate) keeps_alive: bool,
    pub(crate) is_http_1_0: bool,
}

impl Response {
    /// A successful response.
    pub(crate) fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, content_type, allow: None, body: body.into(), permit: None }
    }

    /// A response of one sentence.
    pub(crate) fn text(status: u16, sentence: &str) -> Self {
        Self { status, ..Self::ok(PLAIN_TEXT, format!("{sentence}\n")) }
    }

    /// Head and body.
    pub(crate) fn into_bytes(self, form: ResponseForm) -> Vec<u8> {
        let Self { status, content_type, allow, body, .. } = self;
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status));
        let connection = match (form.keeps_alive, form.is_http_1_0) {
            (true, false) => "",
            (true, true) => "Connection: keep-alive\r\n",
            (false, _) => "Connection: close\r\n",
        };
        let length = body.len();
        // Writing into a string cannot fail.
        let _ = write!(
            head,
            "Content-Type: {content_type}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{connection}"
        );
        if let Some(methods) = allow {
            let _ = write!(head, "Allow: {methods}\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !form.is_head {
            bytes.extend_from_slice(&body);
        }
        bytes
    }
}

/// The phrase of a status (RFC 9110, section 15).
const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
