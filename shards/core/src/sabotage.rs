//! Ways to break a shard on purpose, so that the simulator can be seen to notice. Compiled in with the feature
//! `sabotage` only; without it, nothing of this is left.

/// One way to break a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// An attempt gives its slot back twice.
    SlotReleasedTwice,
    /// A callback about an earlier attempt decides the current one.
    StaleCallbackAccepted,
    /// A retry that finds the queue full is dropped without an end.
    RetryDropped,
    /// A caller is told that its call is accepted before that is written down.
    AcceptedBeforeWrite,
    /// The head of a queue goes to its tail.
    HeadGoesLast,
    /// A caller's deadline has no timer.
    DeadlineForgotten,
    /// A key does not find its execution.
    KeyForgotten,
    /// A function's calls per second are not counted.
    RateIgnored,
    /// A function's calls per second are counted on the clock that people set.
    WindowFollowsWallClock,
    /// The output of an accepted execution is dropped as early as that of a synchronous one.
    OutputDroppedEarly,
    /// Bytes of what waits are not given back.
    BytesKept,
    /// The first caller of several is answered twice.
    AnsweredTwice,
    /// A retry does not wait as long as its function asks for.
    PauseIgnored,
    /// What waits for a function that is removed goes on waiting.
    RemovalForgetsQueue,
    /// How an accepted execution ended is shown before that is written down.
    EndShownBeforeWrite,
    /// A cancellation or a purge is answered before it is written down.
    GivenUpBeforeWrite,
    /// Another attempt is made before the record of the one before is safe.
    RetriedBeforeWrite,
    /// An attempt that was not run counts as one that failed.
    NotRunCounts,
    /// A call is tried again whatever number of replicas ended with it.
    PoisonForgotten,
    /// Calls go on to an address that has just refused one.
    DownEndpointUsed,
    /// Calls go to an address that was down before it has been probed.
    ProbeLeftOut,
    /// An address that does not answer is probed as often as one that has just refused a call.
    PauseStaysShort,
    /// The last address that is left gets no calls before it has been probed.
    LastEndpointSuspended,
    /// The busiest replicas go first when there are to be fewer.
    BusyReplicaGoes,
    /// Accepted executions that wait for a function that is removed are no dead letters.
    RemovalDropsCalls,
    /// Replicas that went away are called on.
    StaleReplicaCalled,
    /// A replica is taken for the one before that had its address.
    ReplicasMistaken,
    /// Who waits for an end waits half as long.
    WatchEndsEarly,
    /// What waits is given up at half its age.
    AgesTooFast,
    /// A queue is said to be full when it is half full.
    QueueHalfUsed,
    /// A key finds its execution, whatever is sent with it.
    DigestIgnored,
    /// Outputs of synchronous executions are dropped as soon as another one ends.
    OutputDroppedAtOnce,
    /// A function that has more to do after its turn has no other one until something else happens to it.
    TurnForgotten,
    /// A retry keeps the time at which the attempt before was sent.
    TimesKept,
    /// What is tried again is said to be delivered as it was before.
    DeliveryStays,
    /// A key stands for whichever execution is given back last.
    OldKeyStands,
    /// A result goes to the address of who was refused.
    RefusedAddressStays,
    /// What has ended a replica goes to the last one while another one starts.
    LastReplicaRisked,
    /// Results go to an address that nobody gave.
    DeliveredElsewhere,
    /// What waits is said to run when it is to be cancelled.
    CancelRefused,
    /// Who is refused for a full queue may come back at once.
    ComesBackAtOnce,
    /// What is said of the delivery of an earlier result is taken as said of the newest one.
    OldDeliveryCounts,
    /// Specs of functions are not counted.
    SpecsUncounted,
    /// Specs of functions that are gone are counted.
    SpecsKept,
    /// A dead letter that is tried again does not have its key again.
    ReplayLeavesKey,
    /// A dead letter is tried again while another execution with its key goes on.
    KeyInUseIgnored,
    /// The output of an accepted execution is dropped from memory before the record with it is safe.
    OutputDroppedUnsafe,
    /// What was read from disk is told of another execution.
    AnotherResultRead,
    /// Who waits for what is read from disk gets no answer now and then.
    ReadForgotten,
    /// What memory does not hold is forgotten, although it is on disk.
    DiskUnused,
    /// Records carry the epoch of the owner before.
    EpochOfBefore,
    /// Records carry another partition than that of what they are about.
    PartitionOfAnother,
    /// It is not written down that epochs begin.
    StartUnwritten,
    /// A job that ends without a callback decides nothing.
    JobEndIgnored,
    /// A job goes on, and keeps its slot, when nobody waits for it any more.
    JobKept,
    /// A job is ordered before the record of its attempt is safe.
    JobOrderedEarly,
    /// An attempt that goes on after a crash holds no slot.
    AdoptedWithoutSlot,
    /// An attempt that goes on after a crash has all its time again.
    AdoptedTimeAnew,
    /// A job that is not there after a crash decides nothing.
    LostJobIgnored,
    /// A shard keeps more than it has room for.
    RoomIgnored,
    /// A shard forgets its oldest instead of asking for more room.
    RoomUnasked,
    /// A shard forgets keys instead of asking for room for more.
    KeysUnasked,
    /// A shard keeps room that it does not use.
    RoomKept,
    /// A shard does not give up room that another one needs for its share.
    RecallIgnored,
    /// A shard that had to forget something does not take the room that others gave up for it.
    RoomNotTaken,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 65] = [
        Sabotage::SlotReleasedTwice,
        Sabotage::StaleCallbackAccepted,
        Sabotage::RetryDropped,
        Sabotage::AcceptedBeforeWrite,
        Sabotage::HeadGoesLast,
        Sabotage::DeadlineForgotten,
        Sabotage::KeyForgotten,
        Sabotage::RateIgnored,
        Sabotage::WindowFollowsWallClock,
        Sabotage::OutputDroppedEarly,
        Sabotage::BytesKept,
        Sabotage::AnsweredTwice,
        Sabotage::PauseIgnored,
        Sabotage::RemovalForgetsQueue,
        Sabotage::EndShownBeforeWrite,
        Sabotage::GivenUpBeforeWrite,
        Sabotage::RetriedBeforeWrite,
        Sabotage::NotRunCounts,
        Sabotage::PoisonForgotten,
        Sabotage::DownEndpointUsed,
        Sabotage::ProbeLeftOut,
        Sabotage::PauseStaysShort,
        Sabotage::LastEndpointSuspended,
        Sabotage::BusyReplicaGoes,
        Sabotage::RemovalDropsCalls,
        Sabotage::StaleReplicaCalled,
        Sabotage::ReplicasMistaken,
        Sabotage::WatchEndsEarly,
        Sabotage::AgesTooFast,
        Sabotage::QueueHalfUsed,
        Sabotage::DigestIgnored,
        Sabotage::OutputDroppedAtOnce,
        Sabotage::TurnForgotten,
        Sabotage::TimesKept,
        Sabotage::DeliveryStays,
        Sabotage::OldKeyStands,
        Sabotage::RefusedAddressStays,
        Sabotage::LastReplicaRisked,
        Sabotage::DeliveredElsewhere,
        Sabotage::CancelRefused,
        Sabotage::ComesBackAtOnce,
        Sabotage::OldDeliveryCounts,
        Sabotage::SpecsUncounted,
        Sabotage::SpecsKept,
        Sabotage::ReplayLeavesKey,
        Sabotage::KeyInUseIgnored,
        Sabotage::OutputDroppedUnsafe,
        Sabotage::AnotherResultRead,
        Sabotage::ReadForgotten,
        Sabotage::DiskUnused,
        Sabotage::EpochOfBefore,
        Sabotage::PartitionOfAnother,
        Sabotage::StartUnwritten,
        Sabotage::JobEndIgnored,
        Sabotage::JobKept,
        Sabotage::JobOrderedEarly,
        Sabotage::AdoptedWithoutSlot,
        Sabotage::AdoptedTimeAnew,
        Sabotage::LostJobIgnored,
        Sabotage::RoomIgnored,
        Sabotage::RoomUnasked,
        Sabotage::KeysUnasked,
        Sabotage::RoomKept,
        Sabotage::RecallIgnored,
        Sabotage::RoomNotTaken,
    ];
}

/// How a shard is broken, if it is.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sabotaged {
    #[cfg(feature = "sabotage")]
    by: Option<Sabotage>,
}

impl Sabotaged {
    /// Whether a shard is broken in this way. `false`, for the compiler to see, without the feature.
    #[inline(always)]
    pub(crate) fn by(self, sabotage: Sabotage) -> bool {
        #[cfg(feature = "sabotage")]
        return self.by == Some(sabotage);
        #[cfg(not(feature = "sabotage"))]
        {
            let _ = sabotage;
            false
        }
    }
}

impl crate::Shard {
    /// Breaks it. `false`: this build cannot.
    pub fn sabotage(&mut self, sabotage: Sabotage) -> bool {
        #[cfg(feature = "sabotage")]
        {
            self.sabotaged.by = Some(sabotage);
        }
        let _ = sabotage;
        cfg!(feature = "sabotage")
    }
}
