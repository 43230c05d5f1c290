//! Plugins: CLN's protocol over stdin/stdout. Here: manifest, init, options, methods, log; the
//! backend is one of them.
//!
//! Like the supervisor in two halves: [`PluginHost`] is what the node knows, [`Kennel`] holds the
//! processes.

pub mod backend;
pub mod calls;
pub mod heard;
pub mod hooks;
pub mod life;
pub mod manifest;
pub mod view;

use crate::kernel::plugins::manifest::Manifest;
use crate::kernel::words::hooks::HookPoint;
use crate::kernel::words::rooms::Stage;
use crate::sys::children::PluginId;

use crate::kernel::words::rooms::Purpose;
use crate::sys::form::Caller;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A plugin that lives.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its executable.
    pub path: PathBuf,
    /// How far it is.
    pub stage: Stage,
    /// Does the node end with it?
    pub important: bool,
    /// What it said it is.
    pub manifest: Manifest,
    /// Who waits for `plugin start`.
    pub starter: Option<Caller>,
    /// Was it started with the node?
    pub at_startup: bool,
}

impl Plugin {
    /// Its short name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// What a call to a plugin is for.
#[derive(Debug, Clone)]
pub enum CallFor {
    /// The answer to `getmanifest`.
    Manifest,
    /// Its beginning.
    Init,
    /// A client of the socket.
    Rpc(Caller),
    /// The chain room.
    Backend(Purpose),
    /// A hook point.
    Hook(HookPoint),
}

/// A call under way.
#[derive(Debug, Clone)]
pub struct Call {
    plugin: PluginId,
    purpose: CallFor,
}

/// A hook point that a plugin is being asked about.
#[derive(Debug, Clone)]
pub struct OpenHook {
    /// Who is being asked.
    pub plugin: PluginId,
    /// Who is asked after that, in order.
    pub rest: Vec<PluginId>,
    /// What those asked before changed of the question.
    pub changed: Option<Vec<u8>>,
}

/// What the node knows of its plugins.
#[derive(Debug, Default)]
pub struct PluginHost {
    next_plugin: Cell<PluginId>,
    next_call: Cell<u64>,
    /// Those that live.
    pub plugins: BTreeMap<PluginId, Plugin>,
    calls: BTreeMap<String, Call>,
    /// Hook points that a plugin is being asked about.
    pub open_hooks: BTreeMap<HookPoint, OpenHook>,
    /// Hooks that plugins can be asked at.
    pub own_hooks: BTreeSet<&'static str>,
    /// Methods of lightningd's own: no plugin may have one of these names.
    pub own_methods: BTreeSet<&'static str>,
    /// True once the first ones are at work.
    pub started: bool,
}

/// The methods of a Bitcoin backend; each must be covered by exactly one plugin.
pub const BACKEND_METHODS: [&str; 5] =
    ["getchaininfo", "estimatefees", "getrawblockbyheight", "sendrawtransaction", "getutxout"];

impl PluginHost {
    /// No plugin yet. `own_methods`: names that none may take. `own_hooks`: those that they can be
    /// asked at.
    pub fn new(
        own_methods: impl Iterator<Item = &'static str>,
        own_hooks: impl Iterator<Item = &'static str>,
    ) -> Self {
        let (own_methods, own_hooks) = (own_methods.collect(), own_hooks.collect());
        Self { own_methods, own_hooks, ..Self::default() }
    }
    /// A number nobody had.
    pub fn next_id(&self) -> PluginId {
        self.next_plugin.set(self.next_plugin.get() + 1);
        self.next_plugin.get()
    }
    /// The active plugin with this method.
    pub fn owner_of(&self, method: &str) -> Option<(PluginId, &Plugin)> {
        let owns = |p: &Plugin| p.manifest.methods.iter().any(|m| m.name == method);
        self.plugins.iter().find(|(_, p)| owns(p)).map(|(id, p)| (*id, p))
    }
    /// The options of all plugins: their names, each with whether it takes a value.
    pub fn options(&self) -> BTreeMap<String, bool> {
        let all = self.plugins.values().flat_map(|p| &p.manifest.options);
        all.map(|option| (option.name.clone(), option.kind != "flag")).collect()
    }
    pub fn call_id(&self, prefix: Option<&str>, method: &str) -> String {
        let n = self.next_call.get();
        self.next_call.set(n + 1);
        match prefix {
            Some(p) => format!("{p}/cln:{method}#{n}"),
            None => format!("cln:{method}#{n}"),
        }
    }
    /// A plugin was born.
    pub fn born(&mut self, id: PluginId, plugin: Plugin) {
        self.plugins.insert(id, plugin);
    }
}
