//! What a run comes to: a summary, as text, JSON and a page.

pub mod summary;
pub mod table;
pub mod text;

pub use self::summary::Summary;
