//! Which server to talk to: `--endpoint`, `NANOFAAS_ENDPOINT`, a context of the configuration file, else the
//! default address of a server on this machine.
//!
//! The file: `current-context = "name"` and, per context, `[contexts.name]` with `endpoint = "http://…"`. Keys it
//! does not know are ignored, so that an older program can read a newer file.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::failure::Failure;

/// Where `nanofaas serve` and `dev` listen unless told otherwise.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8080";

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

fn from_context(wanted: &Wanted<'_>) -> Result<String, Failure> {
    let named =
        wanted.context.map(str::to_owned).or_else(|| present((wanted.environment)("NANOFAAS_CONTEXT")));
    let (name, text) = wanted.file.unwrap_or(("~/.config/nanofaas/config.toml", ""));
    let file: File = toml::from_str(text)
        .map_err(|error| Failure::Connection(format!("{name}: {}", error.to_string().trim_end())))?;
    let Some(context) = named.or_else(|| present(file.current_context)) else {
        return Ok(DEFAULT_ENDPOINT.to_owned());
    };
    let Some(found) = file.contexts.get(&context) else {
        let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::Connection(format!("{name}: there is no context {context:?}; known: {known}")));
    };
    match present(found.endpoint.clone()) {
        Some(endpoint) => checked(&endpoint)
            .map_err(|message| Failure::Connection(format!("{name}: context {context:?}: {message}"))),
        None => Err(Failure::Connection(format!("{name}: context {context:?} has no endpoint"))),
    }
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
                        [contexts.b]\nendpoint = 'http://b:2/'\n[contexts.c]\n";

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
            (None, Some("z"), Some(FILE), "config.toml: there is no context \"z\"; known: a, b, c"),
            (None, Some("c"), Some(FILE), "config.toml: context \"c\" has no endpoint"),
            (None, None, Some("current-context = "), "config.toml: TOML parse error at line 1"),
        ] {
            let message = resolve(flag, name, &[], file).expect_err("a mistake");
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
