//! Other people's clients: pyln-client and cln-rpc as they are published, each in a process that
//! calls what it is told.

use crate::{Node, RpcError, bin_dir};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The python that has pyln-client.
///
/// # Panics
/// Where there is none.
pub fn pyln_python() -> PathBuf {
    let python = std::env::var_os("PYLN_PYTHON").map(PathBuf::from);
    python.unwrap_or_else(|| {
        panic!("this test needs pyln-client: run `cargo xtask test`, or set PYLN_PYTHON=$(cargo xtask pyln)")
    })
}

/// A script beside this crate that uses pyln-client.
pub fn pyln_script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/pyln").join(name)
}

/// An executable with cln-rpc or cln-plugin in it.
///
/// # Panics
/// Where it was not built.
pub fn rust_client(name: &str) -> PathBuf {
    let target = bin_dir();
    let target = target.parent().expect("target/debug has a parent");
    let found = target.join("clients/debug").join(name);
    assert!(
        found.is_file(),
        "this test needs {}: `cargo xtask test` builds it, and runs the tests",
        found.display()
    );
    found
}

/// A client that ends with this value.
pub struct Client {
    process: Child,
    talk: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    member: &'static str,
}

impl Client {
    /// pyln-client's LightningRpc: methods are its own, parameters are Python's keyword arguments.
    pub fn pyln(node: &Node) -> Self {
        let mut command = Command::new(pyln_python());
        command.arg(pyln_script("client.py"));
        Self::start(command, node, "kwargs")
    }
    /// cln-rpc's ClnRpc: requests and answers go through its types.
    pub fn cln_rpc(node: &Node) -> Self {
        Self::start(Command::new(rust_client("rpcclient")), node, "params")
    }
    fn start(mut command: Command, node: &Node, member: &'static str) -> Self {
        let mut process = command
            .arg(node.network_dir().join("lightning-rpc"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdin = process.stdin.take().expect("it is piped");
        let stdout = process.stdout.take().expect("it is piped");
        Self { process, talk: RefCell::new((stdin, BufReader::new(stdout))), member }
    }
    /// One call: what came of it.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.begin(method, params);
        self.finish()
    }
    /// One call that works.
    pub fn ask(&self, method: &str, params: Value) -> Value {
        let shown = params.to_string();
        self.call(method, params).unwrap_or_else(|e| panic!("{method} {shown}: {e:?}"))
    }
    /// One call that is refused.
    pub fn refused(&self, method: &str, params: Value) -> RpcError {
        match self.call(method, params) {
            Err(e) => e,
            Ok(v) => panic!("{method} was answered with {v}"),
        }
    }
    /// Begins a call that may take its time.
    pub fn begin(&self, method: &str, params: Value) {
        let mut asked = json!({"method": method});
        asked[self.member] = params;
        writeln!(self.talk.borrow_mut().0, "{asked}").expect("the client reads");
    }
    /// What came of it.
    pub fn finish(&self) -> Result<Value, RpcError> {
        let mut line = String::new();
        self.talk.borrow_mut().1.read_line(&mut line).expect("the client writes");
        let mut answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("the client said {line:?}: {e}"));
        match answer.get("error") {
            None => Ok(answer["ok"].take()),
            Some(e) => Err(RpcError {
                code: e["code"].as_i64().unwrap_or_default(),
                message: e["message"].as_str().unwrap_or_default().to_owned(),
                data: e["data"].clone(),
            }),
        }
    }
}
impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
