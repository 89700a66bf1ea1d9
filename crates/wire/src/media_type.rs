//! Content types, as far as they decide how a body is read.

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`, `*/*+json`, or none given.
    Json,
    /// `text/*`.
    Text,
    /// `application/x-www-form-urlencoded`, `multipart/form-data`: almost always a client that forgot the header.
    Form,
    /// Anything else.
    Other,
}

impl MediaType {
    /// Reads a `Content-Type`; parameters do not matter.
    pub fn of(content_type: Option<&[u8]>) -> MediaType {
        let Some(value) = content_type else { return MediaType::Json };
        if value == b"application/json" {
            return MediaType::Json;
        }
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let essence = essence.to_ascii_lowercase();
        match essence.as_slice() {
            b"" | b"application/json" => MediaType::Json,
            b"application/x-www-form-urlencoded" | b"multipart/form-data" => MediaType::Form,
            other if other.ends_with(b"+json") && other.contains(&b'/') => MediaType::Json,
            other if other.starts_with(b"text/") => MediaType::Text,
            _ => MediaType::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (value, expected) in [
            (None, MediaType::Json),
            (Some("application/json; charset=utf-8"), MediaType::Json),
            (Some("Application/JSON"), MediaType::Json),
            (Some("application/vnd.api+json"), MediaType::Json),
            (Some("text/plain;charset=utf-8"), MediaType::Text),
            (Some("application/x-www-form-urlencoded"), MediaType::Form),
            (Some("multipart/form-data; boundary=x"), MediaType::Form),
            (Some("image/png"), MediaType::Other),
            (Some("json"), MediaType::Other),
        ] {
            assert_eq!(MediaType::of(value.map(str::as_bytes)), expected, "{value:?}");
        }
    }
}
