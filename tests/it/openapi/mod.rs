//! The server against the document that it serves at `/openapi.yaml`.
//!
//! [`routes`] asks every path with every method; [`answers`] provokes every documented status and checks what comes
//! back with [`document`]. That no route is missing in the document is checked by `tests/tidy`, which reads the
//! routes' source: from outside nobody can tell what a server might serve.

mod answers;
mod document;
mod nulls;
mod routes;
