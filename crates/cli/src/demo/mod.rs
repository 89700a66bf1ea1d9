//! `nanofaas demo`: a server, the example functions on it, and what came of it; then a `tour` of queue, retries, dead
//! letters and scaling.
//!
//! The server is a child process of this one (`nanofaas dev --ephemeral`), so that what is shown is what a user
//! gets. Whatever happens, the child is told to end and waited for; should this process be killed, the kernel
//! tells it. Progress goes to stderr, the table and the addresses to stdout.

mod examples;
mod run;
mod server;
mod tour;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use nanofaas_base::signals::Signals;

use self::{examples::Example, run::DemoRow, server::DemoServer, tour::Story};
use super::{
    block_on,
    client::ApiClient,
    failure::Failure,
    output::{Output, OutputFormat, note},
    signals,
};

/// Arguments of `demo`.
#[derive(Args)]
pub struct Demo {
    /// Exit when the examples are done, with code 1 if one failed or differed
    #[arg(long)]
    once: bool,
    /// Port of the API; 0 takes a free one
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    port: u16,
    /// Port of the management listener; 0 takes a free one
    #[arg(long, default_value_t = 8081, value_name = "PORT")]
    management_port: u16,
    /// Directory with one folder per example [default: examples/functions, here or where this program was built]
    #[arg(long, value_name = "DIR")]
    examples: Option<PathBuf>,
}

impl Demo {
    /// Runs the demo to its end.
    ///
    /// # Errors
    /// It could not be shown.
    pub fn run(self) -> Result<ExitCode, Failure> {
        block_on(self.show(Output::stdout(OutputFormat::Table)))
    }

    async fn show(self, output: Output) -> Result<ExitCode, Failure> {
        let mut signals = signals::listen()?;
        let examples = examples::find(self.examples.as_deref())?;
        let mut server = DemoServer::start(self.port, self.management_port)?;
        // From here on every way out passes `stop`.
        let result = self.serve(&mut server, &mut signals, &examples, &output).await;
        if server.is_running() {
            note("ending the server");
        }
        let clean = server.stop(&mut signals).await;
        match (result?, clean) {
            (good, true) => Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
            (_, false) => Err(Failure::Failed("the server had to be killed".to_owned())),
        }
    }

    /// Shows everything and serves until a signal; true when nothing failed.
    async fn serve(
        &self,
        server: &mut DemoServer,
        signals: &mut Signals,
        examples: &[Example],
        output: &Output,
    ) -> Result<bool, Failure> {
        let (rows, stories) = tokio::select! {
            shown = show(server, examples) => shown?,
            () = signals.next() => return Ok(false),
        };
        output.table(&run::table(&rows))?;
        output.line("")?;
        output.table(&tour::table(&stories))?;
        let good_rows = rows.iter().filter(|row| row.is_good()).count();
        let good_stories = stories.iter().filter(|story| story.is_good()).count();
        output.line(&format!(
            "\nAs expected: {good_rows} of {} calls, {good_stories} of {} stories",
            rows.len(),
            stories.len()
        ))?;
        let good = good_rows == rows.len() && good_stories == stories.len();
        if self.once {
            return Ok(good);
        }
        output.line(&invitation(server, &rows))?;
        tokio::select! {
            () = signals.next() => Ok(good),
            ended = server.ended() => Err(ended),
        }
    }
}

/// Runs the examples, then what goes beyond calling them, as long as the server lives.
async fn show(server: &mut DemoServer, examples: &[Example]) -> Result<(Vec<DemoRow>, Vec<Story>), Failure> {
    server.ready().await?;
    let api = ApiClient::new(server.endpoint());
    let mut rows = Vec::new();
    for example in examples {
        tokio::select! {
            more = run::run(&api, example) => rows.extend(more),
            ended = server.ended() => return Err(ended),
        }
    }
    tokio::select! {
        stories = tour::run(&api, examples) => Ok((rows, stories?)),
        ended = server.ended() => Err(ended),
    }
}

/// This program as it was called: after `cargo run` it is on no search path.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "nanofaas".to_owned())
}

/// Where it serves, and two lines to try.
fn invitation(server: &DemoServer, rows: &[DemoRow]) -> String {
    let endpoint = server.endpoint();
    let mut text =
        format!("\nAPI         {endpoint}\nmanagement  {}/actuator/health\n", server.management_endpoint());
    if let Some((name, input)) = run::shortest_input(rows) {
        let quoted = |text: &str| shlex::try_quote(text).map(String::from).unwrap_or_default();
        let body = quoted(&format!("{{\"input\":{input}}}"));
        text.push_str(&format!(
            "\nTry\n  curl -H 'Content-Type: application/json' -d {body} {endpoint}/v1/functions/{name}:invoke\n  \
             {} invoke {name} -d {}{}\n",
            quoted(&program()),
            quoted(input),
            if server.is_default() { String::new() } else { format!(" --endpoint {endpoint}") }
        ));
    }
    text.push_str("\nCtrl-C ends it.");
    text
}
