//! `loadtest static`: the fastest server we have, to measure the load generator against.

use std::{
    io::{self, Write},
    net::TcpListener,
    process::ExitCode,
};

use clap::Args;

use super::failure::Failure;
use crate::serve::Server;

/// Serve a fixed answer on 127.0.0.1.
#[derive(Args)]
pub(super) struct Static {
    /// Port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Body of every answer
    #[arg(long, default_value = r#"{"executionId":"static","status":"success","output":null,"error":null}"#)]
    body: String,
}

impl Static {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", self.port))
            .map_err(|error| Failure::Failed(format!("cannot listen on port {}: {error}", self.port)))?;
        let server = Server::new(listener)?;
        writeln!(io::stdout(), "serving on http://{}", server.address()?)?;
        let (length, body) = (self.body.len(), self.body);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        server.run_fixed(answer.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
