//! Every option of lightningd: name (`fee_base` is `--fee-base`), what it takes, range, default,
//! doc. CLN's names and meanings. Plugins add theirs at start.

use crate::sys::options::row::{
    Many, Maybe, Noted, One, OptionSpec, by_network, decided, fixed, not_given, options,
    or_developer,
};
use crate::sys::options::takes::{
    Alias, Chain, Discovered, Feerates, OctalMode, Path, Present, Rgb, Sandbox, Subdaemon, Text,
    Wallet,
};
use primitives::{CltvDelta, Msat, Network, Sat};
use std::path::PathBuf;

/// An option without a value.
type Flag = One<Present>;

options! {
    "Configuration" {
        /// Read this configuration file instead of DIR/config and DIR/NETWORK/config.
        /// Only on the command line
        conf: Maybe<Path>;
        /// Base directory. The node works in its directory NETWORK
        lightning_dir: One<Path> = decided("~/.lightning");
        /// bitcoin, testnet, testnet4, signet or regtest
        network: One<Chain> = fixed(Network::Bitcoin);
        /// Same as --network=bitcoin
        mainnet: Flag;
        /// Same as --network=testnet
        testnet: Flag;
        /// Same as --network=testnet4
        testnet4: Flag;
        /// Same as --network=signet
        signet: Flag;
        /// Same as --network=regtest
        regtest: Flag;
        /// Print this and exit
        help: Flag;
        /// Print the version and exit
        version: Flag;
        /// Allow the options under "Developer", and the dev- commands
        developer: Flag;
    }
    "Process" {
        /// Run in the background. Needs --log-file
        daemon: Flag;
        /// Write the process id to this file, which also keeps a second lightningd out
        pid_file: Maybe<Path> = decided("DIR/lightningd-NETWORK.pid");
        /// Run although the user is root
        allow_root: Flag;
        /// Whether lightningd starts on a kernel without Landlock or seccomp
        sandbox: Maybe<Sandbox> = decided("required where the kernel has both");
        /// Run this executable in place of a daemon: hsmd, connectd, openingd, channeld, closingd
        /// or onchaind
        subdaemon: Many<Subdaemon>;
        /// Ask for the passphrase of hsm_secret
        hsm_passphrase: Flag;
        /// SQLite database, relative to the network's directory
        wallet: One<Wallet> = fixed(PathBuf::from("lightningd.sqlite3")), secret;
        /// Allow migration of the database to a newer version
        database_upgrade: Maybe<bool>, inert;
    }
    "Log" {
        /// Least level to log: io, trace, debug, info, unusual or broken. LEVEL:SUBSYSTEM sets that
        /// of one subsystem
        log_level: Many<Text> = fixed(vec!["info".to_owned()]), shows_last;
        /// Log to this file, - for stdout
        log_file: Many<Text>;
        /// Begin every line of the log with this
        log_prefix: One<Text>;
        /// Begin every line of the log with the time, after the prefix
        log_timestamps: One<bool> = fixed(true);
    }
    "JSON-RPC" {
        /// Socket of JSON-RPC, relative to the network's directory
        rpc_file: One<Text> = fixed("lightning-rpc".to_owned());
        /// Permissions of the socket
        rpc_file_mode: One<OctalMode> = fixed(0o600);
        /// Answer in deprecated forms, too
        allow_deprecated_apis: One<bool> = or_developer(true, false);
        /// Keep this deprecated form, of CLN, that has been removed
        i_promise_to_fix_broken_api_user: Many<Text>, inert;
    }
    "Plugins" {
        /// Start this plugin: a path, or a file of DIR/plugins
        plugin: Many<Text>;
        /// Start every plugin of this directory
        plugin_dir: Many<Path>;
        /// Forget every --plugin and --plugin-dir before this one
        clear_plugins: Flag;
        /// Do not start this plugin, by its path or file name
        disable_plugin: Many<Text>;
        /// Start this plugin, and stop the node when it exits
        important_plugin: Many<Text>;
    }
    "Node" {
        /// Name of the node, 32 bytes at most
        alias: Maybe<Alias> = decided("two words from the node id");
        /// Colour of the node
        rgb: Maybe<Rgb> = decided("the first three bytes of the node id");
        /// Blocks below the tip from which on blocks are scanned for wallet outputs at start; a
        /// negative number is a height: -100000 scans from block 100000
        rescan: Noted<i32> = by_network(not_given(15), not_given(30));
        /// Keep back so much of the wallet to bump fees of closes, while there are anchor channels
        min_emergency_msat: One<Msat> = fixed(Msat(25_000_000));
        /// Feerates in satoshi per 1000 weight, instead of the backend's estimates: opening,
        /// mutual_close, unilateral_close, delayed_to_us, htlc_resolution, penalty
        force_feerates: Maybe<Feerates>;
    }
    "Connections" {
        /// Neither listen nor connect to peers
        offline: Flag;
        /// Listen on this HOST or HOST:PORT, and announce it
        addr: Many<Text>;
        /// Listen on this HOST or HOST:PORT, and do not announce it
        bind_addr: Many<Text>;
        /// Announce this address without listening on it
        announce_addr: Many<Text>, inert;
        /// Announce the address that peers report in their init message
        announce_addr_discovered: One<Discovered> = fixed("auto".to_owned()), inert;
        /// Listen on the network's default port where neither --addr nor --bind-addr is given
        autolisten: One<bool> = fixed(true);
        /// Never resolve a hostname
        disable_dns: Flag;
        /// Peers to connect to on our own for more gossip
        autoconnect_seeker_peers: One<u32> = fixed(10), inert;
        /// SOCKS5 proxy for connections to peers
        proxy: Maybe<Text>, inert;
        /// Connect to every peer through the proxy, not only to Tor addresses
        always_use_proxy: One<bool> = fixed(false), inert;
    }
    "Channels" {
        /// Smallest channel, in satoshi, that a peer may open
        min_capacity_sat: One<Sat> = fixed(Sat(10_000));
        /// Confirmations of the funding transaction before a channel opened by a peer is used
        funding_confirms: One<u32> [1, 2016] = by_network(3, 1);
        /// Blocks that the peer's own output of its commitment waits after a unilateral close
        /// (to_self_delay of BOLT 2)
        watchtime_blocks: One<u16> [1, 2016] = by_network(144, 6);
        /// Received HTLCs, and offered ones, at once in a channel
        max_concurrent_htlcs: One<u16> [1, 483] = by_network(30, 483);
        /// Dust HTLCs of a channel may add up to this: it goes to miners in a unilateral close
        max_dust_htlc_exposure_msat: One<Msat> = fixed(Msat(50_000_000));
        /// Accept every feerate of a channel's opener
        ignore_fee_limits: One<bool> = by_network(false, true);
        /// Milliseconds to wait for more updates before a commitment is signed
        commit_time: One<u32> = fixed(10);
        /// Per cent of the estimated feerate that a commitment pays
        commit_fee: One<u32> = fixed(100), inert;
        /// Satoshi per 1000 weight added to the feerate of a commitment without anchors
        commit_feerate_offset: One<u32> = fixed(5), inert;
        /// Accept only confirmed inputs of the peer in dual funding
        require_confirmed_inputs: One<bool> = fixed(false), inert;
        /// Large channels are always allowed
        large_channels: Flag, inert;
        /// Large channels are always allowed
        wumbo: Flag, inert;
    }
    "Payments" {
        /// Base fee of a forward, in msat
        fee_base: One<u32> = by_network(1000, 1);
        /// Proportional fee of a forward, in millionths of the forwarded amount
        fee_per_satoshi: One<u32> = fixed(10);
        /// Smallest HTLC to accept or to forward, in msat
        htlc_minimum_msat: One<Msat> = fixed(Msat(0));
        /// Largest HTLC to forward, in msat
        htlc_maximum_msat: One<Msat> = fixed(Msat(u64::MAX));
        /// Blocks between the expiries of the received and the offered HTLC of a forward
        cltv_delta: One<CltvDelta> = by_network(CltvDelta(34), CltvDelta(6));
        /// Blocks that the last HTLC of a payment to us must have left (min_final_cltv_expiry_delta
        /// of our invoices)
        cltv_final: One<CltvDelta> = by_network(CltvDelta(18), CltvDelta(10));
        /// Blocks from now until the latest expiry of an HTLC to forward (expiry_too_far of BOLT 4)
        max_locktime_blocks: One<CltvDelta> = fixed(CltvDelta(2016));
    }
    "Developer" {
        /// Shorter timers of gossip
        dev_fast_gossip: Flag, developer, inert;
        /// Seconds between polls of the backend; 0 polls twenty times a second
        dev_bitcoind_poll: One<u32> = fixed(30), developer;
        /// Seconds from which on a tip is too old to put money at stake by it
        dev_stale_tip: Maybe<u32> = decided("14400; never on regtest"), developer;
        /// Seconds that a mutual close begun by the peer may take before a unilateral close
        dev_peer_close_seconds: Maybe<u32> = decided("172800"), developer;
        /// Do not connect to peers with channels on our own
        dev_no_reconnect: Flag, developer;
        /// Stop when a daemon dies of a bug
        dev_fail_on_subdaemon_fail: Flag, developer;
        /// Read the free bytes of the disk from this file
        dev_free_space_file: Maybe<Path>, developer;
        /// The database is full at so many pages, until lightningd restarts itself; 0 is no limit
        dev_database_pages: One<u32> = fixed(0), developer;
        /// Longest pause in milliseconds between the death of connectd and its next start
        dev_restart_pause: Maybe<u32> = decided("a minute"), developer;
        /// Milliseconds that each commit to the database takes longer
        dev_commit_delay: One<u32> = fixed(0), developer;
        /// Keep the input and output of plugins in this directory
        dev_save_plugin_io: Maybe<Path>, developer;
        /// Count barriers in this directory, and die at the one named there
        dev_barriers: Maybe<Path>, developer;
        /// Abort after so many seconds; 0 is never
        dev_crash_after: One<u32> = fixed(0), developer;
        /// Announce local addresses
        dev_allow_localhost: Flag, developer, inert;
        /// Private key of the node
        dev_force_privkey: Maybe<Text>, developer, inert, secret;
        /// Disconnect at these messages
        dev_disconnect: Maybe<Path>, developer, inert;
    }
}

/// The option of this name.
pub fn find(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}
