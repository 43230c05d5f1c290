//! Three nodes in a line that live through many points, one of which is under test: its processes
//! die, and what must be started again is.

use super::hang_up::HangUp;
use super::{Barriers, Counts, Mode};
use crate::{Line, Node, PATIENCE, Scratch};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// One of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Pays.
    L1,
    /// Forwards.
    L2,
    /// Is paid.
    L3,
}

impl Who {
    /// All three.
    pub const ALL: [Self; 3] = [Self::L1, Self::L2, Self::L3];
    /// Its place in the line.
    pub const fn index(self) -> usize {
        match self {
            Self::L1 => 0,
            Self::L2 => 1,
            Self::L3 => 2,
        }
    }
    /// The folder of this node in the scratch folder, and the start of its log lines.
    pub const fn name(self) -> &'static str {
        ["l1", "l2", "l3"][self.index()]
    }
}

/// What shall happen to the node under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// Nothing: how many barriers does each process pass?
    Count,
    /// This process is killed at the n-th barrier that it passes. `#N` in its name is the number of
    /// the scenario's channel.
    Kill(String, u64),
    /// The same, and it only stops there until its node's peers have hung up.
    HangUp(String, u64),
    /// Each commit is followed by a copy of the database, which is put back later.
    Copy,
}

/// The line, and the death that is waiting.
pub struct World {
    /// The three nodes on their chain.
    pub line: Line,
    /// Whose processes die.
    pub target: Who,
    /// How.
    pub aim: Aim,
    barriers: [Barriers; 3],
    /// The armed process's full name.
    armed: Option<String>,
    hang_up: Option<HangUp>,
    /// Is not there, and not missed.
    pub absent: Option<Who>,
    /// Where it died, if it did.
    pub died_at: Option<String>,
    before: Counts,
    /// How many barriers each process passed in the scenario that finished last.
    pub counts: Counts,
    channel: u64,
    logs: [u64; 3],
    /// How often connectd died since the node was started.
    deaths: u64,
    folder: PathBuf,
    looked: Instant,
    /// Told apart by their labels.
    serial: u64,
    /// How many copies of the database the scenario that finished last left behind.
    pub copies: u64,
}

/// Does this channel take payments, as its node has it?
fn is_live(view: &Value) -> bool {
    view["state"] == "CHANNELD_NORMAL" && view["reestablished"] == true
}

impl World {
    /// A new line in a folder of its own.
    pub fn new(target: Who, mode: Mode) -> Self {
        let scratch = Scratch::new();
        let folder = scratch.path().to_path_buf();
        let barriers =
            Who::ALL.map(|w| Barriers::new(&scratch.path().join(format!("{}-barriers", w.name()))));
        if mode == Mode::Orphans {
            barriers[target.index()].let_orphans_live();
        }
        let with = barriers.clone().map(|b| [b.option(), "--dev-bitcoind-poll=0".to_owned()]);
        let with: [Vec<&str>; 3] =
            [0, 1, 2].map(|n: usize| with[n].iter().map(String::as_str).collect());
        let mut line = Line::within(scratch.path(), [&with[0], &with[1], &with[2]]);
        line.scratch = Some(scratch);
        Self {
            line,
            target,
            aim: Aim::Count,
            barriers,
            armed: None,
            hang_up: None,
            absent: None,
            died_at: None,
            before: Counts::new(),
            counts: Counts::new(),
            channel: 0,
            logs: [0; 3],
            deaths: 0,
            folder,
            looked: Instant::now(),
            serial: 0,
            copies: 0,
        }
    }
    /// One of the nodes.
    pub fn node(&self, who: Who) -> &Node {
        match who {
            Who::L1 => &self.line.l1,
            Who::L2 => &self.line.l2,
            Who::L3 => &self.line.l3,
        }
    }
    /// A name that nothing had before.
    pub fn label(&mut self, what: &str) -> String {
        format!("{what}-{}", self.serial())
    }
    /// A number that was not used before.
    pub const fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
    fn mine(&self) -> &Barriers {
        &self.barriers[self.target.index()]
    }
    /// The barriers of the node under test.
    pub fn barriers(&self) -> &Barriers {
        self.mine()
    }

    /// From here on barriers count, and the log is read. `channel` is the number, at the node under
    /// test, of the channel that the scenario is about.
    pub fn begin(&mut self, channel: u64) {
        self.rest();
        self.channel = channel;
        self.logs = Who::ALL.map(|w| self.node(w).log_size());
        self.before = self.mine().counts();
        self.armed = None;
        self.died_at = None;
        if let Aim::Kill(process, number) | Aim::HangUp(process, number) = &self.aim {
            let process = process.replace("#N", &format!("#{channel}"));
            let at = self.before.get(&process).copied().unwrap_or(0) + number;
            if matches!(self.aim, Aim::HangUp(..)) {
                self.mine().arm_to_stop(&process, at);
                let id = self.node(self.target).id.clone();
                let peers = Who::ALL.into_iter().filter(|who| *who != self.target);
                let peers = peers.map(|who| self.node(who).network_dir().join("lightning-rpc"));
                let barriers = self.mine().clone();
                let hang_up = HangUp::begin(barriers, process.clone(), id, peers.collect());
                self.hang_up = Some(hang_up);
            } else {
                self.mine().arm(&process, at);
            }
            self.armed = Some(process);
        }
        if self.aim == Aim::Copy {
            self.mine().begin_copies(&self.node(self.target).network_dir());
        }
    }
    /// A node whose connectd dies often gives up, and says so: this one is started anew before
    /// that.
    fn rest(&mut self) {
        self.deaths += u64::from(self.aim_is_at("connectd"));
        if self.deaths > 3 {
            self.deaths = 0;
            self.node(self.target).kill();
            self.pump();
            let both = [
                (self.line.first.clone(), [Who::L1, Who::L2]),
                (self.line.second.clone(), [Who::L2, Who::L3]),
            ];
            for (id, ends) in both {
                self.wait("a channel to be back", |w| {
                    let is_back = |who: &Who| is_live(&w.channel(*who, &id));
                    ends.iter().all(is_back).then_some(())
                });
            }
        }
    }
    /// How many barriers were passed since [`World::begin`].
    fn counted(&self) -> Counts {
        let mine = format!("#{}", self.channel);
        let since = |(name, count): (String, u64)| {
            let count = count - self.before.get(&name).copied().unwrap_or(0);
            let name = match name.strip_suffix(&mine) {
                Some(head) => format!("{head}#N"),
                None => name,
            };
            (count > 0).then_some((name, count))
        };
        self.mine().counts().into_iter().filter_map(since).collect()
    }
    /// Nothing dies any more. Where did it?
    pub fn finish(&mut self) {
        self.counts = self.counted();
        self.copies = self.mine().end_copies();
        let Some(process) = self.armed.take() else { return };
        self.mine().disarm(&process);
        self.hang_up = None;
        self.died_at = self.mine().place(&process);
        self.mine().arm(&process, 0);
        // It may have died since it was looked at.
        self.pump();
    }

    /// Where it died, while it is still armed.
    pub fn armed_place(&self) -> Option<String> {
        self.mine().place(self.armed.as_ref()?)
    }
    /// Ends everything, and leaves the folder for somebody who looks.
    pub fn keep(&mut self) -> PathBuf {
        let path = self.folder.clone();
        self.hang_up = None;
        for who in Who::ALL {
            if !self.node(who).is_dead() {
                self.node(who).kill();
            }
        }
        self.line.bitcoind.kill();
        std::mem::forget(self.line.scratch.take());
        path
    }

    /// What died is started again, and who lost the other calls it.
    pub fn pump(&mut self) {
        let node = self.node(self.target);
        if node.is_dead() {
            node.spawn_again();
        }
        if self.looked.elapsed() < Duration::from_millis(60) {
            return;
        }
        self.looked = Instant::now();
        let line = &self.line;
        for (from, to) in [(&line.l1, &line.l2), (&line.l2, &line.l3)] {
            if from.is_dead() || to.is_dead() {
                continue;
            }
            let Ok(list) = from.call("listpeers", &json!({"id": to.id})) else { continue };
            if list["peers"][0]["connected"] != true {
                let at = json!({"id": to.id, "host": "127.0.0.1", "port": to.port});
                let _ = from.call("connect", &at);
            }
        }
    }
    /// Waits like [`crate::wait_for`], and keeps the node under test alive.
    pub fn wait<T>(&mut self, what: &str, mut ask: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
            self.pump();
        }
    }
    /// Everybody is at the chain's tip.
    pub fn sync(&mut self) {
        let height = self.line.bitcoind.height();
        self.wait("everybody to be in sync", |w| {
            Who::ALL
                .iter()
                .filter(|who| w.absent != Some(**who))
                .all(|who| {
                    w.node(*who).call("getinfo", &json!({})).is_ok_and(|info| {
                        info["blockheight"] == height
                            && info.get("warning_lightningd_sync").is_none()
                            && info.get("warning_bitcoind_sync").is_none()
                    })
                })
                .then_some(())
        });
    }

    /// The channel as this node has it; null if it cannot say.
    pub fn channel(&self, who: Who, id: &str) -> Value {
        let list = self.node(who).call("listpeerchannels", &json!({"channel_id": id}));
        list.map_or(Value::Null, |l| l["channels"].get(0).cloned().unwrap_or(Value::Null))
    }
    /// What both ends of a channel have once nothing is under way, in msat: they agree.
    pub fn settled(&mut self, id: &str, [a, b]: [Who; 2]) -> [u64; 2] {
        self.wait("a channel to settle", |w| {
            let views = [w.channel(a, id), w.channel(b, id)];
            for view in &views {
                if !is_live(view) || !view["htlcs"].as_array()?.is_empty() {
                    return None;
                }
            }
            let [x, y] = [0, 1].map(|n: usize| views[n]["to_us_msat"].as_u64());
            let whole = views[0]["total_msat"].as_u64()?;
            (x? + y? == whole).then_some([x?, y?])
        })
    }
    /// What was logged since the scenario began must be no complaint about ourselves.
    pub fn check_logs(&self) {
        self.check_logs_but(&[]);
    }
    /// The same where the node under test may say these.
    pub fn check_logs_but(&self, known: &[&str]) {
        for who in Who::ALL {
            let log = self.node(who).log_from(self.logs[who.index()]);
            for line in log.lines().filter(|l| l.contains("**BROKEN**")) {
                let is_known = who == self.target && known.iter().any(|k| line.contains(k));
                assert!(is_known || self.is_expected(who, line), "{} logged: {line}", who.name());
            }
        }
    }
    /// The target's database is again what it was after the n-th commit of the scenario.
    pub fn put_back(&mut self, number: u64) {
        let node = self.node(self.target);
        node.kill();
        self.mine().put_back(number, &node.network_dir());
        let logs = Who::ALL.map(|w| self.node(w).log_size());
        node.start_again();
        self.logs = logs;
    }
    /// True in a sweep that keeps the database as it is at each commit.
    pub fn copies_are_taken(&self) -> bool {
        self.aim == Aim::Copy
    }
    /// hsmd's death is the end of its node, which says so; nobody else is missed aloud.
    fn is_expected(&self, who: Who, line: &str) -> bool {
        who == self.target
            && ((self.aim_is_at("hsmd") && line.contains("hsmd"))
                || (self.aim_is_at("connectd") && line.contains("connectd is gone"))
                || (self.aim_is_at("onchaind") && line.contains(" onchain: onchaind of channel ")))
    }
    fn aim_is_at(&self, process: &str) -> bool {
        let is = |aimed: &str| aimed.split("-chan#").next() == Some(process);
        matches!(&self.aim, Aim::Kill(aimed, _) if is(aimed))
    }
}
