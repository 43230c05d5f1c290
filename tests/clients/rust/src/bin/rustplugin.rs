//! A plugin as cln-plugin's users write them: options of each kind, a method, and a call of its own
//! to the node through cln-rpc.

use cln_plugin::options::{
    DefaultBooleanConfigOption, DefaultStringConfigOption, FlagConfigOption, IntegerConfigOption,
    StringArrayConfigOption,
};
use cln_plugin::{Builder, Plugin};
use cln_rpc::ClnRpc;
use cln_rpc::model::requests::GetinfoRequest;
use serde_json::{Value, json};
use std::path::Path;

const GREETING: DefaultStringConfigOption =
    DefaultStringConfigOption::new_str_with_default("rust-greeting", "Hello", "what to say");
const TIMES: IntegerConfigOption =
    IntegerConfigOption::new_i64_no_default("rust-times", "how often");
const POLITE: DefaultBooleanConfigOption = DefaultBooleanConfigOption::new_bool_with_default(
    "rust-polite",
    true,
    "with or without please",
);
const LOUD: FlagConfigOption = FlagConfigOption::new_flag("rust-loud", "in capitals");
const GUESTS: StringArrayConfigOption =
    StringArrayConfigOption::new_str_arr_no_default("rust-guest", "whom to expect, many times");

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let builder = Builder::new(tokio::io::stdin(), tokio::io::stdout())
        .option(GREETING)
        .option(TIMES)
        .option(POLITE)
        .option(LOUD)
        .option(GUESTS)
        .rpcmethod("rustgreet", "says hello, and by whom", greet)
        .rpcmethod("rustfail", "fails", fail)
        .dynamic();
    match builder.start(()).await? {
        Some(plugin) => plugin.join().await,
        None => Ok(()),
    }
}

async fn greet(plugin: Plugin<()>, params: Value) -> anyhow::Result<Value> {
    let configuration = plugin.configuration();
    let socket = Path::new(&configuration.lightning_dir).join(&configuration.rpc_file);
    let mut rpc = ClnRpc::new(&socket).await?;
    let node = rpc.call_typed(&GetinfoRequest {}).await?;
    Ok(json!({
        "said": plugin.option(&GREETING)?,
        "times": plugin.option(&TIMES)?,
        "polite": plugin.option(&POLITE)?,
        "loud": plugin.option(&LOUD)?,
        "guests": plugin.option(&GUESTS)?,
        "params": params,
        "by": node.id.to_string(),
        "network": configuration.network,
    }))
}

async fn fail(_: Plugin<()>, _: Value) -> anyhow::Result<Value> {
    Err(anyhow::anyhow!("as you wish"))
}
