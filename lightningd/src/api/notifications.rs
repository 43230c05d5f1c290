//! Notifications: the table of topics. A new topic is a row of `News` and a row here.

use crate::kernel::plugins::PluginHost;
use crate::kernel::words::news::News;
use crate::kernel::words::rooms::Stage;
use crate::rooms::peers::view::{address_json, direction};
use crate::sys::children::PluginId;
use crate::sys::json::hex;
use serde_json::{Value, json};

/// The topic that plugins subscribe to.
const fn topic(news: &News) -> &'static str {
    match news {
        News::Connected { .. } => "connect",
        News::InvoicePaid { .. } => "invoice_payment",
    }
}

/// What is inside the object of the topic's name.
fn body(news: &News) -> Value {
    match news {
        News::Connected { peer, direction: way, address } => json!({
            "id": peer.to_string(),
            "direction": direction(*way),
            "address": address_json(address),
        }),
        News::InvoicePaid { label, preimage, received } => {
            json!({"label": label, "preimage": hex(&preimage.0), "msat": received.0})
        }
    }
}

/// What is written to whom. The JSON is made only where some plugin has subscribed to the topic, or
/// to `*`.
pub fn deliver(plugins: &PluginHost, news: &News) -> Vec<(PluginId, String)> {
    let topic = topic(news);
    let wants = |list: &[String]| list.iter().any(|t| t == topic || t == "*");
    let listens = plugins
        .plugins
        .iter()
        .filter(|(_, p)| p.stage == Stage::Active && wants(&p.manifest.subscriptions));
    let mut listeners = listens.map(|(id, _)| *id).peekable();
    if listeners.peek().is_none() {
        return Vec::new();
    }
    let json =
        json!({"jsonrpc": "2.0", "method": topic, "params": {topic: body(news)}}).to_string();
    listeners.map(|id| (id, json.clone())).collect()
}
