//! The loop: gather what is ready, run a turn over it, deliver what it said.

use crate::kernel::children::Role;
use crate::kernel::plugins::Plugin;
use crate::kernel::turn;
use crate::kernel::turn::Outbox;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::Stage;
use crate::node::Node;
use crate::sys::backoff::Backoff;
use crate::sys::children::{ChildId, ChildSpec, PluginId};
use crate::sys::disk::{Disk, Space};
use crate::sys::executables::Executables;
use crate::sys::fatal::Fatal;
use crate::sys::form::Caller;
use crate::sys::hsm::HsmClient;
use crate::sys::kennel::Kennel;
use crate::sys::nursery::{ChildHeard, Nursery};
use crate::sys::revocation_log::RevocationLog;
use crate::sys::socket::RpcServer;
use crate::sys::tokens::{CHILD_BASE, LISTENER, PLUGIN_BASE, RPC_BASE, SIGNALS};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};
use subdaemon::barrier;
use wire::daemon::LogLevel;

/// A turn may write this many pages before the WAL is worked off beside the loop.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// How often a full disk is looked at while nothing happens.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);
/// How often the log learns whose lines are whose, and says what it left out.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// Between the failure to start a child and its room hearing of that. Any child that can be started
/// ends the series.
const SPAWN_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(100), Duration::from_secs(10), Duration::ZERO);

/// Everything with a descriptor.
pub struct Io {
    poll: Poll,
    signals: SignalFd,
    /// The children's processes.
    pub nursery: Nursery,
    kennel: Kennel,
    rpc: RpcServer,
    executables: Executables,
    db: Connection,
    revocations: RevocationLog,
    hsm: HsmClient,
    timers: BTreeMap<(Instant, u64), Event>,
    next_timer: u64,
    again: BTreeSet<Token>,
    /// Children that are not read while the disk is full.
    muted: BTreeSet<Token>,
    disk: Disk,
    /// --dev-database-pages, once a test says that there is little room; 0 for no limit.
    database_pages: u32,
    tidied: Instant,
    queue: Vec<Event>,
    checkpointed: Instant,
    /// The end was asked for, by these callers.
    stop: Option<Vec<Caller>>,
    /// Children that could not be started, since the last one that could be.
    unborn: Backoff,
    exit_after: Option<Instant>,
}

impl Io {
    /// From what start-up made. Signals are read here from now on, and nowhere else.
    pub fn new(
        db: Connection,
        revocations: RevocationLog,
        hsm: HsmClient,
        nursery: Nursery,
        executables: Executables,
        poll: Poll,
        disk: Disk,
    ) -> Result<Self, Fatal> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
            mask.add(signal);
        }
        mask.thread_block().map_err(|e| Fatal(format!("signals: {e}")))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|e| Fatal(format!("signalfd: {e}")))?;
        poll.registry()
            .register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)
            .map_err(|e| Fatal(format!("poll: {e}")))?;
        Ok(Self {
            poll,
            signals,
            nursery,
            kennel: Kennel::default(),
            rpc: RpcServer::default(),
            executables,
            db,
            revocations,
            hsm,
            timers: BTreeMap::new(),
            next_timer: 0,
            again: BTreeSet::new(),
            muted: BTreeSet::new(),
            disk,
            database_pages: 0,
            tidied: Instant::now(),
            queue: Vec::new(),
            checkpointed: Instant::now(),
            stop: None,
            unborn: SPAWN_BACKOFF,
            exit_after: None,
        })
    }

    /// How our own plugins, which these are, go into their boxes.
    pub fn box_plugins(
        &mut self,
        mode: sandbox::Mode,
        ours: impl IntoIterator<Item = std::path::PathBuf>,
    ) {
        self.kennel.box_ours(mode, ours);
    }

    /// --dev-save-plugin-io.
    pub fn save_plugin_io(&mut self, dir: &Path) {
        self.kennel.save_io_in(dir);
    }

    /// --dev-database-pages.
    pub const fn limit_database_to(&mut self, pages: u32) {
        self.database_pages = pages;
    }

    /// --dev-crash-after.
    pub fn crash_at(&mut self, when: Option<Instant>) {
        self.exit_after = when;
    }

    /// Runs until the node is to end. The caller that asked for it is answered last.
    pub fn run(&mut self, node: &mut Node) -> Result<(), Fatal> {
        let mut ready = Events::with_capacity(256);
        while self.stop.is_none() {
            let timeout = if self.queue.is_empty() && self.again.is_empty() {
                self.next_timeout(node)
            } else {
                Some(Duration::ZERO)
            };
            match self.poll.poll(&mut ready, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Fatal(format!("poll: {e}"))),
            }
            self.look_at_disk(node);
            let mut tokens: BTreeSet<Token> = std::mem::take(&mut self.again);
            for event in &ready {
                if event.is_writable() {
                    self.writable(event.token());
                }
                tokens.insert(event.token());
            }
            for token in tokens {
                self.gather(node, token)?;
            }
            self.gather_timers(node);
            self.queue.extend(self.rpc.take_gone().into_iter().map(Event::RpcGone));
            let events = std::mem::take(&mut self.queue);
            if !events.is_empty() {
                let outbox = self.turn(node, events)?;
                self.deliver(node, outbox)?;
            }
            self.checkpoint_if_due();
        }
        Ok(())
    }

    /// One turn, and what follows its commit before anything is said.
    fn turn(&mut self, node: &mut Node, events: Vec<Event>) -> Result<Outbox, Fatal> {
        let events = (events, node.space != Space::Exhausted);
        let (outbox, wrote) =
            turn::run(node, &self.db, &mut self.hsm, events, crate::dispatch::handle)?;
        node.counters.turns += 1;
        if wrote {
            crate::sys::barriers::committed(&node.config, &self.db);
            // A commit of nothing writes nothing: only these reach the disk.
            node.counters.commits += 1;
            if let ms @ 1.. = node.config.options.dev_commit_delay {
                std::thread::sleep(Duration::from_millis(ms.into()));
            }
        }
        Ok(outbox)
    }

    /// Ends every other process at once, and leaves the rest as a crash would. Clients hear no
    /// more.
    pub fn abandon(&mut self) {
        self.rpc = RpcServer::default();
        self.kennel.end_all();
        self.nursery.end_all();
    }

    /// Ends everything in order. The caller's answer is the very last thing.
    pub fn end(mut self, remove_files: impl FnOnce()) {
        self.kennel.end_all();
        self.nursery.end_all();
        let closed = self.db.close();
        if let Err((_, e)) = closed {
            log::error!("closing the database: {e}");
        }
        remove_files();
        log::info!("JSON-RPC shutdown");
        for caller in self.stop.unwrap_or_default() {
            self.rpc.last_word(&caller, &"Shutdown complete".into());
        }
    }

    fn next_timeout(&self, node: &Node) -> Option<Duration> {
        let next = self.timers.keys().next().map(|(at, _)| *at);
        // Nobody says when there is room again.
        let look = (node.space == Space::Exhausted).then(|| Instant::now() + LOOK_FOR_ROOM);
        let retry = self.nursery.next_retry();
        let next = [next, look, retry, self.exit_after, node.waits.next_due()];
        let next = next.into_iter().flatten().min();
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn gather_timers(&mut self, node: &Node) {
        let now = Instant::now();
        if self.exit_after.is_some_and(|at| at <= now) {
            std::process::abort();
        }
        self.nursery.retry(now, self.poll.registry(), CHILD_BASE);
        while let Some(entry) = self.timers.first_entry().filter(|e| e.key().0 <= now) {
            self.queue.push(entry.remove());
        }
        self.queue.extend(node.waits.due(now).map(Event::RpcTimeout));
    }

    fn writable(&mut self, token: Token) {
        let registry = self.poll.registry();
        match token.0 {
            n if n >= PLUGIN_BASE => self.kennel.flush(Kennel::plugin_of(token, PLUGIN_BASE)),
            n if n >= CHILD_BASE => {
                self.nursery.flush(Nursery::child_of(token, CHILD_BASE), registry, CHILD_BASE)
            }
            n if n >= RPC_BASE => self.rpc.flush(token),
            _ => {}
        }
    }

    fn gather(&mut self, node: &Node, token: Token) -> Result<(), Fatal> {
        match token.0 {
            n if n >= PLUGIN_BASE => {
                self.gather_plugin(Kennel::plugin_of(token, PLUGIN_BASE), token)
            }
            n if n >= CHILD_BASE => {
                let child = Nursery::child_of(token, CHILD_BASE);
                if self.is_muted(node, child) {
                    self.muted.insert(token);
                } else {
                    self.gather_child(child, token);
                }
            }
            _ if token == SIGNALS => return self.gather_signals(),
            _ if token == LISTENER => self.rpc.accept(self.poll.registry()),
            _ => {
                let mut asked = Vec::new();
                if self.rpc.read(token, &mut asked) {
                    self.again.insert(token);
                }
                let asked = asked.into_iter().map(|(caller, request)| Event::Rpc(caller, request));
                self.queue.extend(asked);
            }
        }
        Ok(())
    }

    /// While there is no room to store what it wants, no daemon that speaks for a peer is heard: it
    /// waits, and with it its peer. One that ends is: what follows from that is the chain's
    /// business.
    fn is_muted(&self, node: &Node, child: ChildId) -> bool {
        let waits = match node.supervisor.role(child) {
            Some(Role::Connectd | Role::Opening(_) | Role::Channel(_) | Role::Closing(_)) => true,
            Some(Role::Hsmd | Role::Onchain(_)) | None => false,
        };
        waits && node.space == Space::Exhausted && !self.nursery.is_ending(child)
    }

    /// Looks how much room there is, from time to time, and hears whoever may be heard again.
    fn look_at_disk(&mut self, node: &mut Node) {
        let now = Instant::now();
        if self.disk.look(now) {
            node.space = self.disk.space();
            self.limit_database();
            node.space_warning = self.disk.warning();
        }
        for token in std::mem::take(&mut self.muted) {
            if self.is_muted(node, Nursery::child_of(token, CHILD_BASE)) {
                self.muted.insert(token);
            } else {
                self.again.insert(token);
            }
        }
        if now >= self.tidied + TIDY_EVERY {
            self.tidied = now;
            let friends = node.channels.funded_peers();
            if node.peers.is_news_to_connectd(&friends) {
                self.queue.push(Event::TellFundedPeers);
            }
            crate::sys::log::set_friends(friends);
            crate::sys::log::sum_up();
        }
    }

    fn limit_database(&self) {
        if let pages @ 1.. = self.database_pages
            && let Err(e) = self.db.pragma_update(None, "max_page_count", pages)
        {
            log::error!("--dev-database-pages={pages}: {e}");
        }
    }

    fn gather_child(&mut self, id: ChildId, token: Token) {
        let mut heard = Vec::new();
        if self.nursery.read(id, token, CHILD_BASE, &mut heard) {
            self.again.insert(token);
        }
        for h in heard {
            self.queue.push(match h {
                ChildHeard::Frame(frame) => {
                    if !subdaemon::is_log(&frame.body) {
                        barrier::pass("after a word of a child's");
                    }
                    Event::Child(id, frame)
                }
                ChildHeard::Gone => Event::ChildGone(id),
            });
        }
    }

    fn gather_plugin(&mut self, id: PluginId, token: Token) {
        if let Some(more) = self.kennel.read_stderr(id, token, PLUGIN_BASE) {
            self.again.extend(more.then_some(token));
            return;
        }
        let mut heard = Vec::new();
        let more = self.kennel.read(id, &mut heard);
        self.queue.extend(heard.into_iter().map(|m| Event::Plugin(id, m)));
        match more {
            Ok(true) => {
                self.again.insert(token);
            }
            Ok(false) => {}
            Err(why) => {
                self.kennel.bury(id);
                self.queue.push(Event::PluginGone(id, why));
            }
        }
    }

    fn gather_signals(&mut self) -> Result<(), Fatal> {
        loop {
            match self.signals.read_signal() {
                Ok(Some(info)) => match Signal::try_from(info.ssi_signo as i32) {
                    Ok(Signal::SIGCHLD) => self.nursery.reap(),
                    Ok(Signal::SIGHUP) => crate::sys::log::reopen_files(),
                    _ => self.queue.push(Event::Shutdown(None)),
                },
                Ok(None) | Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Fatal(format!("signalfd: {e}"))),
            }
        }
    }

    fn deliver(&mut self, node: &mut Node, outbox: Outbox) -> Result<(), Fatal> {
        for what in outbox.0 {
            self.deliver_one(node, what)?;
        }
        Ok(())
    }

    fn deliver_one(&mut self, node: &mut Node, what: Outgoing) -> Result<(), Fatal> {
        let registry = self.poll.registry();
        let passes = barrier::is_on() && what.has_barriers();
        if passes {
            barrier::pass("before a word");
        }
        match what {
            Outgoing::Reply { caller, result } => self.rpc.reply(&caller, &result),
            Outgoing::Notify { caller, level, text } => self.rpc.notify(&caller, level, &text),
            Outgoing::News(news) => {
                for (plugin, json) in crate::api::notifications::deliver(&node.plugins, &news) {
                    self.kennel.send(plugin, &json);
                }
            }
            Outgoing::Spawn(spec) => {
                node.counters.births += 1;
                self.spawn(spec);
            }
            Outgoing::Order { child, body, fds } => {
                self.nursery.send(child, false, &body, fds, registry, CHILD_BASE)
            }
            Outgoing::Revoked { channel, count } => self.revocations.raise(channel, count)?,
            Outgoing::Reserved { last } => self.revocations.reserve(last)?,
            Outgoing::Forgotten { channel } => self.revocations.forget(channel),
            Outgoing::OrderHsmd(order) => self.hsm.order(&order)?,
            Outgoing::Answer { child, body } => {
                self.nursery.send(child, true, &body, vec![], registry, CHILD_BASE)
            }
            Outgoing::Kill { child, why } => self.nursery.kill(child, &why),
            Outgoing::ToPlugin { plugin, json } => self.kennel.send(plugin, &json),
            Outgoing::KillPlugin { plugin, why } => self.kennel.kill(plugin, &why),
            Outgoing::StartPlugin { path, starter } => self.start_plugin(node, path, starter),
            Outgoing::Then(event) => self.queue.push(event),
            Outgoing::At(when, event) => {
                self.next_timer += 1;
                self.timers.insert((when, self.next_timer), event);
            }
            Outgoing::OpenRpc => {
                let mode = node.config.options.rpc_file_mode;
                self.rpc.open(Path::new(&node.rpc_file()), mode, registry)?;
            }
            Outgoing::ShutDown(caller) => self.stop.get_or_insert_default().extend(caller),
        }
        if passes {
            barrier::pass("after a word");
        }
        Ok(())
    }

    /// Starts a child. One that cannot be started is one that died: its room hears so, after a
    /// pause that grows while nothing can be started. Whoever has used up the machine's processes
    /// or descriptors shall not end the node with that.
    fn spawn(&mut self, spec: ChildSpec) {
        let (id, node, source) = (spec.id, spec.node, spec.source.clone());
        let born = self.nursery.spawn(spec, &self.executables, self.poll.registry(), CHILD_BASE);
        let now = Instant::now();
        let Err(why) = born else { return self.unborn.begin(now) };
        let pause = self.unborn.fail(now);
        let text = format!("not started, {} in a row: {why}", self.unborn.failures());
        crate::sys::log::line(LogLevel::Broken, node, &source, &text);
        self.next_timer += 1;
        self.timers.insert((now + pause, self.next_timer), Event::ChildGone(id));
    }

    fn start_plugin(&mut self, node: &mut Node, path: std::path::PathBuf, starter: Option<Caller>) {
        let id = node.plugins.next_id();
        let plugin = Plugin {
            path: path.clone(),
            stage: Stage::AwaitingManifest,
            important: false,
            manifest: crate::kernel::plugins::manifest::Manifest::default(),
            starter,
            at_startup: false,
        };
        self.spawn_plugin(node, id, plugin);
    }

    /// Starts a plugin's process; its manifest is asked for in the next turn.
    pub fn spawn_plugin(&mut self, node: &mut Node, id: PluginId, plugin: Plugin) {
        let path = plugin.path.clone();
        node.plugins.born(id, plugin);
        let developer = node.config.developer();
        let version = crate::sys::version::version();
        let registry = self.poll.registry();
        let rpc = self.kennel.is_caller(&path).then(|| self.rpc.connect_plugin(registry));
        let born = rpc.transpose().and_then(|rpc| {
            let how = (developer, version.as_str());
            self.kennel.spawn(id, &path, rpc, how, registry, PLUGIN_BASE)
        });
        match born {
            Ok(()) => self.queue.push(Event::PluginBorn(id)),
            Err(e) => self
                .queue
                .push(Event::PluginGone(id, format!("{} cannot be started: {e}", path.display()))),
        }
    }

    fn checkpoint_if_due(&mut self) {
        if self.checkpointed.elapsed() > CHECKPOINT_EVERY {
            self.checkpointed = Instant::now();
            crate::sys::db::checkpoint(&self.db);
        }
    }
}
