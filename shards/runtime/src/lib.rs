//! Runs shards on threads.
