//! Commands about pools.

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum PoolCommand {
    /// Make a pool on all engines of the system.
    ///
    /// Every engine gives the same share, every target of an engine as well. What belongs to a pool
    /// no other can use. Sizes have units: 4GiB, 500MB, 2T; letters without "i" are powers of 1000.
    #[command(visible_alias = "c")]
    Create(CreateArgs),
    /// List the pools and how full they are.
    #[command(visible_alias = "ls")]
    List {
        /// Do not ask how full they are.
        #[arg(long)]
        no_query: bool,
    },
    /// Show how full a pool is.
    #[command(visible_alias = "q")]
    Query {
        /// The pool.
        #[arg(value_name = "LABEL|UUID")]
        pool: String,
    },
    /// Show properties of a pool.
    #[command(visible_alias = "gp")]
    GetProp(GetPropArgs),
    /// Change properties of a pool. Its label can be changed; what is the same for every pool is refused.
    #[command(visible_alias = "sp")]
    SetProp(SetPropArgs),
    /// Destroy a pool with all its data; its space is free when the command ends.
    ///
    /// Once begun it is carried out, even if server or engine are killed meanwhile.
    #[command(visible_alias = "d")]
    Destroy(DestroyArgs),
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// Label: letters, digits and . _ : - [default: made from the UUID].
    pub(crate) label: Option<String>,
    /// Size of the whole pool (6 % of it SCM), or a share of the space that no pool has yet: 50%.
    #[arg(short = 'z', long, value_name = "SIZE|PERCENT", value_parser = crate::pool::size::parse_total, required_unless_present = "scm_size", conflicts_with_all = ["scm_size", "nvme_size"])]
    pub(crate) size: Option<crate::pool::size::Total>,
    /// SCM on each rank.
    #[arg(short, long, value_name = "SIZE", value_parser = crate::pool::size::parse)]
    pub(crate) scm_size: Option<u64>,
    /// Block device on each rank [default: none].
    #[arg(short, long, value_name = "SIZE", value_parser = crate::pool::size::parse, requires = "scm_size")]
    pub(crate) nvme_size: Option<u64>,
    /// Only on these ranks.
    #[arg(short, long, value_delimiter = ',', value_name = "RANK")]
    pub(crate) ranks: Vec<u32>,
    /// Only on so many ranks.
    #[arg(short = 'k', long, conflicts_with = "ranks")]
    pub(crate) nranks: Option<u32>,
    /// UUID; who repeats a command with it succeeds again [default: a new one].
    #[arg(long)]
    pub(crate) uuid: Option<uuid::Uuid>,
    /// Owner, told to the server.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) user: String,
    /// Owning group, told to the server.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) group: String,
    /// Service replicas; accepted for compatibility, there is one.
    #[arg(short = 'v', long, default_value_t = 0, hide = true)]
    pub(crate) nsvc: u32,
    /// Name of the system that the server must belong to.
    #[arg(short = 'S', long, default_value = "", hide_default_value = true)]
    pub(crate) sys: String,
}

#[derive(Args)]
pub(crate) struct GetPropArgs {
    /// The pool.
    #[arg(value_name = "LABEL|UUID")]
    pub(crate) pool: String,
    /// Properties by name or number [default: all].
    #[arg(value_name = "NAME", value_delimiter = ',', value_parser = crate::pool::properties::name)]
    pub(crate) names: Vec<&'static daos_proto::properties::Property>,
}

#[derive(Args)]
pub(crate) struct SetPropArgs {
    /// The pool.
    #[arg(value_name = "LABEL|UUID")]
    pub(crate) pool: String,
    /// What to set, as label:tank.
    #[arg(value_name = "NAME:VALUE", required = true, value_delimiter = ',', value_parser = crate::pool::properties::assignment)]
    pub(crate) assignments: Vec<daos_proto::mgmt::PoolProperty>,
}

#[derive(Args)]
pub(crate) struct DestroyArgs {
    /// The pool.
    #[arg(value_name = "LABEL|UUID", required_unless_present = "uuid")]
    pub(crate) pool: Option<String>,
    /// The pool.
    #[arg(short, long, value_name = "UUID", conflicts_with = "pool")]
    pub(crate) uuid: Option<String>,
    /// With its containers; a pool that has some is refused otherwise.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Do not ask for confirmation. Skips the question, no check.
    #[arg(short, long)]
    pub(crate) force: bool,
}
