//! `top` on a terminal: looks, keys and signals, one after the other, and a new drawing after each.

use std::{process::ExitCode, time::Duration};

use nanofaas_web::client::ClientError;
use ratatui::crossterm::event::Event;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    keys,
    picture::Picture,
    screen::{self, Screen},
    source::Source,
    state::TopState,
    view::{self, ViewOptions},
};
use crate::{failure::Failure, signals};

/// Time between two looks.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Shows the server until a key or a signal ends it.
pub(super) async fn run(source: Source, look: ViewOptions) -> Result<ExitCode, Failure> {
    let mut signals = signals::listen()?;
    let mut screen = Screen::take()?;
    let mut events = screen::events();
    let mut pictures = watch(source);
    let mut state = TopState::default();
    loop {
        screen.draw(|frame| view::draw(frame, &mut state, &look))?;
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) => match keys::action(key, state.is_writing) {
                    Some(action) if !state.act(action) => break,
                    _ => {}
                },
                // Anything else is a change of size at most.
                Some(_) => {}
                // The terminal is gone.
                None => break,
            },
            Some(picture) = pictures.recv() => match picture {
                Ok(picture) => state.show(picture),
                Err(failure) => state.lose(problem(&failure)),
            },
            () = signals.next() => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks once a period, in a task of its own: a server that is slow must not make the keys slow.
fn watch(mut source: Source) -> mpsc::Receiver<Result<Picture, Failure>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_local(async move {
        let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if sender.send(source.look().await).await.is_err() {
                break;
            }
        }
    });
    receiver
}

/// The failure in a few words: the address stands before them, and advice on addresses is of no use here.
fn problem(failure: &Failure) -> String {
    match failure {
        Failure::Unanswered(ClientError::Connect { reason, .. }) => reason.clone(),
        Failure::Unanswered(ClientError::TimedOut { limit_ms, .. }) => {
            format!("no answer within {limit_ms} ms")
        }
        Failure::Unanswered(error) => error.to_string(),
        other => other.to_string(),
    }
}
