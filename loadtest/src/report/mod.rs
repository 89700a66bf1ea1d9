//! What a run comes to: a summary, as text, JSON and a page; and several of them side by side.

pub mod compare;
pub mod crash;
pub mod growth;
pub mod html;
pub mod peers;
pub mod rounds;
pub mod scaling;
pub mod summary;
pub mod table;
pub mod text;

pub use self::summary::Summary;
