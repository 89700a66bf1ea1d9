//! The watchdog: any program as a function.
