//! The command line: one seed, a range of seeds, or as many as fit into some minutes.

#![expect(clippy::disallowed_methods, reason = "says how long runs take; no world sees this clock")]

use std::{
    io::{self, Write},
    ops::{ControlFlow, Range},
    process::ExitCode,
    time::{Duration, Instant},
};

use shard_sim::{Options, Outcome, file, run, sabotage::Sabotage, shrink};

const USAGE: &str = "\
Runs nanofaas's shards in a simulated world of faults. Everything follows from a seed.

usage: shard-sim --seed N [--events M] [--shrink FILE [--minutes M]]
       shard-sim --seeds A..B [--events M]
       shard-sim --minutes M [--seed FIRST] [--events M]
       shard-sim --replay FILE

  --seed N         run this seed, twice: both runs must be the same
  --seeds A..B     run these seeds, B excluded
  --minutes M      run seeds from --seed on (1) for so long
  --events M       steps of shards until faults stop (20000)
  --check K        check the whole state of a shard after every K-th step
                   (1 in debug builds, 500 else); what is audited from outside is audited always
  --last K         steps shown of a run that failed (20)
  --sabotage NAME  break the world in some way, to see that it is noticed; those of the core
                   take a build with --features sabotage
  --replay FILE    run what a file says, as --shrink writes it
  --shrink FILE    of a seed that fails, leave out requests while it still fails; the file has the smallest
                   run so far, also when this is stopped. With --minutes M, for so long

Exit code: 0 when all is well, 1 when a run failed, 2 when the command was not understood.
";

/// What is asked for.
#[derive(Debug)]
struct Command {
    options: Options,
    seeds: Option<Range<u64>>,
    time: Option<Duration>,
    shrink_to: Option<String>,
}

/// Does what the arguments say.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = match parse(&arguments) {
        Ok(Some(command)) => command,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            // Nobody is left to tell when this cannot be written.
            let _ = writeln!(io::stderr(), "shard-sim: {mistake}\nTry shard-sim --help.");
            return ExitCode::from(2);
        }
    };
    match command {
        Command { options, seeds: Some(seeds), .. } => many(&options, seeds, None),
        Command { options, time: Some(time), shrink_to: None, .. } => {
            many(&options, options.seed..u64::MAX, Some(time))
        }
        Command { options, shrink_to, time, .. } => one(&options, shrink_to.as_deref(), time),
    }
}

fn parse(arguments: &[String]) -> Result<Option<Command>, String> {
    let mut options = Options::new(1, 20_000);
    options.check_every = if cfg!(debug_assertions) { 1 } else { 500 };
    let mut command = Command { options, seeds: None, time: None, shrink_to: None };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            return Ok(None);
        }
        let value = words.next().ok_or_else(|| format!("{word} is not known, or needs a value"))?;
        match word.as_str() {
            "--seed" => command.options.seed = number(word, value)?,
            "--events" => command.options.events = number(word, value)?,
            "--check" => command.options.check_every = number(word, value)?.max(1),
            "--sabotage" => {
                let sabotage = Sabotage::named(value).ok_or_else(|| {
                    let known =
                        Sabotage::all().iter().map(Sabotage::to_string).collect::<Vec<_>>().join(", ");
                    format!("there is no such sabotage; there are {known}")
                })?;
                command.options.sabotage = Some(sabotage);
            }
            "--last" => command.options.steps_shown = number(word, value)?,
            "--minutes" => command.time = Some(Duration::from_secs(60 * number(word, value)?)),
            "--seeds" => {
                let (from, to) = value.split_once("..").ok_or("--seeds takes two numbers, as in 1..100")?;
                command.seeds = Some(number(word, from)?..number(word, to)?);
            }
            "--replay" => {
                let (steps_shown, check_every) = (command.options.steps_shown, command.options.check_every);
                let text = std::fs::read_to_string(value).map_err(|error| format!("{value}: {error}"))?;
                let options = file::read(&text).map_err(|mistake| format!("{value}: {mistake}"))?;
                command.options = Options { steps_shown, check_every, ..options };
            }
            "--shrink" => command.shrink_to = Some(value.clone()),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(Some(command))
}

fn number(word: &str, value: &str) -> Result<u64, String> {
    value.replace('_', "").parse().map_err(|_| format!("{word} takes a number, not '{value}'"))
}

/// Runs one seed, and once more: nothing but the seed may decide what happens.
fn one(options: &Options, shrink_to: Option<&str>, time: Option<Duration>) -> ExitCode {
    let began = Instant::now();
    let outcome = run(options);
    let took = began.elapsed();
    say(&format!("seed {}: {}\n", options.seed, summary(&outcome, took)));
    for (name, count) in outcome.stats.all() {
        say(&format!("  {count:>9} {name}\n"));
    }
    let again = run(options);
    if (again.hash, again.steps) != (outcome.hash, outcome.steps) {
        say(&format!(
            "FAILED: the same seed gave another run: {:016x} and {:016x}\n",
            outcome.hash, again.hash
        ));
        return ExitCode::FAILURE;
    }
    if outcome.failure.is_none() {
        return ExitCode::SUCCESS;
    }
    tell(options, &outcome);
    if let Some(path) = shrink_to {
        make_small(options, path, time.map(|time| began + time));
    }
    ExitCode::FAILURE
}

/// Leaves out requests, and keeps the smallest run so far in a file: whatever ends this early, that is there.
fn make_small(options: &Options, path: &str, until: Option<Instant>) {
    let mut failed = None;
    shrink::shrink(options, |smallest, left| {
        if let Err(error) = replace_file(path, &file::write(smallest)) {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        say(&format!("{left} requests left: shard-sim --replay {path}\n"));
        match until.is_some_and(|until| Instant::now() >= until) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    if let Some(error) = failed {
        say(&format!("{path}: {error}\n"));
    }
}

/// Writes a file as a whole or not at all.
fn replace_file(path: &str, text: &str) -> io::Result<()> {
    let beside = format!("{path}.new");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, path)
}

/// Runs many seeds; ends with the first that fails.
fn many(options: &Options, seeds: Range<u64>, time: Option<Duration>) -> ExitCode {
    let began = Instant::now();
    let (mut runs, mut steps, mut said) = (0, 0, began);
    for seed in seeds {
        if time.is_some_and(|time| began.elapsed() >= time) {
            break;
        }
        // Nothing is compared here.
        let options = Options { seed, hashed: false, ..options.clone() };
        let outcome = run(&options);
        (runs, steps) = (runs + 1, steps + outcome.steps);
        if outcome.failure.is_some() {
            tell(&options, &outcome);
            return ExitCode::FAILURE;
        }
        if said.elapsed() >= Duration::from_secs(10) {
            said = Instant::now();
            say(&format!("{runs} runs, {steps} steps, at seed {seed}\n"));
        }
    }
    let rate = steps as f64 / began.elapsed().as_secs_f64();
    say(&format!("{runs} runs, {steps} steps, {rate:.0} steps/s: nothing was found\n"));
    ExitCode::SUCCESS
}

fn summary(outcome: &Outcome, took: Duration) -> String {
    let Outcome { hash, steps, requests, time_us, .. } = outcome;
    let rate = *steps as f64 / took.as_secs_f64();
    let seconds = *time_us as f64 / 1e6;
    format!("hash {hash:016x}, {steps} steps, {requests} requests, {seconds:.1} virtual s, {rate:.0} steps/s")
}

fn tell(options: &Options, outcome: &Outcome) {
    let Some(failure) = &outcome.failure else { return };
    for line in &failure.last_steps {
        say(&format!("{line}\n"));
    }
    let Options { seed, events, .. } = options;
    say(&format!("\nFAILED at step {}: {}\n", outcome.steps, failure.what));
    match options.skip.is_empty() {
        true => say(&format!("once more: shard-sim --seed {seed} --events {events}\n")),
        false => say("once more: the same file\n"),
    }
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that went away has seen enough.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
