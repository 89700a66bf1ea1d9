//! Which server to talk to: `--endpoint`, `NANOFAAS_ENDPOINT`, a context of the configuration file, else the
//! default address of a server on this machine. Its management listener is found in the same way; when nobody says
//! where it is, it is taken to be on the same host, at its default port.
//!
//! The file: `current-context = "name"` and, per context, `[contexts.name]` with `endpoint = "http://…"` and, if need
//! be, `management = "http://…"`. Keys it does not know are ignored, so that an older program can read a newer file.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::failure::Failure;

/// Where `nanofaas serve` and `dev` listen unless told otherwise.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8080";

/// Port of the management listener unless told otherwise.
const DEFAULT_MANAGEMENT_PORT: u16 = 8081;

/// What the endpoint is a function of.
pub(super) struct Wanted<'a> {
    /// `--endpoint`
    pub(super) endpoint: Option<&'a str>,
    /// `--context`
    pub(super) context: Option<&'a str>,
    /// Looks up a variable of the environment.
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    /// Name and text of the file, when there is one.
    pub(super) file: Option<(&'a str, &'a str)>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(alias = "currentContext")]
    current_context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

#[derive(Deserialize)]
struct Context {
    endpoint: Option<String>,
    management: Option<String>,
}

/// Place of the file with the contexts.
pub(super) fn file_path(environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let base = present(environment("XDG_CONFIG_HOME"))
        .map(PathBuf::from)
        .or_else(|| present(environment("HOME")).map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("nanofaas/config.toml"))
}

/// The endpoint, without a slash at its end.
pub(super) fn endpoint(wanted: &Wanted<'_>) -> Result<String, Failure> {
    if let Some(endpoint) = present(wanted.endpoint.map(str::to_owned)) {
        return checked(&endpoint).map_err(|message| Failure::Usage(format!("--endpoint: {message}")));
    }
    if wanted.context.is_none()
        && let Some(endpoint) = present((wanted.environment)("NANOFAAS_ENDPOINT"))
    {
        return checked(&endpoint)
            .map_err(|message| Failure::Connection(format!("NANOFAAS_ENDPOINT: {message}")));
    }
    from_context(wanted)
}

/// The management address, without a slash at its end. `flag` is `--management`.
pub(super) fn management(wanted: &Wanted<'_>, flag: Option<&str>) -> Result<String, Failure> {
    if let Some(address) = present(flag.map(str::to_owned)) {
        return checked(&address).map_err(|message| Failure::Usage(format!("--management: {message}")));
    }
    let variable = |name: &str| present((wanted.environment)(name)).filter(|_| wanted.context.is_none());
    if let Some(address) = variable("NANOFAAS_MANAGEMENT") {
        return checked(&address)
            .map_err(|message| Failure::Connection(format!("NANOFAAS_MANAGEMENT: {message}")));
    }
    // The context of another server than the one that is asked says nothing about this one.
    let is_by_context = wanted.endpoint.is_none() && variable("NANOFAAS_ENDPOINT").is_none();
    if is_by_context
        && let Some((place, context)) = context(wanted)?
        && let Some(address) = present(context.management)
    {
        return checked(&address).map_err(|message| Failure::Connection(format!("{place}: {message}")));
    }
    let endpoint = endpoint(wanted)?;
    let host = endpoint.parse::<hyper::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    Ok(format!("http://{}:{DEFAULT_MANAGEMENT_PORT}", host.as_deref().unwrap_or("127.0.0.1")))
}

fn from_context(wanted: &Wanted<'_>) -> Result<String, Failure> {
    let Some((place, context)) = context(wanted)? else { return Ok(DEFAULT_ENDPOINT.to_owned()) };
    match present(context.endpoint) {
        Some(endpoint) => {
            checked(&endpoint).map_err(|message| Failure::Connection(format!("{place}: {message}")))
        }
        None => Err(Failure::Connection(format!("{place} has no endpoint"))),
    }
}

/// The context that is meant, and how to name its place; `None` when none is.
fn context(wanted: &Wanted<'_>) -> Result<Option<(String, Context)>, Failure> {
    let named =
        wanted.context.map(str::to_owned).or_else(|| present((wanted.environment)("NANOFAAS_CONTEXT")));
    let (name, text) = wanted.file.unwrap_or(("~/.config/nanofaas/config.toml", ""));
    let mut file: File = toml::from_str(text)
        .map_err(|error| Failure::Connection(format!("{name}: {}", error.to_string().trim_end())))?;
    let Some(context) = named.or_else(|| present(file.current_context)) else {
        return Ok(None);
    };
    let Some(found) = file.contexts.remove(&context) else {
        let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::Connection(format!("{name}: there is no context {context:?}; known: {known}")));
    };
    Ok(Some((format!("{name}: context {context:?}"), found)))
}

/// Blank counts as unset.
fn present(value: Option<String>) -> Option<String> {
    value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn checked(endpoint: &str) -> Result<String, String> {
    let uri: Result<hyper::Uri, _> = endpoint.parse();
    match uri.as_ref().map(|uri| (uri.scheme_str(), uri.authority(), uri.query())) {
        Ok((Some("http"), Some(_), None)) => Ok(endpoint.trim_end_matches('/').to_owned()),
        Ok((Some("https"), ..)) => {
            Err(format!("{endpoint}: https is not supported; use http through a proxy"))
        }
        _ => Err(format!("{endpoint:?} is not an address like http://127.0.0.1:8080")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "current-context = 'a'\nfuture = 1\n[contexts.a]\nendpoint = 'http://a:1'\nnamespace = 'x'\n\
                        [contexts.b]\nendpoint = 'http://b:2/'\n[contexts.c]\n[contexts.d]\nendpoint = 'http://[::1]:4'\n\
                        [contexts.e]\nmanagement = 'http://e:7/'\n";

    fn resolve(
        flag: Option<&str>,
        context: Option<&str>,
        environment: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<String, String> {
        endpoint(&Wanted {
            endpoint: flag,
            context,
            environment: &|name| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            },
            file: file.map(|text| ("config.toml", text)),
        })
        .map_err(|failure| failure.to_string())
    }

    #[test]
    fn management_is_where_it_is_said_to_be_or_next_to_the_endpoint() {
        let (endpoint, management) =
            (("NANOFAAS_ENDPOINT", "http://e:5"), ("NANOFAAS_MANAGEMENT", "http://m:6/"));
        for (flag, by_flag, name, environment, expected) in [
            (None, None, None, &[][..], Ok("http://a:8081")),
            (Some("http://f:1/"), None, None, &[management], Ok("http://f:1")),
            (None, None, None, &[management], Ok("http://m:6")),
            (None, None, Some("e"), &[management], Ok("http://e:7")),
            (None, None, Some("e"), &[endpoint], Ok("http://e:7")),
            (None, None, Some("d"), &[], Ok("http://[::1]:8081")),
            (None, None, None, &[endpoint], Ok("http://e:8081")),
            (None, Some("http://g:9/"), None, &[], Ok("http://g:8081")),
            (None, None, Some("c"), &[], Err("config.toml: context \"c\" has no endpoint")),
            (Some("m:6"), None, None, &[], Err("--management: \"m:6\" is not an address")),
        ] {
            let found = super::management(
                &Wanted {
                    endpoint: by_flag,
                    context: name,
                    environment: &|name| {
                        environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
                    },
                    file: Some(("config.toml", FILE)),
                },
                flag,
            );
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(failure), Err(expected)) => {
                    assert!(failure.to_string().starts_with(expected), "{failure}")
                }
                (found, expected) => panic!("{found:?} {expected:?}"),
            }
        }
    }

    #[test]
    fn sources_in_their_order() {
        let endpoint = ("NANOFAAS_ENDPOINT", "http://e:5");
        let context = ("NANOFAAS_CONTEXT", "b");
        for (flag, name, environment, file, expected) in [
            (None, None, &[][..], None, "http://127.0.0.1:8080"),
            (None, None, &[], Some(""), "http://127.0.0.1:8080"),
            (None, None, &[], Some(FILE), "http://a:1"),
            (None, None, &[context], Some(FILE), "http://b:2"),
            (None, Some("b"), &[endpoint], Some(FILE), "http://b:2"),
            (None, None, &[endpoint, context], Some(FILE), "http://e:5"),
            (None, None, &[("NANOFAAS_ENDPOINT", " ")], Some(FILE), "http://a:1"),
            (Some("http://f:6//"), Some("b"), &[endpoint], Some(FILE), "http://f:6"),
        ] {
            assert_eq!(resolve(flag, name, environment, file), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (flag, name, file, expected) in [
            (Some("localhost:8080"), None, None, "--endpoint: \"localhost:8080\" is not an address"),
            (Some("https://x"), None, None, "--endpoint: https://x: https is not supported"),
            (None, Some("z"), Some(FILE), "config.toml: there is no context \"z\"; known: a, b, c, d, e"),
            (None, Some("c"), Some(FILE), "config.toml: context \"c\" has no endpoint"),
            (None, None, Some("current-context = "), "config.toml: TOML parse error at line 1"),
        ] {
            let message = resolve(flag, name, &[], file).expect_err("a mistake");
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
