//! What a request comes to. Pure: bytes in, verdict out.

use std::mem::MaybeUninit;

use httparse::{Error, Request, Status};

/// Request line and headers. Who sends this much without an end of them is refused.
pub(crate) const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// A body up to this long is read past, a longer one refused: nobody here wants any.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What a request comes to.
pub(crate) struct Verdict {
    pub(crate) status: &'static str,
    /// A HEAD is answered without the text.
    pub(crate) has_text: bool,
    /// How many bytes of body to skip before the next request; `None` if there is to be no next one.
    pub(crate) body_bytes: Option<usize>,
}

impl Verdict {
    fn refuse(status: &'static str) -> Self {
        Self { status, has_text: true, body_bytes: None }
    }
}

/// The first request's length and what it comes to; `None` while it is not whole.
pub(crate) fn judge(input: &[u8]) -> Option<(usize, Verdict)> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(input, &mut headers) {
        Ok(Status::Complete(length)) => Some((length, serve(&request).unwrap_or_else(Verdict::refuse))),
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            Some((0, Verdict::refuse("431 Request Header Fields Too Large")))
        }
        Err(_) => Some((0, Verdict::refuse("400 Bad Request"))),
    }
}

/// Decides about a request, or says with which status to refuse it and everything after it.
fn serve(request: &Request<'_, '_>) -> Result<Verdict, &'static str> {
    let is_old = request.version == Some(0);
    let (mut hosts, mut length, mut keeps_alive) = (0, None, !is_old);
    for header in request.headers.iter() {
        let is = |name| header.name.eq_ignore_ascii_case(name);
        let has = |word: &str| {
            header
                .value
                .split(|byte| *byte == b',')
                .any(|value| value.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        };
        if is("host") {
            hosts += 1;
        } else if is("connection") {
            keeps_alive = !has("close") && (keeps_alive || has("keep-alive"));
        } else if is("content-length") && length.replace(decimal(header.value).ok_or("400 Bad Request")?).is_some() {
            return Err("400 Bad Request");
        } else if is("transfer-encoding") {
            // Where such a body ends is not looked for, so nothing that follows can be told from it.
            return Err("411 Length Required");
        } else if is("expect") {
            // Who asks first whether to send the body is spared it.
            keeps_alive = false;
        }
    }
    if hosts > 1 || hosts == 0 && !is_old {
        return Err("400 Bad Request");
    }
    let body_bytes = length.unwrap_or(0);
    if body_bytes > BODY_BYTES_MAX {
        return Err("413 Content Too Large");
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let status = match (method, target.split('?').next()) {
        ("GET" | "HEAD", Some("/")) => "200 OK",
        ("GET" | "HEAD", _) => "404 Not Found",
        _ => "405 Method Not Allowed",
    };
    Ok(Verdict { status, has_text: method != "HEAD", body_bytes: keeps_alive.then_some(body_bytes) })
}

/// A number as `Content-Length` has it: digits alone, no sign, which others might read otherwise.
fn decimal(value: &[u8]) -> Option<usize> {
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_plain.then(|| str::from_utf8(value).ok()?.parse().ok())?
}
