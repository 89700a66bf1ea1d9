//! What holds after every step.

use crate::{
    execution::Execution,
    function::Life,
    journal::Promise,
    keys::FunctionKey,
    shard::{JobStage, Shard, chores::Chore},
    timers::Due,
};

/// Audits the whole state.
///
/// # Errors
/// The first thing that does not hold, in words.
pub fn check(shard: &Shard) -> Result<(), String> {
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    if let Some(place) = shard.impossible.first {
        return Err(format!("something was missing that cannot be, at {place}"));
    }
    for (key, function) in shard.functions.iter() {
        check_function(shard, key).map_err(|what| format!("{}: {what}", function.name))?;
    }
    let specs: u64 = shard.functions.iter().map(|(_, function)| function.spec.bytes()).sum();
    expect(specs == shard.bytes.specs, "specs_bytes is not what functions hold")?;
    let kept = |execution: &Execution| {
        execution.has_ended() && execution.dead.is_none() && execution.shown.is_none()
    };
    for (retained, accepted) in shard.retention.kinds.iter().zip([false, true]) {
        let executions = shard.executions.iter().map(|(_, execution)| execution);
        let of_kind = executions.filter(|execution| kept(execution) && execution.accepted == accepted);
        let (count, bytes) =
            of_kind.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.retained_bytes()));
        expect(count == retained.count, "the account of finished executions is off")?;
        expect(bytes == retained.bytes, "the account of what finished executions hold is off")?;
    }
    let on_disk = || shard.executions.iter().map(|(_, one)| one).filter(|one| one.is_on_disk());
    expect(on_disk().all(|one| kept(one) && one.accepted), "what is on disk only may still be needed")?;
    let bytes: u64 = on_disk().map(Execution::disk_bytes).sum();
    expect(bytes == shard.retention.disk_bytes, "the account of what is on disk only is off")?;
    expect(
        shard.retention.reads.is_sound(shard.limits.reads_max),
        "the account of results that are read is off",
    )?;
    expect(shard.retention.room.is_sound(), "the account of leased room is off")?;
    let queued: u64 = shard
        .executions
        .iter()
        .filter_map(|(_, execution)| execution.live.as_ref())
        .map(|live| live.queued_bytes)
        .sum();
    expect(queued == shard.bytes.queued, "queued_bytes is not what waiting executions hold")?;
    for (_, execution) in shard.executions.iter() {
        let id = execution.id;
        let known = shard.find(id).is_some_and(|found| found.id == id);
        expect(known, "an execution cannot be found by its id")?;
        let concealed = execution.shown.is_some();
        expect(
            execution.live.is_some() == (concealed || !execution.has_ended()),
            "an execution is terminal and alive, or neither",
        )?;
        expect(!concealed || execution.has_ended(), "what goes on is shown as something else")?;
        let Some(live) = execution.live.as_ref() else { continue };
        expect(
            live.waiter_count() > 0 || execution.accepted,
            "nothing will end an execution that nobody waits for",
        )?;
        for waiter in live.waiter.iter().chain(&live.joined) {
            expect(shard.timers.get(waiter.timer).is_some(), "a caller has no deadline")?;
        }
        if execution.is_running() {
            let attempt = execution.in_flight.and_then(|attempt| shard.attempts.get(attempt));
            expect(attempt.is_some_and(|attempt| !attempt.settled), "a running execution has no attempt")?;
        }
    }
    for (key, attempt) in shard.attempts.iter() {
        let is_armed = shard.timers.get(attempt.timer).is_some();
        let is_waited_for = match attempt.job {
            Some(JobStage::Unrecorded) => {
                shard.journal.promises().any(|promise| matches!(promise, Promise::Job(of) if *of == key))
            }
            _ => shard.phase.adopted.iter().any(|(adopted, _)| *adopted == key),
        };
        expect(is_armed != is_waited_for, "an attempt has no timeout, or one that begins too early")?;
    }
    let named = shard.functions.iter().filter(|(_, function)| function.life != Life::Gone).count();
    expect(named == shard.index.names.len(), "a name is kept for no function")?;
    check_accepted(shard)?;
    check_scaling(shard)?;
    expect(shard.index.keys.is_bounded(), "stale idempotency keys pile up")?;
    expect(shard.timers.is_sound(), "the timers are out of order")
}

fn check_accepted(shard: &Shard) -> Result<(), String> {
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let alive = |execution: &&Execution| execution.accepted && !execution.has_ended();
    let all = || shard.executions.iter().map(|(_, execution)| execution);
    expect(all().filter(alive).count() == shard.retention.accepted, "the account of accepted is off")?;
    let dead = || shard.executions.iter().filter_map(|(_, execution)| execution.dead.as_ref());
    expect(dead().count() == shard.dead_letters.len(), "the account of dead letters is off")?;
    let concealed = || shard.executions.iter().filter(|(_, execution)| execution.shown.is_some());
    let bytes: u64 = concealed().map(|(_, execution)| execution.retained_bytes()).sum();
    expect(bytes == shard.bytes.concealed, "the account of what ended and is not shown is off")?;
    for (key, execution) in concealed() {
        let shown_later =
            shard.journal.promises().any(|promise| matches!(promise, Promise::End(of) if *of == key));
        expect(execution.accepted && shown_later, "nothing will show how an execution ended")?;
    }
    expect(
        !shard.phase.start.is_being_written()
            || shard.is_restoring()
            || shard.journal.promises().any(|promise| matches!(promise, Promise::Start)),
        "nothing will let go what was there before the server started",
    )?;
    let bytes_of = |of_removal: bool| {
        dead().filter(|letter| letter.of_removal == of_removal).map(|letter| letter.bytes).sum::<u64>()
    };
    let bytes = [bytes_of(false), bytes_of(true)];
    expect(bytes == shard.dead_letters.bytes, "the account of their bytes is off")?;
    for (name, failed, removed, room) in shard.dead_letters.functions() {
        expect(failed <= shard.limits.dead_letters_max, "a function has too many dead letters")?;
        let room = room.max(shard.limits.dead_letters_max);
        expect(removed <= room, "a function has more dead letters of a removal than waited")?;
        let listed = shard.dead_letters.of(name).filter_map(|key| shard.executions.get(key));
        let sound = listed.filter(|execution| *execution.label == *name.as_str() && execution.dead.is_some());
        expect(sound.count() == failed + removed, "what is listed as a dead letter is none")?;
    }
    expect(bytes[0] <= shard.limits.dead_letters_bytes_max, "dead letters hold too many bytes")?;
    expect(bytes[1] <= shard.limits.removed_letters_bytes_max, "those of removals hold too many bytes")?;
    let promised = |key| {
        let about = |promise: &Promise| match promise {
            Promise::Accept(of, _) | Promise::Replay(of, _) | Promise::Retry(of) => *of == key,
            _ => false,
        };
        shard.journal.promises().any(about)
    };
    for (_, function) in shard.functions.iter() {
        for key in &function.parked {
            let live = shard.executions.get(*key).and_then(|execution| execution.live.as_ref());
            let backs_off = live.is_some_and(|live| live.backoff.is_some());
            let awaited = live.is_some_and(|live| shard.journal.decides(live.record));
            expect(
                backs_off || (awaited && promised(*key)),
                "nothing will queue an execution that waits beside its queue",
            )?;
        }
    }
    Ok(())
}

fn check_scaling(shard: &Shard) -> Result<(), String> {
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let on = shard.settings.autoscaler.is_some();
    let armed = shard.scaling.timer.is_some_and(|timer| shard.timers.get(timer) == Some(Due::Scaling));
    expect(armed == shard.scaling.timer.is_some() && (on || !armed), "the timer of scaling is another one")?;
    for (_, function) in shard.functions.iter() {
        let Some(state) = &function.scaling else { continue };
        let configured = function.policy.concurrency;
        expect((1..=configured).contains(&function.slots()), "slots are beyond their bounds")?;
        let follows = on && function.is_managed();
        expect(follows || state.effective == configured, "slots follow replicas that nobody scales")?;
        expect(!follows || armed || !function.life.is_live(), "nobody will decide about a function")?;
    }
    Ok(())
}

fn check_function(shard: &Shard, key: FunctionKey) -> Result<(), String> {
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let Some(function) = shard.functions.get(key) else { return Ok(()) };
    let found = shard.index.names.get(function.name.as_str()) == Some(&key);
    expect(
        found != (function.life == Life::Gone),
        "it cannot be found by its name, or still is when it is gone",
    )?;
    let of_it = || shard.executions.iter().filter(move |(_, execution)| execution.function == key);
    let count =
        |does: fn(&Execution) -> bool| of_it().filter(|(_, execution)| does(execution)).count() as u64;
    expect(function.accounting.drift() == 0, "admitted ≠ queued + running + finished + evicted")?;
    expect(count(Execution::is_queued) == function.accounting.queued, "the account of queued is off")?;
    expect(count(Execution::is_running) == function.accounting.running, "the account of running is off")?;
    expect(count(Execution::has_ended) == function.accounting.finished, "the account of finished is off")?;
    let waiting = u64::from(function.waiting_count());
    expect(waiting == function.accounting.queued, "what is queued is neither in a queue nor beside it")?;
    for queue in [&function.queue, &function.backlog] {
        let waits = |key: &_| shard.executions.get(*key).is_some_and(|execution| execution.is_queued());
        expect(
            queue.iter().filter(waits).count() == queue.len(),
            "a queue's length is not what waits in it",
        )?;
    }
    check_sync_queue(shard, key)?;
    let slots =
        shard.attempts.iter().filter(|(_, attempt)| attempt.function == key && !attempt.settled).count();
    expect(slots == function.in_flight as usize, "slots held ≠ attempts in flight")?;
    let lingering =
        shard.attempts.iter().filter(|(_, attempt)| attempt.function == key && attempt.lingers).count();
    expect(lingering == function.lingering as usize, "the account of lingering exchanges is off")?;
    expect(function.lingering <= function.policy.concurrency, "more exchanges linger than there are slots")?;
    expect(function.in_flight <= function.policy.concurrency, "more in flight than slots")?;
    expect(
        // What was not run, or had a job that is lost, has its place again, whoever took it meanwhile.
        waiting <= u64::from(function.places())
            || shard.is_restoring()
            || function.is_managed()
            || function.has_jobs(),
        "more waits than the queue holds",
    )?;
    let admitted = u64::from(function.places()) + u64::from(function.policy.concurrency);
    expect(
        waiting + u64::from(function.in_flight) <= admitted || shard.is_restoring(),
        "more was admitted than queue and slots hold",
    )?;
    let up = function.endpoints.iter().filter(|endpoint| !endpoint.down).count();
    expect(up == function.endpoints.up(), "the account of addresses that are down is off")?;
    for (place, endpoint) in function.endpoints.iter().enumerate() {
        let open = shard.endpoints.get(endpoint.id).copied().unwrap_or_default();
        expect(open.place as usize == place, "an address is in another place than it is said to be")?;
        let timer = open.retry;
        let armed = shard.timers.get(timer) == Some(Due::Endpoint(key, endpoint.id));
        expect(
            armed == (endpoint.down && !open.is_probed) && (endpoint.down || !open.is_probed),
            "an address that is down will not be tried again, or one that is up will",
        )?;
    }
    check_writing(shard, key)?;
    expect(
        function.queue.is_empty() || !function.can_dispatch() || function.ringed,
        "a function could dispatch and is not in the ring",
    )?;
    expect(
        !function.ringed || shard.ring.iter().filter(|ringed| **ringed == key).count() == 1,
        "a function is in the ring not exactly once",
    )
}

/// Who waits for a record of a function is what the function says.
fn check_writing(shard: &Shard, key: FunctionKey) -> Result<(), String> {
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let Some(function) = shard.functions.get(key) else { return Ok(()) };
    let count = |wanted: fn(&Promise) -> Option<FunctionKey>| {
        shard.journal.promises().filter(|promise| wanted(promise) == Some(key)).count()
    };
    let registers = count(|promise| if let Promise::Register(key) = promise { Some(*key) } else { None });
    let removes = count(|promise| if let Promise::Remove(key) = promise { Some(*key) } else { None });
    let (registering, removing) = match function.life {
        Life::Registering => (1, 0),
        Life::Removing => (0, 1),
        _ => (0, 0),
    };
    expect(
        (registers, removes) == (registering, removing),
        "a function waits for a record that nobody reports, or the other way round",
    )?;
    let chore = shard.chores.contains(&Chore::Removal(key));
    expect(chore == (function.life == Life::Ending), "nothing will end what waits for a removed function")?;
    expect(
        (function.life == Life::Registering) == function.provisioned.is_some(),
        "a function is being registered that nothing says how to run, or the other way round",
    )?;
    let armed = |timer| shard.timers.get(timer) == Some(Due::Reconcile(key));
    expect(
        function.life != Life::Live || function.reconciling.is_none_or(armed),
        "nothing will start the replicas of a restored function again",
    )
}

fn check_sync_queue(shard: &Shard, key: FunctionKey) -> Result<(), String> {
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let Some(function) = shard.functions.get(key) else { return Ok(()) };
    let is_on = shard.settings.sync_queue.is_some();
    let mut waiting = 0;
    for (_, execution) in shard.executions.iter().filter(|(_, execution)| execution.function == key) {
        let Some(live) = execution.live.as_ref() else { continue };
        let of_concern = execution.is_queued() && !execution.accepted && execution.attempt == 0;
        expect(
            live.sync_wait.is_some() == (is_on && of_concern),
            "what waits in the sync queue is not in it",
        )?;
        let Some(timer) = live.sync_wait else { continue };
        waiting += 1;
        expect(
            shard.timers.get(timer).is_some() || !function.has_replica(),
            "nothing ends the wait of a synchronous call in the sync queue",
        )?;
    }
    expect(waiting == function.sync_waiting, "the account of waiting synchronous calls is off")?;
    expect(is_on || function.sync.is_none(), "the sync queue is off and remembers")
}
