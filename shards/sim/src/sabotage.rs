//! Worlds that are broken on purpose, to see that the auditor notices: shards with a bug (`shard_core::sabotage`), and
//! what surrounds them with one.
//!
//! A simulator that finds nothing has proven nothing until it was seen to find what is there.

pub use shard_core::sabotage::Sabotage as CoreSabotage;

/// One way to break a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A shard has a bug. Takes a build with the feature `sabotage`.
    Core(CoreSabotage),
    /// A disk reports records as safe before they are.
    DiskLies,
    /// A crash takes the newest record with it, although it was safe.
    RecordLost,
    /// Recovery does not read which attempts were made.
    AttemptsForgotten,
    /// Recovery does not read which keys calls were made with.
    KeysForgotten,
    /// Recovery does not read where results go.
    AddressesForgotten,
    /// Recovery reads deliveries that were not.
    DeliveriesMadeUp,
    /// Recovery does not read how long calls may wait.
    AgesForgotten,
    /// Recovery takes what an earlier owner wrote too late.
    LateRecordCounts,
    /// Recovery gives executions back in another order.
    OrderForgotten,
    /// Answers to other threads are lost now and then.
    AnswerLost,
    /// What a full mailbox does not take is dropped without a word.
    RefusalLost,
    /// A thread does not wake for a deadline that is nearer than the one it sleeps for.
    DeadlineOverslept,
    /// Every shard leases from budgets of its own.
    BudgetsOfItsOwn,
    /// A call takes twice its part of what the server admits in a second.
    CallsCountedTwice,
    /// Bytes that shards give back are not counted.
    BytesNotReturned,
    /// Room that shards give back is not counted.
    RoomLost,
    /// After a crash, room is still leased to the shards from before.
    RoomLeasedToTheDead,
    /// Threads do not agree on how many shards there are.
    OwnersDiffer,
    /// The dispatcher reports an attempt as done when it has sent it, and again when it is done.
    ReportedEarly,
    /// The backend's answer to a removal is lost.
    TeardownLost,
    /// Nobody hears of the end of a job that an earlier server ordered.
    JobUnwatched,
    /// Jobs of an earlier server whose attempts are over go on.
    JobsOfNobodyKept,
}

impl Sabotage {
    /// All of them.
    pub fn all() -> Vec<Sabotage> {
        let around = [
            Sabotage::DiskLies,
            Sabotage::RecordLost,
            Sabotage::AttemptsForgotten,
            Sabotage::KeysForgotten,
            Sabotage::AddressesForgotten,
            Sabotage::DeliveriesMadeUp,
            Sabotage::AgesForgotten,
            Sabotage::LateRecordCounts,
            Sabotage::OrderForgotten,
            Sabotage::AnswerLost,
            Sabotage::RefusalLost,
            Sabotage::DeadlineOverslept,
            Sabotage::BudgetsOfItsOwn,
            Sabotage::CallsCountedTwice,
            Sabotage::BytesNotReturned,
            Sabotage::RoomLost,
            Sabotage::RoomLeasedToTheDead,
            Sabotage::OwnersDiffer,
            Sabotage::ReportedEarly,
            Sabotage::TeardownLost,
            Sabotage::JobUnwatched,
            Sabotage::JobsOfNobodyKept,
        ];
        around.into_iter().chain(CoreSabotage::ALL.map(Sabotage::Core)).collect()
    }

    /// Finds one by its name, as `Debug` writes it.
    pub fn named(name: &str) -> Option<Sabotage> {
        Sabotage::all().into_iter().find(|sabotage| sabotage.to_string() == name)
    }
}

impl std::fmt::Display for Sabotage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sabotage::Core(sabotage) => write!(formatter, "{sabotage:?}"),
            sabotage => write!(formatter, "{sabotage:?}"),
        }
    }
}
