//! One file per stage of an execution's life. Each row is an input and what it must cause; see `script` for the
//! notation.

mod addresses;
mod admission;
mod adoption;
mod completion;
mod crashes;
mod dead_letters;
mod delivery;
mod dispatch;
mod drain_once;
mod ending;
mod epochs;
mod jobs;
mod journaling;
mod keys;
mod probes;
mod recovery;
mod registry;
mod restoration;
mod retention;
mod room;
mod scaling;
mod sync_queue;
mod timing;
mod watching;
