//! Every method of lightningd: name, parameters in CLN's order, handler. `help` and `check` come
//! from it.

use crate::api::rpc::{
    basics, chain, channels, close, configs, dev, htlcs, invoices, onions, open as open_rpc,
    payments, peers, wallet,
};
use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::sys::args::ArgKind::*;
use crate::sys::args::{Args, Param, may, need};
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller};

/// What runs a method.
pub type Handler = fn(&Node, &mut Turn<'_>, &Args, &Caller) -> Result<Answer, Stop>;

/// One method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// As callers write it.
    pub name: &'static str,
    /// In CLN's order.
    pub params: &'static [Param],
    /// Only with --developer.
    pub developer: bool,
    /// What runs it; `None` for `check` and `help`, which are answered from this table.
    pub run: Option<Handler>,
}

const fn method(name: &'static str, params: &'static [Param], run: Handler) -> Method {
    Method { name, params, developer: false, run: Some(run) }
}

const fn from_table(name: &'static str, params: &'static [Param]) -> Method {
    Method { name, params, developer: false, run: None }
}

/// The table.
pub const METHODS: &[Method] = &[
    from_table("check", &[need("command_to_check", Text)]),
    method(
        "close",
        &[
            need("id", Text),
            may("unilateraltimeout", Number),
            may("destination", Text),
            may("fee_negotiation_step", Any),
            may("wrong_funding", Any),
            may("force_lease_closed", Any),
            may("feerange", Any),
        ],
        close::close,
    ),
    method("connect", &[need("id", Text), may("host", Text), may("port", Number)], peers::connect),
    method(
        "createonion",
        &[
            need("hops", Array),
            need("assocdata", Hex),
            may("session_key", Hash),
            may("onion_size", Number),
        ],
        onions::createonion,
    ),
    method("decode", &[need("string", Text)], basics::decode),
    method(
        "delforward",
        &[need("in_channel", Scid), need("in_htlc_id", Number), need("status", Text)],
        htlcs::delforward,
    ),
    method(
        "delinvoice",
        &[need("label", Text), need("status", Text), may("desconly", Bool)],
        invoices::delinvoice,
    ),
    method(
        "delpay",
        &[
            need("payment_hash", Hash),
            need("status", Text),
            may("partid", Number),
            may("groupid", Number),
        ],
        payments::delpay,
    ),
    Method { name: "dev-counters", params: &[], developer: true, run: Some(basics::counters) },
    Method { name: "dev-fail", params: &[need("id", Text)], developer: true, run: Some(dev::fail) },
    Method {
        name: "dev-sign-last-tx",
        params: &[need("id", Text)],
        developer: true,
        run: Some(dev::sign_last_tx),
    },
    method("disconnect", &[need("id", Node), may("force", Bool)], peers::disconnect),
    method("feerates", &[need("style", Text)], chain::feerates),
    method(
        "fundchannel",
        &[
            need("id", Node),
            need("amount", SatOrAll),
            may("feerate", Feerate),
            may("announce", Bool),
            may("minconf", Number),
            may("utxos", Array),
            may("push_msat", Msat),
            may("close_to", Text),
            may("request_amt", Any),
            may("compact_lease", Any),
            may("mindepth", Number),
            may("reserve", Msat),
            may("channel_type", Array),
        ],
        open_rpc::fundchannel,
    ),
    method("fundchannel_cancel", &[need("id", Node)], open_rpc::cancel_rpc),
    method(
        "fundchannel_complete",
        &[need("id", Node), need("psbt", Text), may("withhold", Bool)],
        open_rpc::complete_rpc,
    ),
    method(
        "fundchannel_start",
        &[
            need("id", Node),
            need("amount", SatOrAll),
            may("feerate", Feerate),
            may("announce", Bool),
            may("close_to", Text),
            may("push_msat", Msat),
            may("mindepth", Number),
            may("reserve", Msat),
            may("channel_type", Array),
        ],
        open_rpc::start,
    ),
    method("getinfo", &[], basics::getinfo),
    method("getlog", &[may("level", Text)], crate::api::rpc::log::getlog),
    from_table("help", &[may("command", Text)]),
    method(
        "invoice",
        &[
            need("amount_msat", MsatOrAny),
            need("label", Text),
            need("description", Text),
            may("expiry", Number),
            may("fallbacks", Array),
            may("preimage", Hash),
            may("exposeprivatechannels", Any),
            may("cltv", Number),
            may("deschashonly", Bool),
        ],
        invoices::invoice,
    ),
    method("listclosedchannels", &[may("id", Node)], channels::listclosedchannels),
    method("listconfigs", &[may("config", Text)], configs::listconfigs),
    method(
        "listforwards",
        &[
            may("status", Text),
            may("in_channel", Scid),
            may("out_channel", Scid),
            may("index", Text),
            may("start", Number),
            may("limit", Number),
        ],
        htlcs::listforwards,
    ),
    method("listfunds", &[may("spent", Bool)], wallet::listfunds),
    method(
        "listhtlcs",
        &[may("id", Text), may("index", Text), may("start", Number), may("limit", Number)],
        htlcs::listhtlcs,
    ),
    method(
        "listinvoices",
        &[
            may("label", Text),
            may("invstring", Text),
            may("payment_hash", Hash),
            may("offer_id", Hash),
            may("index", Text),
            may("start", Number),
            may("limit", Number),
        ],
        invoices::listinvoices,
    ),
    method(
        "listpeerchannels",
        &[may("id", Node), may("short_channel_id", Scid), may("channel_id", Hash)],
        channels::listpeerchannels,
    ),
    method("listpeers", &[may("id", Node), may("level", Text)], peers::listpeers),
    method(
        "listsendpays",
        &[
            may("bolt11", Text),
            may("payment_hash", Hash),
            may("status", Text),
            may("index", Text),
            may("start", Number),
            may("limit", Number),
        ],
        payments::listsendpays,
    ),
    method("listtransactions", &[], chain::listtransactions),
    method("newaddr", &[may("addresstype", Text)], wallet::newaddr),
    method("notifications", &[need("enable", Bool)], basics::notifications),
    method("ping", &[need("id", Node), may("len", Number), may("pongbytes", Number)], peers::ping),
    method(
        "plugin",
        &[
            need("subcommand", Text),
            may("plugin", Text),
            may("directory", Text),
            may("options", Any),
        ],
        crate::api::rpc::plugins::plugin,
    ),
    method(
        "sendonion",
        &[
            need("onion", Hex),
            need("first_hop", Any),
            need("payment_hash", Hash),
            may("label", Text),
            may("shared_secrets", Array),
            may("partid", Number),
            may("bolt11", Text),
            may("amount_msat", Msat),
            may("destination", Node),
            may("localinvreqid", Hash),
            may("groupid", Number),
            may("description", Text),
            may("total_amount_msat", Msat),
        ],
        onions::sendonion,
    ),
    method(
        "sendpay",
        &[
            need("route", Array),
            need("payment_hash", Hash),
            may("label", Text),
            may("amount_msat", Msat),
            may("bolt11", Text),
            may("payment_secret", Hash),
            may("partid", Number),
            may("localinvreqid", Hash),
            may("groupid", Number),
            may("payment_metadata", Hex),
            may("description", Text),
        ],
        payments::sendpay,
    ),
    method(
        "setchannel",
        &[
            need("id", Text),
            may("feebase", Msat),
            may("feeppm", Number),
            may("htlcmin", Msat),
            may("htlcmax", Msat),
            may("enforcedelay", Number),
            may("ignorefeelimits", Bool),
        ],
        |node, turn, args, caller| {
            crate::rooms::channels::setchannel::setchannel(node, turn, args, caller)
        },
    ),
    method("stop", &[], basics::stop),
    method(
        "waitanyinvoice",
        &[may("lastpay_index", Number), may("timeout", Number)],
        invoices::waitanyinvoice,
    ),
    method(
        "waitblockheight",
        &[need("blockheight", Number), may("timeout", Number)],
        chain::waitblockheight,
    ),
    method("waitinvoice", &[need("label", Text)], invoices::waitinvoice),
    method(
        "waitsendpay",
        &[
            need("payment_hash", Hash),
            may("timeout", Number),
            may("partid", Number),
            may("groupid", Number),
        ],
        payments::waitsendpay,
    ),
    method(
        "withdraw",
        &[
            need("destination", Text),
            need("satoshi", SatOrAll),
            may("feerate", Feerate),
            may("minconf", Number),
            may("utxos", Array),
        ],
        wallet::withdraw,
    ),
];

/// The method of this name.
pub fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|m| m.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_order() {
        assert!(METHODS.windows(2).all(|w| w[0].name < w[1].name));
    }
}
