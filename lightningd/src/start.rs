//! Start-up as a table of contents, and the end.

use crate::event_loop::Io;
use crate::kernel;
use crate::kernel::Life;
use crate::kernel::children::{Role, Supervisor};
use crate::kernel::plugins::{Plugin, PluginHost};
use crate::kernel::turn::Counters;
use crate::kernel::waits::Waits;
use crate::kernel::words::rooms::Stage;
use crate::node::Node;
use crate::rooms::wallet::Wallet;
use crate::rooms::{chain, channels, htlcs, invoices, onchain, payments, peers, wallet};
use crate::sys::again::Myself;
use crate::sys::alias::{alias, colour};
use crate::sys::children::{ChildSpec, Daemon};
use crate::sys::disk::{Disk, Room, Space};
use crate::sys::executables::Executables;
use crate::sys::fatal::Fatal;
use crate::sys::files::plugins_in;
use crate::sys::hsm::HsmClient;
use crate::sys::lock::ChildrenLock;
use crate::sys::nursery::{Common, Nursery};
use crate::sys::options::{Config, command};
use crate::sys::revocation_log::RevocationLog;
use crate::sys::tokens::CHILD_BASE;
use crate::sys::version::version;
use crate::sys::{passphrase, sandbox};
use bitcoin::bip32::Xpub;
use nix::fcntl::{Flock, FlockArg};
use primitives::feature::{self, Context};
use primitives::{Network, NodeId, SecretBytes};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use wire::Message;
use wire::hsm::{HsmdInit, Unlock, UnlockAnswer};

/// Our own plugins, started with every node. A backend is needed; the others are as good as needed.
const BUILTIN_PLUGINS: [&str; 2] = ["bcli", "pay"];

/// From the command line to the exit code.
pub fn main() -> ExitCode {
    // It may be a password: its place is shown, and not the word.
    let args = std::env::args_os().enumerate().skip(1).map(|(place, word)| {
        word.into_string().map_err(|_| (1, Fatal(format!("word {place} is not UTF-8"))))
    });
    let run = |args: Vec<String>| run(&Myself::at_start(), &args);
    match args.collect::<Result<_, _>>().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, fatal)) => {
            // Stderr for the person who started it, the log for the one who looks later.
            eprintln!("lightningd: {fatal}");
            log::error!("{fatal}");
            ExitCode::from(code)
        }
    }
}

/// For whoever would use real bitcoins.
const TOO_YOUNG: &str =
    "this software is young: put no more on --network=bitcoin than you can bear to lose";

/// In the network's directory.
const CHILDREN_LOCK: &str = "lightningd-children.lock";

type Exit = (u8, Fatal);

fn run(myself: &Myself, args: &[String]) -> Result<(), Exit> {
    let generic = |e: Fatal| (1, e);
    sandbox::begin().map_err(generic)?;
    let config = Config::load(args, std::env::var_os("HOME").map(PathBuf::from).as_deref())
        .map_err(generic)?;
    if config.options.version {
        println!("{}", version());
        return Ok(());
    }
    if config.options.help {
        println!("{}", command::command().render_help());
        return Ok(());
    }
    refuse_unfit(&config).map_err(generic)?;
    let boxes = sandbox::decide(&config, ::sandbox::lacking()).map_err(generic)?;
    make_directories(&config).map_err(generic)?;
    // A daemon is told by its parent, who had it confirmed.
    let is_new = !Path::new(SECRET_FILE).exists() && !myself.is_daemon();
    let passphrase = config.options.hsm_passphrase.then(|| passphrase::ask(is_new)).transpose()?;
    let has_passphrase = passphrase.is_some();
    begin_log(&config, myself, passphrase.as_ref()).map_err(generic)?;
    let _pid_file = take_pid_file(&config).map_err(|e| (11, e))?;
    let room = Room::new(&config, &config.options.wallet);
    // What it has locked stays so until this process is another.
    let (mut io, (code, why)) = match begin(config, myself, &boxes, room.clone(), passphrase) {
        Ok((mut node, mut io)) => match io.run(&mut node) {
            Ok(()) => {
                io.end(|| remove_files(&node));
                return Ok(());
            }
            Err(why) => (Some(io), generic(why)),
        },
        Err(exit) if myself.is_anew() => (None, exit),
        Err(exit) => return Err(exit),
    };
    if !room.is_full(&why) {
        return Err((code, why));
    }
    if has_passphrase {
        let text = format!("{why}: make room, and start lightningd with its passphrase");
        return Err((code, Fatal(text)));
    }
    log::error!(
        "{why}: the disk is full; deleting lightningd-reserve and restarting from the database"
    );
    if let Some(io) = &mut io {
        io.abandon();
    }
    room.give_back_reserve();
    Err((code, myself.begin_anew(&room, &why)))
}

//~ The tour begins here, where lightningd starts all others: read `begin` as a table of contents,
//~ then `event_loop`, `dispatch` and `kernel/turn` for what happens from then on. Go on to hsmd,
//~ the first process that is started.
/// Everything up to the loop.
fn begin(
    config: Config,
    myself: &Myself,
    boxes: &sandbox::Decision,
    room: Room,
    passphrase: Option<SecretBytes>,
) -> Result<(Node, Io), Exit> {
    let generic = |e: Fatal| (1, e);
    log::info!("{}", version());
    if config.network() == Network::Bitcoin {
        log::warn!("{TOO_YOUNG}");
    }
    sandbox::shed(boxes, myself.is_anew()).map_err(generic)?;
    crate::sys::files::warn_of_others(
        &config.options.wallet,
        crate::sys::revocation_log::FILE,
        &config.options.log_file,
    );
    let children =
        ChildrenLock::after_old_children(Path::new(CHILDREN_LOCK)).map_err(|e| (11, e))?;
    sandbox::raise_descriptor_limit().map_err(generic)?;
    let executables = Executables::find(&config.options.subdaemon).map_err(|e| (10, e))?;
    executables.check_versions().map_err(|e| (10, e))?;

    let poll = mio::Poll::new().map_err(|e| generic(Fatal(format!("epoll: {e}"))))?;
    let barriers = crate::sys::barriers::begin(&config).map_err(generic)?;
    let common = Common {
        level: crate::sys::log::least_level(),
        developer: config.developer(),
        sandbox: boxes.mode,
        lock: children,
        barriers,
    };
    let mut nursery = Nursery::new(common);
    let mut supervisor = Supervisor::default();
    supervisor.sandbox_warning = boxes.warning();
    let mut hsm =
        start_hsmd(&mut nursery, &mut supervisor, &executables, &poll).map_err(generic)?;
    let (id, xpub, fresh_secret) = unlock(&mut hsm, config.network(), passphrase)?;
    let db = open_database(&config, id, fresh_secret)?;
    let mut node = load(config, id, xpub, supervisor, &db).map_err(generic)?;
    let (revocations, records) =
        RevocationLog::open(Path::new(crate::sys::revocation_log::FILE)).map_err(generic)?;
    crate::rooms::channels::revocations::compare_rows(&mut node.channels, &db, &records)
        .map_err(generic)?;
    let plugin_dir = executables.plugin_dir().to_path_buf();
    let plugins = initial_plugins(&node.config, &plugin_dir).map_err(generic)?;
    let disk = Disk::new(room, &node.config.options.log_file);
    let mut io =
        Io::new(db, revocations, hsm, nursery, executables, poll, disk).map_err(generic)?;
    io.box_plugins(boxes.mode, our_plugins(&plugin_dir));
    obey_developer(&node.config, myself, &mut io);
    for plugin in plugins {
        let id = node.plugins.next_id();
        io.spawn_plugin(&mut node, id, plugin);
    }
    Ok((node, io))
}

/// `Err` if the database is another node's, or of another network.
fn open_database(
    config: &Config,
    id: NodeId,
    fresh_secret: bool,
) -> Result<rusqlite::Connection, Exit> {
    let generic = |e: Fatal| (1, e);
    let db = crate::sys::db::open(&config.options.wallet).map_err(generic)?;
    let fresh = crate::sys::db::check_owner(&db, config.network(), id)
        .map_err(|e| (crate::sys::db::EXIT_WRONG_DATABASE, e))?;
    if fresh && fresh_secret {
        crate::rooms::channels::store::numbers::begin_numbers(&db).map_err(generic)?;
    } else if fresh {
        log::warn!(
            "a new database under an hsm_secret that was there before: channels from an older database are unknown"
        );
    }
    Ok(db)
}

/// The developer's options that concern the loop.
fn obey_developer(config: &Config, myself: &Myself, io: &mut Io) {
    let options = &config.options;
    if !myself.is_anew() {
        io.limit_database_to(options.dev_database_pages);
    }
    if let Some(dir) = &options.dev_save_plugin_io {
        io.save_plugin_io(dir);
    }
    if let seconds @ 1.. = options.dev_crash_after {
        io.crash_at(Some(Instant::now() + Duration::from_secs(seconds.into())));
    }
}

fn refuse_unfit(config: &Config) -> Result<(), Fatal> {
    sandbox::refuse_root(nix::unistd::geteuid().is_root(), config)?;
    if config.network() == Network::Bitcoin {
        // The log may not be open yet, and nobody should miss it.
        eprintln!("lightningd: warning: {TOO_YOUNG}");
    }
    Ok(())
}

fn make_directories(config: &Config) -> Result<(), Fatal> {
    let dir = config.network_dir();
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(&dir)
        .map_err(|e| Fatal(format!("cannot make the directory {}: {e}", dir.display())))?;
    std::env::set_current_dir(&dir)
        .map_err(|e| Fatal(format!("cannot enter {}: {e}", dir.display())))
}

/// In the network's directory.
const SECRET_FILE: &str = "hsm_secret";
fn begin_log(
    config: &Config,
    myself: &Myself,
    passphrase: Option<&SecretBytes>,
) -> Result<(), Fatal> {
    let options = &config.options;
    if options.daemon && options.log_file.is_empty() {
        return Err(Fatal("--daemon needs a --log-file".to_owned()));
    }
    crate::sys::log::configure(
        &options.log_prefix,
        options.log_timestamps,
        &options.log_level,
        &options.log_file,
    )
    .map_err(Fatal)?;
    if options.daemon {
        myself.daemonize(passphrase)?;
    }
    Ok(())
}

/// Two of us on one directory would each say what the other does not know.
fn take_pid_file(config: &Config) -> Result<Flock<File>, Fatal> {
    let path = config.pid_file();
    let shown = path.display();
    let file =
        crate::sys::files::open_ours(&path).map_err(|e| Fatal(format!("pid-file {shown}: {e}")))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
        Fatal(format!("pid-file {shown} is locked ({e}): is lightningd already running there?"))
    })?;
    lock.set_len(0).map_err(|e| Fatal(format!("pid-file {shown}: {e}")))?;
    writeln!(*lock, "{}", std::process::id())
        .map_err(|e| Fatal(format!("pid-file {shown}: {e}")))?;
    Ok(lock)
}

/// Removes what start-up left in the directory, at an orderly end.
fn remove_files(node: &Node) {
    for path in [PathBuf::from(node.rpc_file()), node.config.pid_file()] {
        let is_socket = path.as_os_str() == node.rpc_file().as_str();
        let removed = if is_socket {
            crate::sys::files::remove_socket(&path)
        } else {
            std::fs::remove_file(&path)
        };
        match removed {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => log::warn!("{}: {e}", path.display()),
        }
    }
}

fn start_hsmd(
    nursery: &mut Nursery,
    supervisor: &mut Supervisor,
    executables: &Executables,
    poll: &mio::Poll,
) -> Result<HsmClient, Fatal> {
    let (ours, theirs) =
        subdaemon::stream_pair().map_err(|e| Fatal(format!("no socket for hsmd: {e}")))?;
    let id = supervisor.next_id();
    supervisor.assign(id, Role::Hsmd);
    let spec = ChildSpec {
        id,
        daemon: Daemon::Hsmd,
        source: "hsmd".to_owned(),
        node: None,
        init: HsmdInit {}.encode(),
        fds: vec![theirs],
    };
    nursery.spawn(spec, executables, poll.registry(), CHILD_BASE).map_err(Fatal)?;
    HsmClient::new(ours)
}

/// CLN's exit code for whatever is wrong with the secret but its passphrase.
const EXIT_HSM: u8 = 20;

fn unlock(
    hsm: &mut HsmClient,
    network: Network,
    passphrase: Option<SecretBytes>,
) -> Result<(NodeId, Xpub, bool), Exit> {
    let question = Unlock { network, path: SECRET_FILE.to_owned(), passphrase };
    let unlocked = match hsm.ask(&question).map_err(|e| (EXIT_HSM, e))? {
        UnlockAnswer::Open { unlocked } => unlocked,
        UnlockAnswer::Refused { why } => return Err((EXIT_HSM, Fatal(why))),
        UnlockAnswer::NeedsPassphrase { why } => return Err((passphrase::EXIT_NEEDED, Fatal(why))),
        UnlockAnswer::WrongPassphrase { why } => return Err((passphrase::EXIT_WRONG, Fatal(why))),
    };
    let xpub = Xpub::decode(&unlocked.wallet_xpub)
        .map_err(|e| (EXIT_HSM, Fatal(format!("hsmd gave no usable public key: {e}"))))?;
    Ok((unlocked.node_id, xpub, unlocked.fresh))
}

/// The rooms, one above the other, from their rows.
pub(crate) fn load(
    config: Config,
    id: NodeId,
    xpub: Xpub,
    supervisor: Supervisor,
    db: &rusqlite::Connection,
) -> Result<Node, Fatal> {
    let (last_index, outputs) = crate::rooms::wallet::store::load(db)?;
    let kernel = ground(config, id, supervisor)?;
    let node = chain::Scope::on(kernel, chain::store::load(db)?);
    let node = wallet::Scope::on(node, Wallet::new(xpub, last_index, outputs));
    let node = peers::Scope::on(node, peers::store::load(db)?);
    let node = channels::Scope::on(node, channels::store::load::load(db)?);
    let node = invoices::Scope::on(node, invoices::store::load(db)?);
    let node = payments::Scope::on(node, payments::store::load(db)?);
    let node = htlcs::Scope::on(node, htlcs::store::load(db)?);
    let node = onchain::Scope::on(node, onchain::store::load(db)?);
    Ok(Node::on(node))
}

/// What every room stands on.
pub(crate) fn ground(
    config: Config,
    id: NodeId,
    supervisor: Supervisor,
) -> Result<kernel::Scope, Fatal> {
    Ok(kernel::Scope {
        network: config.network(),
        id,
        alias: alias(&config, id),
        rgb: colour(&config, id),
        features: feature::ours(Context::Init),
        invoice_features: feature::ours(Context::Bolt11),
        supervisor,
        plugins: PluginHost::new(
            crate::api::rpc::table::METHODS.iter().map(|m| m.name),
            crate::flows::hooks::table::HOOKS.iter().map(|h| h.name),
        ),
        waits: Waits::default(),
        life: Life::default(),
        counters: Counters::default(),
        space: Space::default(),
        space_warning: None,
        config,
    })
}

/// Where our own plugins are.
fn our_plugins(dir: &Path) -> [PathBuf; BUILTIN_PLUGINS.len()] {
    BUILTIN_PLUGINS.map(|name| dir.join(name))
}

fn initial_plugins(config: &Config, ours: &Path) -> Result<Vec<Plugin>, Fatal> {
    let mut paths: Vec<(PathBuf, bool)> = Vec::new();
    for path in our_plugins(ours) {
        if path.is_file() {
            paths.push((path, true));
        } else {
            log::warn!("our own plugin {} is missing", path.display());
        }
    }
    let options = &config.options;
    let named = [("plugin", &options.plugin), ("important-plugin", &options.important_plugin)];
    for (option, all) in named {
        for given in all {
            let path = if given.contains('/') {
                PathBuf::from(given)
            } else {
                config.base().join("plugins").join(given)
            };
            if !path.is_file() {
                return Err(Fatal(format!("--{option}={given}: {} is no file", path.display())));
            }
            paths.push((path, option == "important-plugin"));
        }
    }
    let default_dir = config.base().join("plugins");
    let mut dirs: Vec<PathBuf> = options.plugin_dir.clone();
    if default_dir.is_dir() {
        dirs.push(default_dir);
    }
    for dir in dirs {
        paths.extend(plugins_in(&dir)?.into_iter().map(|p| (p, false)));
    }
    let disabled = &options.disable_plugin;
    let name_of =
        |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    paths.retain(|(p, _)| !disabled.iter().any(|d| *d == name_of(p) || Path::new(d) == *p));
    let mut seen = std::collections::BTreeSet::new();
    paths.retain(|(p, _)| seen.insert(p.clone()));
    Ok(paths
        .into_iter()
        .map(|(path, important)| Plugin {
            path,
            stage: Stage::AwaitingManifest,
            important,
            manifest: crate::kernel::plugins::manifest::Manifest::default(),
            starter: None,
            at_startup: true,
        })
        .collect())
}
