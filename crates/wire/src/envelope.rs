//! The invocation envelope: `{"input": <any JSON>, "metadata": {string: string}?}`.
//!
//! `input` is never parsed into a tree and never written anew: its bytes reach the function unchanged.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde_json::value::RawValue;
use shard_core::Payload;

use super::error::ApiError;

/// The envelope, borrowed from the body.
#[derive(serde::Deserialize)]
struct RequestEnvelope<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

/// Reads the envelope of a request body.
///
/// # Errors
/// Malformed JSON with line and column; a missing `input`; metadata that is not a map of strings.
pub fn parse(body: &Bytes) -> Result<Payload, ApiError> {
    let Object(envelope): Object<RequestEnvelope<'_>> =
        serde_json::from_slice(body).map_err(|error| malformed(body, &error))?;
    // `null` is an input like any other, but an `Option` reads it as absent: look at the text.
    let input = match envelope.input {
        Some(input) => body.slice_ref(input.get().as_bytes()),
        None if has_null_input(body) => Bytes::from_static(b"null"),
        None => {
            let missing =
                "input: is required; wrap the payload as {\"input\": …} (null is allowed)".to_owned();
            return Err(ApiError::Validation(vec![missing]));
        }
    };
    let metadata = match envelope.metadata {
        Some(raw) => {
            serde_json::from_str::<StringMap>(raw.get()).map_err(|_| {
                ApiError::Validation(vec!["metadata: must be an object whose values are strings".to_owned()])
            })?;
            Some(body.slice_ref(raw.get().as_bytes()))
        }
        None => None,
    };
    Ok(Payload { input, metadata, content_type: None })
}

/// Says where JSON went wrong.
pub fn malformed(body: &[u8], error: &serde_json::Error) -> ApiError {
    let message = if body.is_empty() {
        "The body is empty; send JSON".to_owned()
    } else {
        // serde_json appends the position itself, unless the fault is in a field's type.
        format!("The body is not the JSON that this request takes: {error}")
    };
    ApiError::BadRequest(message.into())
}

/// Something that is read from an object only. serde would also take a list, its elements for the members in their order,
/// and names the type of the code when it takes neither.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

fn has_null_input(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Present {
        #[serde(default, deserialize_with = "present")]
        input: bool,
    }
    fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
    }
    serde_json::from_slice::<Present>(body).is_ok_and(|present| present.input)
}

/// A map of strings that is only checked.
struct StringMap;

impl<'de> Deserialize<'de> for StringMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Check;
        impl<'de> Visitor<'de> for Check {
            type Value = StringMap;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object whose values are strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMap, A::Error> {
                use std::borrow::Cow;
                while map.next_entry::<Cow<'de, str>, Cow<'de, str>>()?.is_some() {}
                Ok(StringMap)
            }
        }
        deserializer.deserialize_map(Check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_keeps_its_bytes() {
        for (body, input, metadata) in [
            (r#"{"input":1.00e2}"#, "1.00e2", None),
            (r#" { "metadata" : null , "input" : {"b":1, "a":2} } "#, r#"{"b":1, "a":2}"#, None),
            (r#"{"input":null}"#, "null", None),
            (r#"{"input":"\u00e9","metadata":{"k":"v"},"x":[1]}"#, r#""\u00e9""#, Some(r#"{"k":"v"}"#)),
            (r#"{"input":123456789012345678901234567890}"#, "123456789012345678901234567890", None),
        ] {
            let payload = parse(&Bytes::from(body)).expect(body);
            assert_eq!(payload.input, input, "{body}");
            assert_eq!(payload.metadata.as_deref(), metadata.map(str::as_bytes), "{body}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (body, part) in [
            ("", "empty"),
            ("{", "line 1 column 1"),
            ("[]", "line 1"),
            ("[]", "invalid type: sequence, expected an object"),
            ("[1,null]", "expected an object"),
            ("\"x\"", "expected an object"),
            ("null", "expected an object"),
            ("{}", "input: is required"),
            (r#"{"metadata":{}}"#, "input: is required"),
            (r#"{"input":1,"metadata":{"a":1}}"#, "metadata: must be"),
            (r#"{"input":1,"metadata":[]}"#, "metadata: must be"),
            (r#"{"input":1,"input":2}"#, "duplicate"),
            ("{\"input\":\"\u{0}\"}", "control character"),
            (r#"{"input":1} x"#, "trailing"),
        ] {
            let error = parse(&Bytes::from(body)).expect_err(body);
            let text = String::from_utf8(error.answer().body).expect("JSON");
            assert!(text.contains(part), "{body}: {text}");
        }
    }
}
