//! The same question to many hosts.

use crate::cli::Cli;
use crate::connect::{HostClient, channel, host_client};
use daos_proto::fault;
use daos_proto::host::Fault;
use daos_report::{Envelope, print_json};
use serde::Serialize;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Hosts asked at the same time at most.
const FAN_OUT: usize = 64;

/// Answers by host.
pub(crate) type Answers<T> = BTreeMap<String, Result<T, String>>;

/// Connects to every host and asks it; hosts that cannot be reached answer with their error.
pub(crate) async fn ask<T, F>(
    cli: &Cli,
    hosts: &[String],
    question: impl Fn(HostClient) -> F + Clone + Send + 'static,
) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, tonic::Status>> + Send,
{
    ask_on(cli, hosts, move |channel| question(host_client(channel))).await
}

/// As [`ask`], for other services of the hosts.
pub(crate) async fn ask_on<T, F>(
    cli: &Cli,
    hosts: &[String],
    question: impl Fn(Channel) -> F + Clone + Send + 'static,
) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, tonic::Status>> + Send,
{
    ask_each(cli, hosts, move |channel, _| question(channel)).await
}

/// As [`ask_on`], for questions that differ from host to host.
pub(crate) async fn ask_each<T, F>(
    cli: &Cli,
    hosts: &[String],
    question: impl Fn(Channel, String) -> F + Clone + Send + 'static,
) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, tonic::Status>> + Send,
{
    let slots = Arc::new(Semaphore::new(FAN_OUT));
    let mut tasks = JoinSet::new();
    for host in hosts.iter().cloned() {
        let (question, slots) = (question.clone(), Arc::clone(&slots));
        let reach = cli.reach.clone();
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            let answer = match channel(&host, &reach).await {
                Ok(channel) => {
                    let answer = question(channel, host.clone()).await;
                    answer.map_err(|status| explain(&status))
                }
                Err(error) => Err(format!("{error:#}")),
            };
            (host, answer)
        });
    }
    let mut answers = Answers::new();
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((host, answer)) => {
                answers.insert(host, answer);
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    answers
}

/// What a failed call says: the fault it carries, else its text.
pub(crate) fn explain(status: &tonic::Status) -> String {
    if let Some(fault) = Fault::from_status(status) {
        return fault.to_string();
    }
    if fault::is_pool_not_found(status) {
        return format!(
            "{} (`daos_shell pool list` shows the pools)",
            status.message()
        );
    }
    match fault::status_number(status) {
        Some(_) => status.message().to_owned(),
        None => format!("{} ({:?})", status.message(), status.code()),
    }
}

/// Answers and errors as `--json` shows them.
#[derive(Serialize)]
pub(crate) struct HostMaps<T> {
    /// By host.
    pub(crate) hosts: BTreeMap<String, T>,
    /// By host.
    pub(crate) errors: BTreeMap<String, String>,
}

/// Prints answers: one block per host, errors last, on standard error. Hosts with equal text are
/// folded into one block. Returns whether every host answered.
pub(crate) fn print<T: Serialize>(
    cli: &Cli,
    answers: Answers<T>,
    text: impl Fn(&T) -> String,
) -> anyhow::Result<bool> {
    let mut maps = HostMaps {
        hosts: BTreeMap::new(),
        errors: BTreeMap::new(),
    };
    for (host, answer) in answers {
        match answer {
            Ok(answer) => drop(maps.hosts.insert(host, answer)),
            Err(error) => drop(maps.errors.insert(host, error)),
        }
    }
    let complete = maps.errors.is_empty();
    if cli.json {
        let summary = summary(&maps.errors);
        print_json(&match summary {
            None => Envelope::ok(maps),
            Some(error) => Envelope::failed(Some(maps), error),
        })?;
        return Ok(complete);
    }
    let mut blocks: Vec<(String, Vec<&str>)> = Vec::new();
    for (host, answer) in &maps.hosts {
        let text = text(answer);
        match blocks.iter_mut().find(|(known, _)| *known == text) {
            Some((_, hosts)) => hosts.push(host),
            None => blocks.push((text, vec![host])),
        }
    }
    for (text, hosts) in blocks {
        println!("{}:\n{text}\n", hosts.join(","));
    }
    for (host, error) in &maps.errors {
        eprintln!("ERROR: {host}: {error}");
    }
    Ok(complete)
}

fn summary(errors: &BTreeMap<String, String>) -> Option<String> {
    let (host, error) = errors.first_key_value()?;
    Some(match errors.len() {
        1 => format!("{host}: {error}"),
        n => format!("{n} hosts failed, first {host}: {error}"),
    })
}
