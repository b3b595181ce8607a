//! What each key does that can be seen from outside, and the test that shows it. `docs/config-keys.md` is
//! generated from here.

use super::Scope::{self, Plugin, Server, Tier, Top, Transport};

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does something.
    Seen {
        /// What, in a sentence.
        effect: &'static str,
        /// The test that shows it: path in the tree, `::`, function.
        test: &'static str,
    },
    /// It is read and checked; what it is for comes with a later feature.
    Later {
        /// Name of the feature.
        feature: &'static str,
    },
}

/// A key and its effect.
pub type Row = (Scope, &'static str, Effect);

const fn seen(scope: Scope, name: &'static str, effect: &'static str, test: &'static str) -> Row {
    (scope, name, Effect::Seen { effect, test })
}

const fn later(scope: Scope, name: &'static str, feature: &'static str) -> Row {
    (scope, name, Effect::Later { feature })
}

macro_rules! e2e {
    ($test:literal) => {
        concat!("tests/e2e/tests/e2e/", $test)
    };
}

const CREDENTIALS: &str = "agents' signed credentials";
const CERTIFICATES: &str = e2e!("tls.rs::the_files_of_the_configuration_are_the_server_s");
const TIERS: &str = "host/config/tests/seed.rs::tiers_are_translated";
const IMMUTABLE: &str = e2e!("immutable_keys.rs::each_is_refused_with_old_and_new_value");
const ENGINE_FABRIC: &str =
    e2e!("config_effects.rs::fabric_keys_of_an_engine_win_over_those_of_the_file");
const FILE_FABRIC: &str =
    e2e!("config_effects.rs::fabric_keys_of_the_file_are_those_of_engines_without_their_own");
const CONTROL_LOG: &str = e2e!("file_keys.rs::the_control_log_goes_where_and_as_it_is_told");
const ENGINE_LOG: &str = e2e!("config_effects.rs::engines_log_where_and_what_they_are_told");
const USER: &str = e2e!("file_keys.rs::engines_run_as_the_configured_user");
const CORES: &str = e2e!("config_effects.rs::targets_helpers_and_cores_are_as_configured");
const NAMES: &str = e2e!("config_effects.rs::rank_names_and_modules_reach_the_engine");
const FAULT_DOMAIN: &str = e2e!("file_keys.rs::the_fault_domain_is_recorded");
const SCM: &str = e2e!("config_effects.rs::scm_has_its_place_and_size");
const BDEVS: &str = e2e!("config_effects.rs::block_devices_have_their_number_and_size");
const PLUGINS: &str = e2e!("file_keys.rs::plugins_are_those_of_the_list_with_their_settings");

/// One row per key.
pub const EFFECTS: &[Row] = &[
    seen(
        Top,
        "name",
        "Clients of another system are refused; recorded at format.",
        NAMES,
    ),
    seen(
        Top,
        "access_points",
        "Recorded at format: a start with others is refused. Replicas of the membership come later.",
        IMMUTABLE,
    ),
    seen(
        Top,
        "port",
        "The control plane listens there.",
        e2e!("single_instance.rs::options_win_over_the_file"),
    ),
    seen(
        Top,
        "control_iface",
        "The control plane listens at the first IPv4 address of that interface, and at no other.",
        e2e!("control_iface.rs::the_control_plane_listens_where_it_is_told"),
    ),
    seen(
        Top,
        "transport_config",
        "See its keys.",
        e2e!("single_instance.rs::plain_text_must_be_asked_for"),
    ),
    seen(
        Transport,
        "allow_insecure",
        "Without it, or -i, the server needs certificates; with it, it listens on loopback only, or at control_iface.",
        e2e!("single_instance.rs::plain_text_must_be_asked_for"),
    ),
    later(Transport, "client_cert_dir", CREDENTIALS),
    seen(
        Transport,
        "ca_cert",
        "Who shows no certificate that it signed is refused; expired, unreadable or wrong files keep the server from starting.",
        CERTIFICATES,
    ),
    seen(
        Transport,
        "cert",
        "Shown to whoever connects; a replaced one counts from the next connection.",
        CERTIFICATES,
    ),
    seen(
        Transport,
        "key",
        "Proves that the certificate is the server's; refused when others can read it.",
        CERTIFICATES,
    ),
    seen(
        Transport,
        "server_name",
        "A server's certificate of another name is not used and not accepted.",
        e2e!("tls.rs::servers_may_have_another_name"),
    ),
    seen(
        Top,
        "fault_path",
        "Fault domain of the superblock and of `SystemQuery`, in small letters.",
        FAULT_DOMAIN,
    ),
    seen(
        Top,
        "fault_cb",
        "Run at start; what it prints is the fault domain. One that fails, prints no path, is a link, setuid or setgid, or \
         that others than root and the server's user could change, stops the start.",
        FAULT_DOMAIN,
    ),
    seen(
        Top,
        "fabric_ifaces",
        "D_INTERFACE of engines without a fabric_iface, in their order. Without it one is chosen and the log says why.",
        e2e!("fabric_choice.rs::each_engine_gets_its_interface_of_the_list"),
    ),
    seen(
        Top,
        "provider",
        "Chooses the fabric plugin; D_PROVIDER of engines without their own. Engines without any get the best provider of \
         the interfaces, and the log says why.",
        e2e!("fabric_choice.rs::what_the_file_leaves_out_is_chosen_and_works"),
    ),
    seen(
        Top,
        "fabric_iface",
        "D_INTERFACE of engines without their own.",
        FILE_FABRIC,
    ),
    seen(
        Top,
        "fabric_iface_port",
        "D_PORT of engines without their own. Engines that would share an interface and a port are refused; without a \
         port each gets a free one.",
        e2e!("fabric_choice.rs::engines_that_would_meet_on_a_port_are_refused_before_a_format"),
    ),
    seen(
        Top,
        "scm_mount_path",
        "Engines without scm_mount have theirs at <path>/<index>.",
        SCM,
    ),
    seen(
        Top,
        "bdev_include",
        "A bdev_list with another NVMe controller is refused; recorded at format.",
        "host/config/tests/errors.rs::keys_that_contradict_each_other",
    ),
    seen(
        Top,
        "bdev_exclude",
        "A bdev_list with such a controller is refused; recorded at format.",
        "host/config/tests/errors.rs::keys_that_contradict_each_other",
    ),
    seen(
        Top,
        "hyperthreads",
        "Targets are placed on every hyperthread, else on the first one of each core.",
        "host/topology/src/cores.rs::hyperthreads_of_a_core_count_once",
    ),
    seen(
        Top,
        "socket_dir",
        "Sockets are made there; a directory that cannot be used stops the start.",
        e2e!("life.rs::a_socket_directory_that_cannot_be_used_is_refused_with_the_remedy"),
    ),
    seen(
        Top,
        "nr_hugepages",
        "As many huge pages `storage prepare` reserves, unless -p says otherwise, and a server whose engines use NVMe has at \
         its start: one that root starts takes what is missing, another says what is missing.",
        e2e!("huge_pages.rs::root_s_server_takes_what_is_missing"),
    ),
    seen(
        Top,
        "control_log_mask",
        "Messages that matter less are not logged.",
        CONTROL_LOG,
    ),
    seen(
        Top,
        "control_log_file",
        "The log is appended there instead of to standard output.",
        CONTROL_LOG,
    ),
    seen(
        Top,
        "control_log_json",
        "One JSON object per line.",
        CONTROL_LOG,
    ),
    seen(
        Top,
        "user_name",
        "A server that root started runs engines as this user, who owns their storage.",
        USER,
    ),
    seen(Top, "group_name", "The group that goes with it.", USER),
    seen(
        Top,
        "modules",
        "-m of engines without their own.",
        e2e!("config_effects.rs::modules_of_the_file_are_those_of_engines_without_their_own"),
    ),
    seen(
        Top,
        "attach",
        "A file that lists rank and address of each engine that serves, while the server runs.",
        e2e!("file_keys.rs::the_attach_file_lists_engines_that_serve"),
    ),
    seen(
        Top,
        "plugins_dir",
        "Plugins are taken from there; files that cannot be trusted are refused by name.",
        e2e!("plugins_dir.rs::bad_files_are_refused_by_name_and_the_others_serve"),
    ),
    seen(
        Top,
        "plugins",
        "Plugins off the list are not used.",
        PLUGINS,
    ),
    seen(
        Plugin,
        "name",
        "The entry's name, in the form of a list.",
        "host/config/tests/errors.rs::plugins_as_a_group_and_as_a_list",
    ),
    seen(
        Plugin,
        "sha256",
        "A file of another content is refused.",
        e2e!("file_keys.rs::a_plugin_of_another_hash_is_refused"),
    ),
    seen(
        Plugin,
        "settings",
        "Handed to the plugin in helper and engine.",
        PLUGINS,
    ),
    seen(
        Plugin,
        "log_mask",
        "Lines of the plugin that matter less are not logged, neither by server and helpers nor by engines.",
        e2e!("log_masks.rs::a_plugin_has_a_level_of_its_own_in_the_file"),
    ),
    seen(
        Top,
        "engine_path",
        "That program is started instead of our engine.",
        e2e!(
            "life.rs::an_engine_that_dies_again_and_again_is_restarted_ever_later_and_then_given_up"
        ),
    ),
    seen(
        Top,
        "engine_conf_format",
        "Form of daos_nvme.conf beside the superblock.",
        e2e!("config_effects.rs::the_list_of_devices_has_the_form_that_its_engine_reads"),
    ),
    seen(
        Top,
        "state_dir",
        "Leases, quarantine and the history of plugins are kept there.",
        e2e!("file_keys.rs::the_state_directory_holds_what_survives"),
    ),
    seen(
        Top,
        "telemetry_port",
        "Metrics for Prometheus are at http://127.0.0.1:PORT/metrics; with control_iface, at its address instead.",
        e2e!("telemetry.rs::metrics_tell_of_engines_helpers_and_devices"),
    ),
    seen(
        Top,
        "servers",
        "One engine per entry, each with a life of its own. Without any, engines are planned, and a format asks for agreement \
         to the plan (`planned_engines.rs`).",
        e2e!("data_path/two_engines.rs::one_that_is_killed_leaves_the_other_serving"),
    ),
    seen(
        Server,
        "rank",
        "The engine has this rank in `system query` and for clients.",
        NAMES,
    ),
    seen(Server, "targets", "So many target threads.", CORES),
    seen(
        Server,
        "nr_xs_helpers",
        "Helper threads beside the targets.",
        CORES,
    ),
    seen(
        Server,
        "first_core",
        "The first target is pinned to that core, the others to those behind it.",
        CORES,
    ),
    seen(Server, "name", "-g of the engine.", NAMES),
    seen(
        Server,
        "socket_dir",
        "-d of the engine; the server listens there, too.",
        e2e!("config_effects.rs::an_engine_may_have_a_socket_directory_of_its_own"),
    ),
    seen(Server, "modules", "-m of the engine.", NAMES),
    seen(
        Server,
        "log_mask",
        "Messages that matter less are not logged (D_LOG_MASK).",
        ENGINE_LOG,
    ),
    seen(
        Server,
        "log_file",
        "The engine's log is appended there (D_LOG_FILE).",
        ENGINE_LOG,
    ),
    seen(
        Server,
        "env_vars",
        "The engine's environment has them.",
        e2e!("config_effects.rs::environment_variables_reach_the_engine_in_either_spelling"),
    ),
    seen(
        Server,
        "provider",
        "D_PROVIDER of the engine; its address starts with it.",
        ENGINE_FABRIC,
    ),
    seen(
        Server,
        "fabric_iface",
        "D_INTERFACE of the engine.",
        ENGINE_FABRIC,
    ),
    seen(
        Server,
        "fabric_iface_port",
        "The first target listens there (D_PORT).",
        ENGINE_FABRIC,
    ),
    seen(
        Server,
        "scm_mount",
        "Superblock, device list and log lie there (-s).",
        e2e!("life.rs::every_option_of_start_reaches_its_place"),
    ),
    seen(
        Server,
        "scm_class",
        "Chooses the SCM plugin.",
        e2e!("wrong_config.rs::one_error_with_its_place_and_nothing_touched"),
    ),
    seen(
        Server,
        "scm_list",
        "The namespace, or the directory, that class dcpm uses.",
        "plugins/scm-dcpm/tests/storage.rs::what_can_be_no_persistent_memory_is_refused_with_its_reason",
    ),
    seen(
        Server,
        "scm_size",
        "Size of the tmpfs that is mounted.",
        SCM,
    ),
    seen(
        Server,
        "bdev_class",
        "Chooses the block device plugin.",
        e2e!("data_path/main_job.rs::ram_malloc_built_in"),
    ),
    seen(
        Server,
        "bdev_list",
        "These devices are formatted and used, in this order.",
        e2e!("format_death.rs::killed_at_every_step_of_a_first_format"),
    ),
    seen(
        Server,
        "bdev_number",
        "So many devices of memory are in the device list.",
        BDEVS,
    ),
    seen(
        Server,
        "bdev_size",
        "Size of the file that a format makes.",
        BDEVS,
    ),
    seen(
        Server,
        "bdev_layers",
        "Layers of faults, delays and statistics lie over the engine's block devices.",
        e2e!("layers.rs::layers_of_the_configuration_are_there_from_the_start"),
    ),
    seen(
        Server,
        "storage",
        "Translated into the keys above, with a warning.",
        TIERS,
    ),
    seen(
        Tier,
        "class",
        "scm_class or bdev_class of the server.",
        TIERS,
    ),
    seen(Tier, "scm_mount", "scm_mount of the server.", TIERS),
    seen(Tier, "scm_list", "scm_list of the server.", TIERS),
    seen(Tier, "scm_size", "scm_size of the server.", TIERS),
    seen(Tier, "bdev_list", "bdev_list of the server.", TIERS),
    seen(Tier, "bdev_layers", "bdev_layers of the server.", TIERS),
    seen(Tier, "bdev_number", "bdev_number of the server.", TIERS),
    seen(Tier, "bdev_size", "bdev_size of the server.", TIERS),
];
