//! The table of features. BOLT 9, "Assigned features".
//!
//! What we send in each context, which compulsory bits of a peer we understand, dependencies and
//! names are all derived from [`ROWS`]. A feature gets [`Ours::Optional`] together with its code.

use crate::chain::FeatureBit;
use crate::features::Features;

/// Where a feature bit may stand. BOLT 9 has a letter for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// I: `init`.
    Init,
    /// N: `node_announcement`.
    Node,
    /// C: `channel_announcement`.
    Channel,
    /// 9: invoices of BOLT 11.
    Bolt11,
    /// B: `allowed_features` of a blinded path.
    Path,
    /// T: `channel_type`.
    Type,
}

/// How far we go with a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// We send the even bit: we deal with nobody who lacks it.
    Compulsory,
    /// We send the odd bit.
    Optional,
    /// We send no bit, and do as it says where others set it.
    Understood,
    /// We have no code for it: an even bit fails.
    Unsupported,
}

/// One pair of bits.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The even (compulsory) bit.
    pub bit: FeatureBit,
    /// As CLN prints it.
    pub name: &'static str,
    /// Those of BOLT 9; for an assumed feature, those it had before it was assumed.
    pub contexts: &'static [Context],
    /// In each of its contexts.
    pub ours: Ours,
    /// Even bits of the features that it is useless without.
    pub needs: &'static [FeatureBit],
    /// BOLT 9: every node has it, whether its bits say so or not.
    pub assumed: bool,
}

macro_rules! features {
    ($($bit:literal $constant:ident $name:literal [$($context:ident)*] $ours:ident
        [$($needs:ident)*] $assumed:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`, the even bit.")]
            pub const $constant: FeatureBit = $bit;
        )*
        /// Every feature that we have a word for, lowest bit first.
        pub const ROWS: &[Row] = &[$(Row {
            bit: $bit,
            name: $name,
            contexts: &[$(Context::$context),*],
            ours: Ours::$ours,
            needs: &[$($needs),*],
            assumed: $assumed,
        }),*];
    };
}

features! {
    // bit, constant, name, contexts, ours, depends on, assumed
    0  DATA_LOSS_PROTECT       "option_data_loss_protect"       [Init Node]        Compulsory  []                   true;
    4  UPFRONT_SHUTDOWN_SCRIPT "option_upfront_shutdown_script" [Init Node]        Optional    []                   false;
    6  GOSSIP_QUERIES          "option_gossip_queries"          []                 Unsupported []                   false;
    8  VAR_ONION_OPTIN         "option_var_onion_optin"         [Init Node Bolt11] Compulsory  []                   true;
    10 GOSSIP_QUERIES_EX       "option_gossip_queries_ex"       [Init Node]        Unsupported []                   false;
    12 STATIC_REMOTEKEY        "option_static_remotekey"        [Init Node Type]   Compulsory  []                   true;
    14 PAYMENT_SECRET          "option_payment_secret"          [Init Node Bolt11] Compulsory  []                   true;
    16 BASIC_MPP               "option_basic_mpp"               [Init Node Bolt11] Optional    [PAYMENT_SECRET]     false;
    18 LARGE_CHANNELS          "option_support_large_channel"   [Init Node]        Optional    []                   false;
    22 ANCHORS                 "option_anchors"                 [Init Node Type]   Optional    [STATIC_REMOTEKEY]   false;
    24 ROUTE_BLINDING          "option_route_blinding"          [Init Node Bolt11] Unsupported []                   false;
    26 SHUTDOWN_ANYSEGWIT      "option_shutdown_anysegwit"      [Init Node]        Optional    []                   false;
    28 DUAL_FUND               "option_dual_fund"               [Init Node]        Unsupported []                   false;
    34 QUIESCE                 "option_quiesce"                 [Init Node]        Unsupported []                   false;
    36 ATTRIBUTION_DATA        "option_attribution_data"        [Init Node Bolt11] Unsupported []                   false;
    38 ONION_MESSAGES          "option_onion_messages"          [Init Node]        Unsupported []                   false;
    42 PROVIDE_STORAGE         "option_provide_storage"         [Init Node]        Unsupported []                   false;
    44 CHANNEL_TYPE            "option_channel_type"            [Init Node]        Compulsory  []                   true;
    46 SCID_ALIAS              "option_scid_alias"              [Init Node Type]   Optional    []                   false;
    48 PAYMENT_METADATA        "option_payment_metadata"        [Bolt11]           Understood  []                   false;
    50 ZEROCONF                "option_zeroconf"                [Init Node Type]   Unsupported [SCID_ALIAS]         false;
    60 SIMPLE_CLOSE            "option_simple_close"            [Init Node]        Unsupported [SHUTDOWN_ANYSEGWIT] false;
    62 SPLICE                  "option_splice"                  [Init Node]        Unsupported []                   false;
}

fn rows_in(context: Context) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.contexts.contains(&context))
}

/// The row of a pair, named by either bit.
pub fn row(bit: FeatureBit) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.bit == bit & !1)
}

/// Name of a pair as CLN prints it, `None` where we have no word for it.
pub fn name(bit: FeatureBit) -> Option<&'static str> {
    row(bit).map(|row| row.name)
}

/// Name of a pair in a channel type, without `option_`; `None` where it may not stand in one.
pub fn name_in_type(bit: FeatureBit) -> Option<&'static str> {
    let row = row(bit).filter(|row| row.contexts.contains(&Context::Type))?;
    Some(row.name.strip_prefix("option_").unwrap_or(row.name))
}

/// The bits that we send in this context.
pub fn ours(context: Context) -> Features {
    rows_in(context).fold(Features::none(), |sent, row| match row.ours {
        Ours::Compulsory => sent.with(row.bit),
        Ours::Optional => sent.with(row.bit | 1),
        Ours::Understood | Ours::Unsupported => sent,
    })
}

/// Features that another may demand of us in this context, as optional bits.
pub fn understood(context: Context) -> Features {
    let known = rows_in(context).filter(|row| match row.ours {
        Ours::Compulsory | Ours::Optional | Ours::Understood => true,
        Ours::Unsupported => false,
    });
    known.fold(Features::none(), |all, row| all.with(row.bit | 1))
}

/// Compulsory bits that a channel type may have at all. BOLT 2, "Defined Channel Types".
pub fn of_channel_types() -> Features {
    rows_in(Context::Type).fold(Features::none(), |all, row| all.with(row.bit))
}

/// BOLT 9: does every node have this feature, whether it sets a bit for it or not?
pub fn is_assumed(bit: FeatureBit) -> bool {
    row(bit).is_some_and(|row| row.assumed)
}

/// Every assumed feature, as optional bits.
pub fn assumed() -> Features {
    let all = ROWS.iter().filter(|row| row.assumed);
    all.fold(Features::none(), |all, row| all.with(row.bit | 1))
}

/// The first feature of a peer that lacks one that it depends on, and that one. BOLT 9: the
/// sender sets all dependencies; assumed features are never missing.
pub fn missing_dependency(features: &Features) -> Option<(FeatureBit, FeatureBit)> {
    let has = |bit| features.offers(bit) || is_assumed(bit);
    let mut pairs = ROWS.iter().flat_map(|row| row.needs.iter().map(|needs| (row.bit, *needs)));
    pairs.find(|(bit, needs)| has(*bit) && !has(*needs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_rows_are_even_bits_in_order() {
        assert!(ROWS.is_sorted_by(|a, b| a.bit < b.bit));
        assert!(ROWS.iter().all(|row| row.bit % 2 == 0 && row.name.starts_with("option_")));
        assert_eq!((name(23), name(64), name(22)), (Some("option_anchors"), None, name(23)));
        assert_eq!((name_in_type(46), name_in_type(14)), (Some("scid_alias"), None));
    }

    /// The bytes that peers and payers see: they change only with a feature's code.
    #[test]
    fn features_sent_are_those_of_the_vectors() {
        let sent = |context| ours(context).to_string();
        assert_eq!(sent(Context::Init), "9000088a5121");
        assert_eq!(sent(Context::Node), "9000088a5121");
        assert_eq!(sent(Context::Bolt11), "024100");
        assert_eq!((sent(Context::Channel), sent(Context::Path)), (String::new(), String::new()));
    }

    /// BOLT 9, origin node: all transitive dependencies are set.
    #[test]
    fn features_sent_have_their_dependencies() {
        for row in ROWS {
            assert!(row.needs.iter().all(|needs| self::row(*needs).is_some()), "{}", row.name);
        }
        for context in [Context::Init, Context::Node, Context::Bolt11] {
            let sent = ours(context);
            for row in rows_in(context).filter(|row| sent.offers(row.bit)) {
                assert!(row.needs.iter().all(|needs| sent.offers(*needs)), "{}", row.name);
            }
            assert_eq!(missing_dependency(&sent), None);
        }
    }

    #[test]
    fn features_understood_are_those_sent_and_metadata() {
        let bits = |features: Features| features.bits().collect::<Vec<_>>();
        assert_eq!(bits(understood(Context::Bolt11)), [9, 15, 17, 49]);
        let init = understood(Context::Init);
        assert!(ours(Context::Init).bits().all(|bit| init.offers(bit)));
        assert_eq!(init.bits().count(), ours(Context::Init).bits().count());
        assert_eq!(bits(assumed()), [1, 9, 13, 15, 45]);
        assert_eq!(bits(of_channel_types()), [12, 22, 46, 50]);
    }

    #[test]
    fn missing_dependency_is_found_unless_assumed() {
        let alone = |bit: FeatureBit| missing_dependency(&Features::none().with(bit));
        assert_eq!(alone(ZEROCONF), Some((ZEROCONF, SCID_ALIAS)));
        assert_eq!(alone(SIMPLE_CLOSE | 1), Some((SIMPLE_CLOSE, SHUTDOWN_ANYSEGWIT)));
        assert_eq!((alone(BASIC_MPP), alone(ANCHORS), alone(1000)), (None, None, None));
    }
}
