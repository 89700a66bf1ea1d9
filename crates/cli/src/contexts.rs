//! Which server to talk to: `--endpoint`, `NANOFAAS_ENDPOINT`, a context of the configuration file, else the
//! default address of a server on this machine. Its management listener is found in the same way; when nobody says
//! where it is, it is taken to be on the same host, at its default port.
//!
//! The file: `current-context = "name"` and, per context, `[contexts.name]` with `endpoint = "http://…"` and, if need
//! be, `management = "http://…"`, `headers = ["Name: value"]` and `cacert = "/path/to/roots.pem"`. Keys it does not know
//! are ignored, so that an older program can read a newer file.
//!
//! A user name and a password in an address become an `Authorization` header; no message shows them. Headers and
//! certificates of a context go to its server only, not to one that is named in another way.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use serde::Deserialize;

use super::failure::Failure;

/// Where `nanofaas serve` and `dev` listen unless told otherwise.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8080";

/// Port of the management listener unless told otherwise.
const DEFAULT_MANAGEMENT_PORT: u16 = 8081;

/// What the endpoint is a function of.
pub(super) struct Wanted<'a> {
    /// `--endpoint`
    pub(super) endpoint: Option<&'a str>,
    /// `--context`
    pub(super) context: Option<&'a str>,
    /// `--header`
    pub(super) headers: &'a [String],
    /// `--cacert`
    pub(super) cacert: Option<&'a Path>,
    /// Looks up a variable of the environment.
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    /// Name and text of the file, when there is one.
    pub(super) file: Option<(&'a str, &'a str)>,
}

/// A server and how to talk to it.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerAccess {
    /// Its address, without a slash at its end and without a password.
    pub(super) address: String,
    /// Headers of every request.
    pub(super) headers: HeaderMap,
    /// File with the certificates to trust; `None` for the machine's own.
    pub(super) cacert: Option<PathBuf>,
}

/// The file, as far as this program understands it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    /// The context that is used when none is named.
    #[serde(alias = "currentContext")]
    pub(super) current_context: Option<String>,
    /// All contexts.
    #[serde(default)]
    pub(super) contexts: BTreeMap<String, Context>,
}

/// One context.
#[derive(Deserialize, Default)]
pub(super) struct Context {
    pub(super) endpoint: Option<String>,
    pub(super) management: Option<String>,
    #[serde(default)]
    pub(super) headers: Vec<String>,
    pub(super) cacert: Option<PathBuf>,
}

/// Place of the file with the contexts.
pub(super) fn file_path(environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let base = present(environment("XDG_CONFIG_HOME"))
        .map(PathBuf::from)
        .or_else(|| present(environment("HOME")).map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("nanofaas/config.toml"))
}

/// The text of the file; `None` when there is none.
pub(super) fn text(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Configuration(format!("{}: {error}", path.display()))),
    }
}

/// The server's API.
pub(super) fn endpoint(wanted: &Wanted<'_>) -> Result<ServerAccess, Failure> {
    if let Some(endpoint) = present(wanted.endpoint.map(str::to_owned)) {
        let server = server(&endpoint, &[], None);
        return with_flags(
            wanted,
            server.map_err(|message| Failure::Usage(format!("--endpoint: {message}")))?,
        );
    }
    if wanted.context.is_none()
        && let Some(endpoint) = present((wanted.environment)("NANOFAAS_ENDPOINT"))
    {
        let server = server(&endpoint, &[], None);
        let server =
            server.map_err(|message| Failure::Configuration(format!("NANOFAAS_ENDPOINT: {message}")))?;
        return with_flags(wanted, server);
    }
    from_context(wanted)
}

/// The server's management listener. `flag` is `--management`.
pub(super) fn management(wanted: &Wanted<'_>, flag: Option<&str>) -> Result<ServerAccess, Failure> {
    if let Some(address) = present(flag.map(str::to_owned)) {
        let server = server(&address, &[], None);
        return with_flags(
            wanted,
            server.map_err(|message| Failure::Usage(format!("--management: {message}")))?,
        );
    }
    let variable = |name: &str| present((wanted.environment)(name)).filter(|_| wanted.context.is_none());
    if let Some(address) = variable("NANOFAAS_MANAGEMENT") {
        let server = server(&address, &[], None);
        let server =
            server.map_err(|message| Failure::Configuration(format!("NANOFAAS_MANAGEMENT: {message}")))?;
        return with_flags(wanted, server);
    }
    // The context of another server than the one that is asked says nothing about this one.
    let is_by_context = wanted.endpoint.is_none() && variable("NANOFAAS_ENDPOINT").is_none();
    if is_by_context
        && let Some((place, context)) = context(wanted)?
        && let Some(address) = present(context.management)
    {
        let server = server(&address, &context.headers, context.cacert);
        let server = server.map_err(|message| Failure::Configuration(format!("{place}: {message}")))?;
        return with_flags(wanted, server);
    }
    let mut server = endpoint(wanted)?;
    let host = server.address.parse::<hyper::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    server.address = format!("http://{}:{DEFAULT_MANAGEMENT_PORT}", host.as_deref().unwrap_or("127.0.0.1"));
    Ok(server)
}

fn from_context(wanted: &Wanted<'_>) -> Result<ServerAccess, Failure> {
    let Some((place, context)) = context(wanted)? else {
        return with_flags(
            wanted,
            ServerAccess { address: DEFAULT_ENDPOINT.to_owned(), ..ServerAccess::default() },
        );
    };
    let Some(endpoint) = present(context.endpoint) else {
        return Err(Failure::Configuration(format!("{place} has no endpoint")));
    };
    let server = server(&endpoint, &context.headers, context.cacert);
    with_flags(wanted, server.map_err(|message| Failure::Configuration(format!("{place}: {message}")))?)
}

/// What the flags say beside the address holds for every server.
fn with_flags(wanted: &Wanted<'_>, mut server: ServerAccess) -> Result<ServerAccess, Failure> {
    for text in wanted.headers {
        let (name, value) = header(text).map_err(|message| Failure::Usage(format!("--header: {message}")))?;
        server.headers.insert(name, value);
    }
    if let Some(path) = wanted.cacert {
        server.cacert = Some(path.to_owned());
    }
    Ok(server)
}

/// A server from its address and what a context says about it.
pub(super) fn server(
    address: &str,
    headers: &[String],
    cacert: Option<PathBuf>,
) -> Result<ServerAccess, String> {
    let (address, credentials) = without_credentials(address)?;
    let mut server = ServerAccess { address: checked(&address)?, headers: HeaderMap::new(), cacert };
    server.headers.extend(credentials.map(|credentials| (AUTHORIZATION, credentials)));
    for text in headers {
        let (name, value) = header(text)?;
        server.headers.insert(name, value);
    }
    Ok(server)
}

/// An address as messages and lists may show it.
pub(super) fn shown(address: &str) -> String {
    let start = address.find("://").map_or(0, |start| start + 3);
    let end = address[start..].find(['/', '?', '#']).map_or(address.len(), |end| start + end);
    match address[start..end].rfind('@') {
        Some(at) => format!("{}***{}", &address[..start], &address[start + at..]),
        None => address.to_owned(),
    }
}

/// Takes a user name and a password out of an address, as the header that they mean.
fn without_credentials(address: &str) -> Result<(String, Option<HeaderValue>), String> {
    let Some((scheme, rest)) = address.split_once("://") else { return Ok((address.to_owned(), None)) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return Ok((address.to_owned(), None)) };
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    let mut plain = decoded(user);
    plain.push(b':');
    plain.extend(decoded(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)))
        .map_err(|_| format!("{}: the password cannot be sent", shown(address)))?;
    value.set_sensitive(true);
    Ok((format!("{scheme}://{}", &rest[at + 1..]), Some(value)))
}

/// The bytes that a text with `%41` in it stands for.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let hex = others.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    bytes
}

/// A header as a user writes it: `Name: value`. What is wrong with it is said without its value.
pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let Some((name, value)) = text.split_once(':') else {
        return Err("a header is written as 'Name: value'".to_owned());
    };
    let name =
        HeaderName::try_from(name.trim()).map_err(|_| format!("{name:?} is not the name of a header"))?;
    let mut value = HeaderValue::try_from(value.trim())
        .map_err(|_| format!("the value of {name} cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The context that is meant, and how to name its place; `None` when none is.
fn context(wanted: &Wanted<'_>) -> Result<Option<(String, Context)>, Failure> {
    let named =
        wanted.context.map(str::to_owned).or_else(|| present((wanted.environment)("NANOFAAS_CONTEXT")));
    let (name, text) = wanted.file.unwrap_or(("~/.config/nanofaas/config.toml", ""));
    let mut file = parse(name, text)?;
    let Some(context) = named.or_else(|| present(file.current_context)) else {
        return Ok(None);
    };
    let Some(found) = file.contexts.remove(&context) else {
        let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::Configuration(format!(
            "{name}: there is no context {context:?}; known: {known}"
        )));
    };
    Ok(Some((format!("{name}: context {context:?}"), found)))
}

/// Reads the text of the file `name`.
pub(super) fn parse(name: &str, text: &str) -> Result<File, Failure> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        // With the place, but without the line itself, which may hold a password.
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Failure::Configuration(format!("{name}:{line}: {}", error.message()))
    })
}

/// Blank counts as unset.
fn present(value: Option<String>) -> Option<String> {
    value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn checked(endpoint: &str) -> Result<String, String> {
    let uri: Result<hyper::Uri, _> = endpoint.parse();
    match uri.as_ref().map(|uri| (uri.scheme_str(), uri.authority(), uri.query())) {
        Ok((Some("http" | "https"), Some(_), None)) => Ok(endpoint.trim_end_matches('/').to_owned()),
        _ => Err(format!("{:?} is not an address like http://127.0.0.1:8080", shown(endpoint))),
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
            headers: &[],
            cacert: None,
            environment: &|name| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            },
            file: file.map(|text| ("config.toml", text)),
        })
        .map(|server| server.address)
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
                    headers: &[],
                    cacert: None,
                    environment: &|name| {
                        environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
                    },
                    file: Some(("config.toml", FILE)),
                },
                flag,
            );
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.address, expected),
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
            (Some("ftp://u:secret@x"), None, None, "--endpoint: \"ftp://x\" is not an address"),
            (Some("u:secret@x:80"), None, None, "--endpoint: \"***@x:80\" is not an address"),
            (None, None, Some("[contexts.a]\nendpoint = secret"), "config.toml:2: "),
            (None, Some("z"), Some(FILE), "config.toml: there is no context \"z\"; known: a, b, c, d, e"),
            (None, Some("c"), Some(FILE), "config.toml: context \"c\" has no endpoint"),
            (None, None, Some("current-context = "), "config.toml:1: "),
        ] {
            let message = resolve(flag, name, &[], file).expect_err("a mistake");
            assert!(message.starts_with(expected), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn credentials_become_a_header_and_are_never_shown() {
        for (given, address, authorization) in [
            ("http://h:1", "http://h:1", None),
            ("https://h/", "https://h", None),
            ("http://u:p@h:1/x", "http://h:1/x", Some("Basic dTpw")),
            ("http://u@h", "http://h", Some("Basic dTo=")),
            ("http://u:p%40%zz@h", "http://h", Some("Basic dTpwQCV6eg==")),
            ("http://u:p@q@h", "http://h", Some("Basic dTpwQHE=")),
        ] {
            let server = server(given, &[], None).expect("an address");
            let found = server.headers.get(AUTHORIZATION).map(|value| value.to_str().expect("text"));
            assert_eq!((server.address.as_str(), found), (address, authorization), "{given}");
        }
        assert_eq!(shown("http://u:p@h:1/a@b"), "http://***@h:1/a@b");
        assert_eq!(shown("http://h:1/a@b"), "http://h:1/a@b");
    }

    #[test]
    fn headers_of_a_context_go_to_its_server_only() {
        let file = "current-context = 'a'\n[contexts.a]\nendpoint = 'http://a:1'\nheaders = ['X-Team: blue']\n\
                    cacert = '/roots.pem'\n";
        let resolve = |endpoint, headers: &[String]| {
            super::endpoint(&Wanted {
                endpoint,
                context: None,
                headers,
                cacert: None,
                environment: &|_| None,
                file: Some(("config.toml", file)),
            })
        };
        let server = resolve(None, &[]).expect("a server");
        assert_eq!(server.headers["x-team"], "blue");
        assert_eq!(server.cacert, Some(PathBuf::from("/roots.pem")));
        let flags = ["X-Team: red".to_owned(), "X-Other:1".to_owned()];
        let server = resolve(None, &flags).expect("a server");
        assert_eq!(
            (&server.headers["x-team"], &server.headers["x-other"]),
            (&"red".parse().unwrap(), &"1".parse().unwrap())
        );
        let server = resolve(Some("http://b:2"), &[]).expect("a server");
        assert!(server.headers.is_empty() && server.cacert.is_none());
        for wrong in ["x", "a b: c", "x: a\nb"] {
            let failure = resolve(None, &[wrong.to_owned()]).expect_err("no header");
            assert!(matches!(failure, Failure::Usage(_)), "{failure}");
        }
    }
}
