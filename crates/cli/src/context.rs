//! `nanofaas context`: the servers in `~/.config/nanofaas/config.toml`, and which of them commands talk to.
//!
//! A change keeps what this program does not know, but not comments. The file can hold passwords, so it is readable by its
//! owner only; it is replaced as a whole, so that no reader sees half of it.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use nanofaas_base::environment;
use serde_json::{Value, json};
use toml::{Table, Value as Toml};

use super::{
    contexts,
    failure::Failure,
    output::{self, Cell, CellStyle, Output},
};

/// What can be done with contexts.
#[derive(Subcommand)]
pub enum ContextCommand {
    /// List the contexts; the one in use has a star
    List,
    /// Choose the context that commands use from now on
    Use(Name),
    /// Create a context, or change some of its values
    Set(SetContext),
    /// Delete a context
    Delete(Name),
}

/// A context's name.
#[derive(Args)]
pub struct Name {
    /// Name of the context
    name: String,
}

/// Arguments of `context set`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    nanofaas context set staging --endpoint https://faas.staging.example.org --header \"Authorization: Bearer …\"\n  \
    nanofaas context use staging")]
pub struct SetContext {
    /// Name of the context
    name: String,
    /// Address of the server's API
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Address of the server's management listener, for top
    #[arg(long, value_name = "URL")]
    management: Option<String>,
    /// Header of every request; may be repeated; replaces those that were there
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Certificates (PEM) that the server is checked with
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

/// The file and what is in it.
struct Book {
    path: PathBuf,
    contexts: Table,
    /// Everything else.
    rest: Table,
}

impl ContextCommand {
    pub(super) fn run(self, output: &Output) -> Result<ExitCode, Failure> {
        let mut book = Book::read()?;
        let (name, done) = match self {
            ContextCommand::List => return list(&book, output),
            ContextCommand::Use(Name { name }) => {
                book.known(&name)?;
                book.rest.remove("currentContext");
                book.rest.insert("current-context".to_owned(), Toml::String(name.clone()));
                (name, "is in use")
            }
            ContextCommand::Set(set) => (set.write(&mut book)?, "is set"),
            ContextCommand::Delete(Name { name }) => {
                book.known(&name)?;
                book.contexts.remove(&name);
                for key in ["current-context", "currentContext"] {
                    if book.rest.get(key).and_then(Toml::as_str) == Some(&name) {
                        book.rest.remove(key);
                    }
                }
                (name, "is deleted")
            }
        };
        book.write()?;
        if output.is_json() {
            output.json(json!({ "context": name, "result": done }).to_string().as_bytes())?;
        } else {
            output.line(&format!("{name} {done}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(book: &Book, output: &Output) -> Result<ExitCode, Failure> {
    let file = contexts::parse(&book.path.display().to_string(), &book.text())?;
    let is_current = |name: &String| file.current_context.as_ref() == Some(name);
    if output.is_json() {
        let one = |(name, context): (&String, &contexts::Context)| {
            let shown = |address: &Option<String>| address.as_deref().map(contexts::shown);
            json!({
                "name": name, "current": is_current(name), "endpoint": shown(&context.endpoint),
                "management": shown(&context.management), "cacert": context.cacert,
                "headers": header_names(context),
            })
        };
        output.json(file.contexts.iter().map(one).collect::<Value>().to_string().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::Table::new(&["", "NAME", "ENDPOINT", "HEADERS"]);
    for (name, context) in &file.contexts {
        let none = || Cell::new("-", CellStyle::Faint);
        let headers = header_names(context).join(", ");
        table.row(vec![
            if is_current(name) { Cell::new("*", CellStyle::Good) } else { Cell::from(" ") },
            name.clone().into(),
            context.endpoint.as_deref().map_or_else(none, |endpoint| contexts::shown(endpoint).into()),
            if headers.is_empty() { none() } else { headers.into() },
        ]);
    }
    output.table(&table)?;
    Ok(ExitCode::SUCCESS)
}

/// Their values are nobody's business.
fn header_names(context: &contexts::Context) -> Vec<String> {
    let name = |text: &String| text.split(':').next().unwrap_or_default().trim().to_owned();
    context.headers.iter().map(name).collect()
}

impl SetContext {
    /// Checks everything before it is written down.
    fn write(self, book: &mut Book) -> Result<String, Failure> {
        let usage = |flag: &str| {
            let flag = flag.to_owned();
            move |message: String| Failure::Usage(format!("{flag}: {message}"))
        };
        for (flag, address) in [("--endpoint", &self.endpoint), ("--management", &self.management)] {
            if let Some(address) = address {
                contexts::server(address, &[], None).map_err(usage(flag))?;
            }
        }
        for header in &self.header {
            contexts::header(header).map_err(usage("--header"))?;
        }
        let SetContext { name, endpoint, management, header, cacert } = self;
        let cacert = match cacert.map(std::path::absolute).transpose() {
            Ok(path) => path.map(|path| path.display().to_string()),
            Err(error) => return Err(Failure::Usage(format!("--cacert: {error}"))),
        };
        let Toml::Table(context) =
            book.contexts.entry(name.clone()).or_insert_with(|| Toml::Table(Table::new()))
        else {
            return Err(Failure::Configuration(format!("{}: {name:?} is no context", book.path.display())));
        };
        for (key, value) in [("endpoint", endpoint), ("management", management), ("cacert", cacert)] {
            if let Some(value) = value {
                context.insert(key.to_owned(), Toml::String(value));
            }
        }
        if !header.is_empty() {
            let headers = header.into_iter().map(Toml::String).collect();
            context.insert("headers".to_owned(), Toml::Array(headers));
        }
        if !context.contains_key("endpoint") {
            return Err(Failure::Usage(format!("{name} is new: say where it is with --endpoint")));
        }
        Ok(name)
    }
}

impl Book {
    fn read() -> Result<Book, Failure> {
        let Some(path) = contexts::file_path(&environment::var) else {
            return Err(Failure::Configuration(
                "contexts are kept in the home directory, and HOME is not set".to_owned(),
            ));
        };
        let text = contexts::text(&path)?.unwrap_or_default();
        // Says what is wrong in the words of the other commands.
        contexts::parse(&path.display().to_string(), &text)?;
        let mut rest = text.parse::<Table>().unwrap_or_default();
        let contexts = match rest.remove("contexts") {
            Some(Toml::Table(contexts)) => contexts,
            _ => Table::new(),
        };
        Ok(Book { path, contexts, rest })
    }

    /// Refuses a name that no context has.
    fn known(&self, name: &str) -> Result<(), Failure> {
        if self.contexts.contains_key(name) {
            return Ok(());
        }
        let known: Vec<String> = self.contexts.keys().cloned().collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Failure::Failed(format!("there is no context {name:?}; known: {known}")))
    }

    /// The text of the file.
    fn text(&self) -> String {
        let mut content = self.rest.clone();
        content.insert("contexts".to_owned(), Toml::Table(self.contexts.clone()));
        content.to_string()
    }

    fn write(&self) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::Failed(format!("cannot write {}: {error}", self.path.display()));
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let new = self.path.with_extension(format!("toml.{}", std::process::id()));
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(self.text().as_bytes()))
            .and_then(|()| std::fs::rename(&new, &self.path));
        written.map_err(|error| {
            let _ = std::fs::remove_file(&new);
            failed(error)
        })
    }
}
