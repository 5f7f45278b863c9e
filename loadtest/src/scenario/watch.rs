//! Whether a server says that it is ready, over time.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::ask;

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(50);

/// An answer, when it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) at: Instant,
    /// None: nobody listened.
    pub(super) ready: Option<bool>,
}

/// Asks until it is told to end.
#[derive(Debug)]
pub(super) struct Watch {
    task: JoinHandle<Vec<Answer>>,
    end: watch::Sender<bool>,
}

impl Watch {
    pub(super) fn start(address: SocketAddr, path: String) -> Self {
        let (end, ended) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut answers = Vec::new();
            while !*ended.borrow() {
                let answer = ask::get(address, &path).await;
                let ready = answer.ok().map(|(status, _)| (200..300).contains(&status));
                answers.push(Answer {
                    at: Instant::now(),
                    ready,
                });
                sleep(EVERY).await;
            }
            answers
        });
        Self { task, end }
    }

    pub(super) async fn end(self) -> anyhow::Result<Vec<Answer>> {
        self.end.send_replace(true);
        Ok(self.task.await?)
    }
}

/// For how long the answers were not `ready`: each counts until the next one.
pub(super) fn not_ready(answers: &[Answer]) -> Duration {
    answers
        .windows(2)
        .filter(|two| two[0].ready != Some(true))
        .map(|two| two[1].at - two[0].at)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_not_ready_is_added_up() {
        let began = Instant::now();
        let at = |ms: u64, ready| Answer {
            at: began + Duration::from_millis(ms),
            ready,
        };
        let answers = [
            at(0, Some(true)),
            at(50, Some(false)),
            at(150, None),
            at(200, Some(true)),
            at(900, Some(true)),
        ];
        assert_eq!(not_ready(&answers), Duration::from_millis(150));
        assert_eq!(not_ready(&[]), Duration::ZERO);
    }
}
