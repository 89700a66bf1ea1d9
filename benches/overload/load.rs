//! Callers: as many as come, each on a keep-alive connection of the pool, all on one thread.
//!
//! An open loop calls at its rate whatever the server answers. A caller that is refused waits as long as
//! `Retry-After` says and calls once more; new callers come meanwhile. Whoever would come back after the end of the
//! run does not.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    runtime::Builder,
    task::LocalSet,
    time::{sleep, sleep_until},
};

/// What became of calls.
#[derive(Debug, Default, Clone)]
pub struct Outcomes {
    /// First calls of a caller.
    pub calls: u64,
    /// Answers 200 within the run.
    pub succeeded: u64,
    /// First calls that were refused with 429.
    pub refused: u64,
    /// Refused callers that came back within the run and were answered.
    pub came_back: u64,
    /// Those of them that got a result.
    pub admitted: u64,
    /// Longest and mean `Retry-After`, in seconds.
    pub retry_after_s_max: u64,
    pub retry_after_s_sum: u64,
    /// Other answers, and none.
    pub other: u64,
    /// From sending to the answer 200.
    pub latencies: Vec<Duration>,
}

/// Calls of one function.
#[derive(Debug, Clone)]
pub struct Load {
    pub server: SocketAddr,
    pub function: &'static str,
    pub duration: Duration,
    pub obey: bool,
}

enum Answer {
    Result,
    /// It is to come back after this.
    Refused(Duration),
    Other,
}

struct Run {
    load: Load,
    end: Instant,
    idle: RefCell<Vec<BufStream<TcpStream>>>,
    outcomes: RefCell<Outcomes>,
}

impl Load {
    /// New callers come at this rate, evenly.
    pub fn open_loop(self, per_second: f64) -> Outcomes {
        let calls = (per_second * self.duration.as_secs_f64()) as u32;
        let gap = Duration::from_secs_f64(1.0 / per_second);
        self.run(async move |run| {
            let start = Instant::now();
            for number in 0..calls {
                sleep_until((start + gap * number).into()).await;
                let run = Rc::clone(&run);
                tokio::task::spawn_local(async move { run.caller().await });
            }
        })
    }

    /// So many callers call again as soon as they have an answer; after a refusal, a moment later.
    pub fn closed_loop(self, callers: u32) -> Outcomes {
        self.run(async move |run| {
            for _ in 0..callers {
                let run = Rc::clone(&run);
                tokio::task::spawn_local(async move {
                    while Instant::now() < run.end {
                        if run.caller().await {
                            sleep(Duration::from_millis(100)).await;
                        }
                    }
                });
            }
        })
    }

    fn run(self, start: impl AsyncFnOnce(Rc<Run>)) -> Outcomes {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let end = Instant::now() + self.duration;
        let run = Rc::new(Run { load: self, end, idle: RefCell::default(), outcomes: RefCell::default() });
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async {
            start(Rc::clone(&run)).await;
            sleep_until(end.into()).await;
        });
        // Calls that are not answered yet end with their tasks.
        drop(tasks);
        run.outcomes.take()
    }
}

impl Run {
    /// One caller. Returns whether it was refused.
    async fn caller(&self) -> bool {
        self.outcomes.borrow_mut().calls += 1;
        let Answer::Refused(retry_after) = self.call().await else { return false };
        {
            let mut outcomes = self.outcomes.borrow_mut();
            outcomes.refused += 1;
            outcomes.retry_after_s_max = outcomes.retry_after_s_max.max(retry_after.as_secs());
            outcomes.retry_after_s_sum += retry_after.as_secs();
        }
        if !self.load.obey || Instant::now() + retry_after >= self.end {
            return true;
        }
        sleep(retry_after).await;
        let answer = self.call().await;
        let mut outcomes = self.outcomes.borrow_mut();
        outcomes.came_back += u64::from(!matches!(answer, Answer::Other));
        outcomes.admitted += u64::from(matches!(answer, Answer::Result));
        true
    }

    async fn call(&self) -> Answer {
        let start = Instant::now();
        let answer = self.exchange().await;
        let mut outcomes = self.outcomes.borrow_mut();
        match answer {
            Ok((200, _)) => {
                outcomes.succeeded += 1;
                outcomes.latencies.push(start.elapsed());
                Answer::Result
            }
            Ok((429, retry_after_s)) => Answer::Refused(Duration::from_secs(retry_after_s)),
            _ => {
                outcomes.other += 1;
                Answer::Other
            }
        }
    }

    /// Status and `Retry-After`.
    async fn exchange(&self) -> io::Result<(u16, u64)> {
        let idle = self.idle.borrow_mut().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => BufStream::new(TcpStream::connect(self.load.server).await?),
        };
        let function = self.load.function;
        let request = format!(
            "POST /v1/functions/{function}:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11\r\n\r\n{{\"input\":1}}"
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let answer = read(&mut stream).await?;
        self.idle.borrow_mut().push(stream);
        Ok(answer)
    }
}

async fn read(stream: &mut BufStream<TcpStream>) -> io::Result<(u16, u64)> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
    let (mut length, mut retry_after_s) = (0, 0);
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let number = || value.trim().parse().unwrap_or(0);
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = number(),
            "retry-after" => retry_after_s = number(),
            _ => {}
        }
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok((status, retry_after_s))
}
