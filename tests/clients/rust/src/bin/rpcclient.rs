//! cln-rpc, unchanged, told on stdin what to call: each request and each answer goes through its
//! types.
//!
//! A line is `{"method": .., "params": {..}}`; what comes back is `{"ok": ..}` or `{"error":
//! {"code": .., "message": ..}}`.

use cln_rpc::{ClnRpc, Request};
use serde_json::{Value, json};
use std::io::BufRead;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let socket = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("which socket?"))?;
    let mut rpc = ClnRpc::new(socket).await?;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        println!("{}", call(&mut rpc, asked).await);
    }
    Ok(())
}

async fn call(rpc: &mut ClnRpc, asked: Value) -> Value {
    let request: Request = match serde_json::from_value(asked) {
        Ok(request) => request,
        Err(e) => {
            return json!({"error": {"code": null, "message": format!("no request of cln-rpc's: {e}")}});
        }
    };
    match rpc.call(request).await {
        // With its method: so it is tagged in cln-rpc.
        Ok(response) => match serde_json::to_value(response) {
            Ok(mut value) => json!({"ok": value["result"].take()}),
            Err(e) => json!({"error": {"code": null, "message": e.to_string()}}),
        },
        Err(e) => json!({"error": {"code": e.code, "message": e.message, "data": e.data}}),
    }
}
