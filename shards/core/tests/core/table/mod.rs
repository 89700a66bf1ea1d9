//! One file per stage of an execution's life. Each row is an input and what it must cause; see `script` for the
//! notation.

mod admission;
mod completion;
mod delivery;
mod dispatch;
mod registry;
mod retention;
mod timing;
