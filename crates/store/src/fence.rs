//! Whose records count: none of an epoch of its partition that was over when it was written, by the order of the log.

use shard_core::{Epoch, PARTITIONS};

use super::codec::RecordHead;

/// The newest epoch of each partition, as far as records were looked at.
#[derive(Debug, Clone)]
pub(super) struct Fence {
    begun: Box<[Epoch; PARTITIONS as usize]>,
}

impl Default for Fence {
    fn default() -> Fence {
        Fence { begun: Box::new([Epoch::default(); PARTITIONS as usize]) }
    }
}

impl Fence {
    /// Whether the next record, which has this head, does not count.
    pub(super) fn holds_off(&mut self, head: &RecordHead) -> bool {
        let (Some(epoch), Some(partition)) = (head.epoch, head.subject.partition()) else { return false };
        let begun = &mut self.begun[partition.index()];
        let is_over = epoch < *begun;
        *begun = epoch.max(*begun);
        is_over
    }
}

#[cfg(test)]
mod tests {
    use shard_core::{Entry, ExecutionId, Name, Partition, Record};

    use super::*;
    use crate::codec::{
        self, Subject,
        tests::{codec, owned},
    };

    #[test]
    fn a_record_belongs_to_the_partition_of_its_function() {
        let name = Name::new("f").expect("a name");
        let id = ExecutionId::new([1; 16], name.owner_hash());
        assert_eq!(Subject::Function(name).partition(), Some(name.partition()));
        assert_eq!(Subject::Execution(id).partition(), Some(name.partition()));
        assert_eq!(Subject::Partition(Partition(7)).partition(), Some(Partition(7)));
        assert_eq!(Subject::Server.partition(), None);
    }

    #[test]
    fn a_record_of_an_epoch_that_was_over_is_held_off_in_its_partition_only() {
        let mut fence = Fence::default();
        let mut holds_off = |entry: &Entry| {
            let mut bytes = Vec::new();
            assert!(codec().encode(entry, &mut bytes));
            fence.holds_off(&codec::head(&bytes[4..]).expect("a record"))
        };
        let name = Name::new("f").expect("a name");
        let begins = |partition| Entry::of(Epoch(2), Record::Started { partition, epoch: Epoch(2) });
        let other = Partition(name.partition().0.wrapping_add(1));
        let removed = owned(Record::Removed { name });
        assert!(!holds_off(&removed) && !holds_off(&begins(other)) && !holds_off(&removed));
        assert!(!holds_off(&begins(name.partition())) && holds_off(&removed));
        assert!(!holds_off(&Entry { epoch: Epoch(2), ..removed }));
    }
}
