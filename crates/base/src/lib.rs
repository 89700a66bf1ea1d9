//! What the server and the command line share: the environment that is hidden from functions, the signals that end a
//! process, and durations as people write them.

pub mod duration;
pub mod environment;
pub mod signals;
