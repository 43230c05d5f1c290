//! `getlog`.

use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError};
use crate::sys::json::put;
use serde_json::{Value, json};

/// A line of the log as `getlog` shows it.
pub fn log_json(line: &crate::sys::log::line_of::Line) -> Value {
    let mut out = json!({
        "type": crate::sys::log::word(line.level).to_uppercase(),
        "time": format!("{}.{:09}", line.at.as_secs(), line.at.subsec_nanos()),
        "source": line.source,
        "log": line.text,
    });
    put(&mut out, "node_id", line.node.map(|n| n.to_string()));
    out
}

/// `getlog [level]`.
pub fn getlog(_: &Node, _: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let word = args.text("level").unwrap_or_else(|| "info".to_owned());
    let level = crate::sys::log::level(&word).ok_or_else(|| {
        RpcError::params("level: should be 'io', 'trace', 'debug', 'info', 'unusual' or 'broken': invalid token (see logs for details)")
    })?;
    let (lines, skipped, bytes) = crate::sys::log::kept(level);
    let mut list = Vec::with_capacity(lines.len() + 1);
    if skipped > 0 {
        list.push(json!({"type": "SKIPPED", "num_skipped": skipped}));
    }
    list.extend(lines.iter().map(log_json));
    Ok(Answer::Now(json!({
        "created_at": format!("{:.9}", crate::sys::log::created_at()),
        "bytes_used": bytes,
        "bytes_max": crate::sys::log::max_bytes(),
        "log": list,
    })))
}
