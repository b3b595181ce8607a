//! Commands about the system and its engines.

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum SystemCommand {
    /// Show the servers' phase and their engines' states; with an option below, the members of the system instead, as
    /// its access point knows them.
    Query(QueryArgs),
    /// Start engines that were stopped, or given up after they had died too often.
    Start(RankArgs),
    /// Stop the engines of the hosts; their servers stay, so that storage can be formatted again.
    /// `system start` starts them again, as a server does when it is started itself.
    Stop {
        /// Kill engines instead of asking them to end.
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        which: RankArgs,
    },
    /// Take ranks out of the system: their engines are stopped, and not let in again.
    Exclude(ExcludeArgs),
    /// Let ranks in again that were excluded; `system start --ranks` starts them.
    ClearExclude(RankArgs),
    /// End the system: its engines, which must be stopped, forget who they are and await a format. All data is lost.
    Erase(EraseArgs),
    /// Show which server leads the management service of the system that the hosts belong to.
    LeaderQuery,
}

/// Engines of the system that the hosts belong to.

#[derive(Args, Clone, Default)]
pub(crate) struct RankArgs {
    /// Only these ranks of the system, as 0-3,7 [default: all engines of the hosts]
    #[arg(short, long, value_name = "RANKS", value_parser = crate::system::parse)]
    pub(crate) ranks: Option<String>,
    /// Only the ranks of these hosts of the system.
    #[arg(long, value_name = "HOSTS", conflicts_with = "ranks")]
    pub(crate) rank_hosts: Option<String>,
}

impl RankArgs {
    /// Whether nothing is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranks.is_none() && self.rank_hosts.is_none()
    }
}

#[derive(Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) which: RankArgs,
    /// All members.
    #[arg(short, long)]
    pub(crate) members: bool,
    /// Members in these states: awaitformat, starting, joined, stopping, stopped, excluded, errored, unresponsive,
    /// adminexcluded.
    #[arg(long, value_name = "STATE,...", value_delimiter = ',')]
    pub(crate) with_states: Vec<String>,
    /// Members that do not serve.
    #[arg(long, conflicts_with = "with_states")]
    pub(crate) not_ok: bool,
    /// Show more of the members: UUIDs, fault domains, times.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl QueryArgs {
    /// Whether members are asked for, and not servers.
    pub(crate) fn is_about_members(&self) -> bool {
        let chosen = !self.which.is_empty() || !self.with_states.is_empty();
        chosen || self.members || self.not_ok || self.verbose
    }
}

#[derive(Args)]
#[group(skip)]
pub(crate) struct ExcludeArgs {
    #[command(flatten)]
    pub(crate) which: RankArgs,
    /// Do not ask for confirmation.
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct EraseArgs {
    /// Do not ask for confirmation. Skips the question, no check.
    #[arg(short, long)]
    pub(crate) force: bool,
}
