//! The same question to many hosts.

use crate::cli::Cli;
use crate::connect::{HostClient, channel, host_client};
use crate::interrupt::Wait;
use crate::reach::DEFAULT_PORT;
use daos_hostlist::{fold, in_order};
use daos_proto::fault;
use daos_proto::host::Fault;
use daos_report::{Envelope, print_json};
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Answers by host.
pub(crate) type Answers<T> = BTreeMap<String, Result<T, String>>;

/// How long hosts are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as `--timeout` says; so many at once as `--fan-out` says.
    Call,
    /// Until they have done it, however long that takes; so many at once as `--fan-out` says.
    Work,
    /// As [`Patience::Work`], and all at once: who follows something stays connected until its end.
    Follow,
}

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
    ask_each(cli, hosts, Patience::Call, move |channel, _| {
        let answer = question(channel);
        async move { answer.await.map_err(|status| explain(&status)) }
    })
    .await
}

/// As [`ask_on`], for questions that differ from host to host, with errors in words.
///
/// On Ctrl-C those that have not answered until then are given up.
pub(crate) async fn ask_each<T, F>(
    cli: &Cli,
    hosts: &[String],
    patience: Patience,
    question: impl Fn(Channel, String) -> F + Clone + Send + 'static,
) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + Send,
{
    let slots = Arc::new(Semaphore::new(cli.fan_out as usize));
    let limit = Duration::from_secs(cli.timeout);
    let mut tasks = JoinSet::new();
    for host in hosts.iter().cloned() {
        let (question, slots) = (question.clone(), Arc::clone(&slots));
        let reach = cli.reach.clone();
        tasks.spawn(async move {
            // The semaphore is never closed.
            let slot = slots.acquire_owned().await;
            let answer = match channel(&host, &reach).await {
                Err(error) => Err(format!("{error:#}")),
                Ok(channel) => {
                    let answer = question(channel, host.clone());
                    match patience {
                        Patience::Work => answer.await,
                        Patience::Follow => {
                            drop(slot);
                            answer.await
                        }
                        Patience::Call => tokio::time::timeout(limit, answer)
                            .await
                            .unwrap_or_else(|_| Err(no_answer(limit))),
                    }
                }
            };
            (host, answer)
        });
    }
    let mut answers = Answers::new();
    let mut wait = Wait::begin();
    loop {
        let joined = tokio::select! {
            joined = tasks.join_next() => joined,
            () = wait.told() => break,
        };
        match joined {
            None => break,
            Some(Ok((host, answer))) => drop(answers.insert(host, answer)),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    tasks.shutdown().await;
    for host in hosts {
        if !answers.contains_key(host) {
            answers.insert(host.clone(), Err(given_up(patience)));
        }
    }
    answers
}

fn given_up(patience: Patience) -> String {
    let goes_on = match patience {
        Patience::Work => "; what it has begun it carries on, see `daos_shell system query`",
        Patience::Call | Patience::Follow => "",
    };
    format!("it had not answered when the command was interrupted{goes_on}")
}

fn no_answer(limit: Duration) -> String {
    format!(
        "no answer within {} s; it may still be at work, see `daos_shell system query`; --timeout waits longer",
        limit.as_secs()
    )
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
    if status.message().starts_with("system is uninitialized") {
        return format!("{}; next: daos_shell storage format", status.message());
    }
    // What the channel's own limit says.
    if status.code() == tonic::Code::Cancelled && status.message() == "Timeout expired" {
        return "no answer in time; it may still be at work; --timeout waits longer".to_owned();
    }
    if lost(status).is_some() {
        return explain_during(
            status,
            "the call",
            "see what became of it, `daos_shell system query`, and repeat the command",
        );
    }
    match fault::status_number(status) {
        Some(_) => status.message().to_owned(),
        None => format!("{} ({:?})", status.message(), status.code()),
    }
}

/// As [`explain`], for what takes long enough for a server to end meanwhile: where `status` tells of a connection that is
/// lost, `what` says during what, and `next` what to do once the server is back.
pub(crate) fn explain_during(status: &tonic::Status, what: &str, next: &str) -> String {
    match lost(status) {
        None => explain(status),
        Some(cause) => format!(
            "the connection to the server was lost during {what} ({cause}); has the server ended, its log says why \
             (`journalctl -u daos_server` on that host, or its control_log_file): start it again, {next}"
        ),
    }
}

/// Why there is no connection any more, if that is what a status tells. What a server itself says has no error behind it.
fn lost(status: &tonic::Status) -> Option<String> {
    let timed_out =
        status.code() == tonic::Code::Cancelled && status.message() == "Timeout expired";
    if timed_out || Fault::from_status(status).is_some() {
        return None;
    }
    let mut cause = status.source()?;
    // The first ones say no more than that something went wrong.
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

/// Answers and errors as `--json` shows them.
#[derive(Serialize)]
pub(crate) struct HostMaps<T> {
    /// By host.
    pub(crate) hosts: BTreeMap<String, T>,
    /// By host.
    pub(crate) errors: BTreeMap<String, String>,
}

/// Prints answers: one block for all hosts that say the same, errors last, on standard error. Returns whether every
/// host answered.
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
    for (hosts, text) in grouped(maps.hosts.iter().map(|(host, answer)| (host, text(answer)))) {
        daos_report::print_line!("{}:\n{text}\n", names(&hosts));
    }
    print_errors(&maps.errors);
    Ok(complete)
}

/// Hosts that say the same, in the order of people; groups by their first host.
fn grouped<'h>(answers: impl Iterator<Item = (&'h String, String)>) -> Vec<(Vec<&'h str>, String)> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (host, text) in answers {
        groups.entry(text).or_default().push(host);
    }
    let mut groups: Vec<_> = groups
        .into_iter()
        .map(|(text, mut hosts)| {
            hosts.sort_by(|a, b| in_order(a, b));
            (hosts, text)
        })
        .collect();
    groups.sort_by(|(a, _), (b, _)| in_order(a[0], b[0]));
    groups
}

/// Hosts as one list, without the port where it is everybody's usual one.
pub(crate) fn names(hosts: &[&str]) -> String {
    let usual = format!(":{DEFAULT_PORT}");
    let bare: Option<Vec<&str>> = hosts.iter().map(|host| host.strip_suffix(&usual)).collect();
    match bare {
        // Alone, a host is told as it was dialled.
        Some(bare) if hosts.len() > 1 => fold(bare),
        _ => fold(hosts.iter().copied()),
    }
}

/// Prints errors on standard error, each with all hosts that it is the error of.
pub(crate) fn print_errors(errors: &BTreeMap<String, String>) {
    for line in error_lines(errors) {
        eprintln!("ERROR: {line}");
    }
}

/// All errors in one text: one line for those that are the same.
pub(crate) fn error_text(errors: &BTreeMap<String, String>) -> String {
    match errors.len() {
        // Alone, it names its host itself.
        1 => errors.values().next().cloned().unwrap_or_default(),
        _ => error_lines(errors).join("\n"),
    }
}

fn error_lines(errors: &BTreeMap<String, String>) -> Vec<String> {
    let line = |(hosts, error): (Vec<&str>, String)| match hosts[..] {
        [host] => format!("{host}: {}", errors[host]),
        _ => format!("{}: {error}", names(&hosts)),
    };
    // The host's own name in its error must not tell equal errors apart.
    let nameless = errors
        .iter()
        .map(|(host, error)| (host, error.replace(host.as_str(), "the host")));
    grouped(nameless).into_iter().map(line).collect()
}

/// The errors of all hosts in a sentence; none if there are none.
pub(crate) fn summary(errors: &BTreeMap<String, String>) -> Option<String> {
    let (host, error) = errors.first_key_value()?;
    Some(match errors.len() {
        1 => format!("{host}: {error}"),
        n => format!("{n} hosts failed, first {host}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_errors_are_told_once() {
        let error =
            |host: &str, why: &str| (host.to_owned(), format!("cannot reach {host}: {why}"));
        let errors = BTreeMap::from([
            error("node10:10001", "refused"),
            error("node9:10001", "refused"),
            error("node2:10001", "no route"),
            error("node3:7", "refused"),
        ]);
        assert_eq!(
            error_lines(&errors),
            [
                "node2:10001: cannot reach node2:10001: no route",
                "node3:7,node[9-10]:10001: cannot reach the host: refused",
            ]
        );
    }

    #[test]
    fn a_lost_connection_is_told_with_what_to_do() {
        let mut status = tonic::Status::unknown("h2 protocol error: something");
        assert_eq!(
            explain(&status),
            "h2 protocol error: something (Unknown)",
            "a server may say what it likes"
        );
        let cause = std::io::Error::other("connection reset by peer");
        status.set_source(Arc::new(cause));
        let said = explain_during(&status, "the format", "and repeat it");
        assert!(
            said.starts_with(
                "the connection to the server was lost during the format (connection reset by peer); "
            ) && said.ends_with("start it again, and repeat it"),
            "{said}"
        );
        assert!(
            explain(&status).ends_with("`daos_shell system query`, and repeat the command"),
            "{}",
            explain(&status)
        );
        let mut late = tonic::Status::cancelled("Timeout expired");
        late.set_source(Arc::new(std::io::Error::other("late")));
        assert!(explain_during(&late, "it", "no").starts_with("no answer in time"));
    }

    #[test]
    fn the_usual_port_is_not_told() {
        assert_eq!(names(&["node1:10001", "node2:10001"]), "node[1-2]");
        assert_eq!(names(&["node1:10001", "node2:5"]), "node1:10001,node2:5");
        assert_eq!(names(&["node1:10001"]), "node1:10001");
    }
}
