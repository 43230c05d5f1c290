//! A connectd in a stranger's hands that tries to get out of its box. What became of each try is a
//! line of the log, for the test.

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{Pid, getppid, setpgid, setsid};
use std::fmt::Display;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use subdaemon::{Child, Failure, Sandbox, enter_sandbox};

fn main() -> ExitCode {
    subdaemon::main("breakout", run)
}

fn run(mut child: Child) -> Result<(), Failure> {
    // Where lightningd is: the directory of its secret and its socket.
    let home = std::env::current_dir().map_err(Failure::internal)?;
    let (secret, socket) = (home.join("hsm_secret"), home.join("lightning-rpc"));
    enter_sandbox(&Sandbox::Network, child.sandbox)?;
    let readable = std::fs::Permissions::from_mode(0o644);
    tried("read the secret", std::fs::read(&secret));
    tried("show the secret", std::fs::set_permissions(&secret, readable));
    tried("remove the secret", std::fs::remove_file(&secret));
    tried("write a file", std::fs::write(home.join("new"), "x"));
    tried("ask over RPC", std::os::unix::net::UnixStream::connect(&socket));
    tried("listen", std::net::TcpListener::bind("127.0.0.1:0"));
    tried("send datagrams", std::net::UdpSocket::bind("127.0.0.1:0"));
    tried("stop lightningd", kill(getppid(), Signal::SIGSTOP));
    tried("kill everybody", kill(Pid::from_raw(-1), Signal::SIGKILL));
    tried("leave the group", setpgid(Pid::from_raw(0), Pid::from_raw(0)));
    tried("leave the session", setsid());
    tried("outlive lightningd", set_pdeathsig(None));
    tried("have more descriptors", setrlimit(Resource::RLIMIT_NOFILE, 4096, 4096));
    let stdin = std::io::stdin();
    let copies = [stdin.as_raw_fd(); 253];
    let rights = [ControlMessage::ScmRights(&copies)];
    let bytes = [IoSlice::new(&[0])];
    let sent = sendmsg::<()>(stdin.as_raw_fd(), &bytes, &rights, MsgFlags::MSG_DONTWAIT, None);
    tried("hold descriptors back", sent);
    tried("watch more", Epoll::new(EpollCreateFlags::empty()));
    log::warn!("tried everything");
    loop {
        child.orders.recv()?;
    }
}

fn tried<T>(what: &str, result: Result<T, impl Display>) {
    match result {
        Ok(_) => log::warn!("broke out: could {what}"),
        Err(e) => log::warn!("could not {what}: {e}"),
    }
}
