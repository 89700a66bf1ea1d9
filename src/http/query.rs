//! The query of a request. Parameters that a path does not know are ignored.

use std::{borrow::Cow, time::Duration};

use hyper::Uri;
use nanofaas_base::duration::parse_duration;
use nanofaas_wire::error::ApiError;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The query of an address; an empty one when it has none.
    pub(super) fn of(uri: &'a Uri) -> Query<'a> {
        Query(uri.query().unwrap_or_default())
    }

    /// A duration such as `5s`; a bare number is milliseconds.
    ///
    /// # Errors
    /// When it is there and is none.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match parse_duration(&text) {
            Ok(duration) => Ok(Some(duration)),
            Err(_) => Err(bad(name, "must be a duration, such as 500ms, 5s or PT5S")),
        }
    }

    /// A number from 1 to `max`.
    ///
    /// # Errors
    /// When it is there and is none.
    pub(super) fn count(&self, name: &str, max: usize) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse::<usize>() {
            Ok(count) if (1..=max).contains(&count) => Ok(Some(count)),
            _ => Err(bad(name, &format!("must be a number from 1 to {max}"))),
        }
    }

    /// `true` or `false`; false when it is not there.
    ///
    /// # Errors
    /// When it is there and is neither.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(bad(name, "must be true or false")),
        }
    }

    /// The last value of a parameter, decoded.
    fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let parameters = form_urlencoded::parse(self.0.as_bytes());
        parameters.filter(|(key, _)| key == name).last().map(|(_, value)| value)
    }
}

fn bad(name: &str, rule: &str) -> ApiError {
    ApiError::BadRequest(format!("Query parameter {name} {rule}").into())
}
