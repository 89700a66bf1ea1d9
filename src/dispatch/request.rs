//! An attempt as the bytes of an HTTP/1.1 request.

use bytes::Bytes;
use hyper::Uri;
use shard_core::{Dispatch, Payload};
use smallvec::SmallVec;

/// Inputs up to this size are copied behind their head, so that a request is one write.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// Room for the head besides address and texts of the caller's.
const HEAD_BYTES: usize = 320;

/// What requests to one address begin with: `POST` and the request line's rest, `Host`, and the name of the function, by which a
/// watchdog knows calls that are not for it.
pub(super) struct Prefix {
    /// Path, authority and name. Most are so short that they lie in the pool itself, which is in no cache when there are ten
    /// thousand of them.
    text: SmallVec<[u8; 48]>,
    path_length: u32,
    name_length: u32,
}

impl Prefix {
    pub(super) fn of(uri: &Uri, function: &str) -> Prefix {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        // User info in an address is not sent: HTTP has no place for it outside `Authorization`.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let text = [path.as_bytes(), authority.as_bytes(), function.as_bytes()].concat();
        // An address came in the body of a registration, which is shorter than 4 GiB.
        let (path_length, name_length) = (path.len() as u32, function.len() as u32);
        Prefix { text: SmallVec::from_slice(&text), path_length, name_length }
    }

    fn write(&self, head: &mut Vec<u8>) {
        let (path, rest) = self.text.split_at(self.path_length as usize);
        let (authority, name) = rest.split_at(rest.len() - self.name_length as usize);
        let [line, host, function]: [&[u8]; 3] = [b"POST ", b" HTTP/1.1\r\nhost: ", b"\r\nx-function-name: "];
        for part in [line, path, host, authority, function, name, b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
}

/// A request: what is written first, then the rest of its body.
pub(super) struct Request {
    pub(super) head: Vec<u8>,
    pub(super) input: Bytes,
    pub(super) tail: Vec<u8>,
}

/// Writes an attempt down, behind its request line and `Host`. The body is the caller's, or in the JSON envelope `{"input":…,"metadata":…}`.
pub(super) fn encode(prefix: &Prefix, dispatch: &Dispatch) -> Request {
    let payload = &dispatch.payload;
    let raw = payload.content_type.is_some();
    let (before, between, after): (&[u8], &[u8], &[u8]) =
        if raw { (b"", b"", b"") } else { (b"{\"input\":", b",\"metadata\":", b"}") };
    let metadata: &[u8] = match &payload.metadata {
        _ if raw => b"",
        Some(metadata) => metadata,
        None => b"null",
    };
    let length = before.len() + payload.input.len() + between.len() + metadata.len() + after.len();
    let inline = length <= INLINE_BYTES_MAX;

    let mut head = Vec::with_capacity(prefix.text.len() + HEAD_BYTES + if inline { length } else { 0 });
    prefix.write(&mut head);
    header(&mut head, "content-type", payload.content_type.as_deref().unwrap_or("application/json"));
    head.extend_from_slice(b"x-execution-id: ");
    head.extend_from_slice(&dispatch.id.text());
    head.extend_from_slice(b"\r\nx-dispatch-attempt: ");
    number(&mut head, u64::from(dispatch.number));
    head.extend_from_slice(b"\r\nx-deadline-ms: ");
    number(&mut head, u64::from(dispatch.remaining_ms));
    head.extend_from_slice(b"\r\ncontent-length: ");
    number(&mut head, length as u64);
    head.extend_from_slice(b"\r\n");
    if let Some(extra) = &dispatch.extra {
        let key = extra.idempotency.as_ref().map(|idempotency| &*idempotency.key);
        let texts = [
            ("x-trace-id", extra.trace_id.as_deref()),
            ("traceparent", extra.traceparent.as_deref()),
            ("idempotency-key", key),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                header(&mut head, name, text);
            }
        }
    }
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(before);
    if inline {
        for part in [&payload.input, between, metadata, after] {
            head.extend_from_slice(part);
        }
        return Request { head, input: Bytes::new(), tail: Vec::new() };
    }
    Request { head, input: payload.input.clone(), tail: [between, metadata, after].concat() }
}

/// The body of a call in one piece: its JSON envelope. `None`: the call is not JSON.
pub(crate) fn envelope(payload: &Payload) -> Option<Bytes> {
    if payload.content_type.is_some() {
        return None;
    }
    let metadata: &[u8] = payload.metadata.as_deref().unwrap_or(b"null");
    let parts: [&[u8]; 5] = [b"{\"input\":", &payload.input, b",\"metadata\":", metadata, b"}"];
    Some(parts.concat().into())
}

/// Texts of callers were header values when they came in. One that would end the line all the same is left out.
fn header(head: &mut Vec<u8>, name: &str, value: &str) {
    if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
        return;
    }
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

fn number(head: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    head.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use shard_core::{Destination, EndpointId, ExecutionId, Extra, Idempotency, Payload};

    use super::*;

    const ROOT: &str = "http://h";

    fn encoded(address: &str, payload: Payload, extra: Option<Extra>) -> Request {
        let dispatch = Dispatch {
            attempt: shard_core::AttemptKey::default(),
            id: ExecutionId::new(*b"0123456789abcdef", 7),
            number: 2,
            destination: Destination::Endpoint(EndpointId::default()),
            payload,
            remaining_ms: 1500,
            extra: extra.map(Box::new),
        };
        encode(&Prefix::of(&address.parse().expect("an address"), "f"), &dispatch)
    }

    fn text(request: &Request) -> String {
        let all = [&request.head[..], &request.input, &request.tail].concat();
        String::from_utf8(all).expect("text").replace("\r\n", "\n")
    }

    #[test]
    fn an_envelope_with_everything() {
        let payload = Payload { metadata: Some(Bytes::from(r#"{"a":"b"}"#)), ..Payload::json("[1]") };
        let extra = Extra {
            trace_id: Some("t".into()),
            traceparent: Some("00-p".into()),
            idempotency: Some(Idempotency { key: "k".into(), digest: [0; 16] }),
            ..Extra::default()
        };
        let request = encoded("http://user:word@h:81/in?q=1", payload, Some(extra));
        assert!(request.input.is_empty(), "it is one write");
        assert_eq!(
            text(&request),
            "POST /in?q=1 HTTP/1.1\nhost: h:81\nx-function-name: f\ncontent-type: application/json\n\
             x-execution-id: 30313233-3435-4637-b839-616263640007\nx-dispatch-attempt: 2\nx-deadline-ms: 1500\n\
             content-length: 34\nx-trace-id: t\ntraceparent: 00-p\nidempotency-key: k\n\n\
             {\"input\":[1],\"metadata\":{\"a\":\"b\"}}"
        );
    }

    #[test]
    fn a_raw_body_is_as_it_came() {
        let payload = Payload { content_type: Some("text/plain".into()), ..Payload::json("a\nb") };
        let request = text(&encoded(ROOT, payload, None));
        assert!(
            request.starts_with("POST / HTTP/1.1\nhost: h\nx-function-name: f\ncontent-type: text/plain\n"),
            "{request}"
        );
        assert!(request.ends_with("content-length: 3\n\na\nb"), "{request}");
    }

    #[test]
    fn a_large_input_is_not_copied() {
        let input = format!("\"{}\"", "x".repeat(INLINE_BYTES_MAX));
        let request = encoded(ROOT, Payload::json(input.clone()), None);
        assert_eq!(request.input, input);
        assert!(text(&request).ends_with(&format!("{{\"input\":{input},\"metadata\":null}}")));
    }

    #[test]
    fn no_text_breaks_out_of_its_line() {
        let extra = Extra { trace_id: Some("t\r\nx: y".into()), ..Extra::default() };
        assert!(!text(&encoded(ROOT, Payload::json("1"), Some(extra))).contains("x: y"));
    }
}
