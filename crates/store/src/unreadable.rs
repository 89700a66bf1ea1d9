//! What bytes are that are no record: nobody's, or those of a newer version.

use super::{StoreError, segment::Segment};

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// No version writes them.
    Broken,
    /// They say something that this version does not know.
    Newer(String),
}

impl Unreadable {
    /// What it means for a frame of a segment, which is whole.
    pub(super) fn in_frame(self, segment: &Segment, offset: u64) -> StoreError {
        let path = segment.path.clone();
        match self {
            Unreadable::Broken => StoreError::Corrupt { path, offset, what: "a record" },
            Unreadable::Newer(what) => StoreError::Newer { path, offset, what },
        }
    }
}
