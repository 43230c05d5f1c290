use super::*;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// Landlock holds for the thread that asks for it: what one does behind this wall alone, without
/// seccomp.
fn behind<T: Send>(which: &Sandbox, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = || {
            crate::limits::no_new_privileges().unwrap();
            restrict(which).unwrap();
            work()
        };
        scope.spawn(inside).join().unwrap()
    })
}

fn boxes(reads: &Path) -> [(&'static str, Sandbox); 6] {
    let plugin = |reads, calls| Sandbox::Plugin { reads, calls };
    [
        ("leaf", Sandbox::Leaf),
        ("signer", Sandbox::Signer),
        ("network", Sandbox::Network),
        ("resolver", Sandbox::Resolver),
        ("hosts", plugin(vec![reads.to_path_buf()], Calls::Hosts)),
        ("lightningd", plugin(vec![], Calls::Lightningd)),
    ]
}

/// Refused by Landlock: seccomp would say EPERM.
fn denied<T>(result: io::Result<T>) -> bool {
    match result {
        Ok(_) => false,
        Err(e) => {
            assert_eq!(e.raw_os_error(), Some(Errno::EACCES as i32), "{e}");
            true
        }
    }
}

/// A folder of this test's, gone when it ends.
struct Folder(PathBuf);
impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fulmen-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("granted")).unwrap();
        std::fs::write(path.join("granted/cookie"), "x").unwrap();
        std::fs::write(path.join("hsm_secret"), "x").unwrap();
        Self(path)
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn landlock_leaves_the_files_that_a_box_reads() {
    let folder = Folder::new("landlock-files");
    let [granted, cookie, secret] =
        ["granted", "granted/cookie", "hsm_secret"].map(|name| folder.0.join(name));
    for (name, which) in boxes(&granted) {
        let looks_up = ["resolver", "hosts"].contains(&name);
        let seen = behind(&which, || {
            let etc = !denied(std::fs::read("/etc/hosts"));
            let granted = !denied(std::fs::read(&cookie));
            assert!(denied(std::fs::read(&secret)), "{name} reads what lies beside");
            assert!(denied(std::fs::write(&cookie, "y")), "{name} writes");
            assert!(denied(std::fs::write(folder.0.join("new"), "y")), "{name} makes a file");
            assert!(denied(std::fs::read_dir(&folder.0)), "{name} lists a directory");
            assert!(denied(std::fs::remove_file(&secret)), "{name} removes a file");
            (etc, granted)
        });
        assert_eq!(seen, (looks_up, name == "hosts"), "{name}");
    }
}

#[test]
fn landlock_leaves_the_network_to_those_who_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    for (name, which) in boxes(Path::new("/nowhere")) {
        let dials = ["network", "resolver", "hosts"].contains(&name);
        let (dialled, bound) = behind(&which, || {
            (!denied(TcpStream::connect(at)), !denied(TcpListener::bind("127.0.0.1:0")))
        });
        assert_eq!((dialled, bound), (dials, false), "{name}");
    }
}

/// Whoever listens on a name without a path is outside, and so is whoever could be signalled.
#[test]
fn landlock_keeps_from_others_sockets_and_processes() {
    let folder = Folder::new("landlock-scopes");
    let name = format!("fulmen-landlock-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let path = folder.0.join("lightning-rpc");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(other.id()).unwrap());
    let by_path = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::ResolveUnix)
        .and_then(|r| r.create())
        .is_ok();
    if !by_path {
        println!("this kernel does not know how to keep from sockets with a path: not shown");
    }
    for (name, which) in boxes(Path::new("/nowhere")) {
        let refused = Err(Some(Errno::EPERM as i32));
        behind(&which, || {
            let connected = UnixStream::connect_addr(&address).map(drop);
            assert_eq!(connected.map_err(|e| e.raw_os_error()), refused, "{name}");
            assert_eq!(kill(pid, None), Err(Errno::EPERM), "{name}");
            if name == "lightningd" {
                assert!(UnixStream::connect(&path).is_ok(), "its one call");
            } else if by_path {
                assert!(denied(UnixStream::connect(&path)), "{name}");
            }
        });
    }
    other.kill().and_then(|()| other.wait()).unwrap();
}

#[test]
fn names_grants_the_file_a_link_leads_to_and_none_beside_it() {
    let granted = names(|link| {
        let is_resolv = link == Path::new("/etc/resolv.conf");
        Some(if is_resolv { "/home/alice/dns/resolv.conf".into() } else { link.to_path_buf() })
    });
    let reads = |path: &str| granted.iter().any(|granted| Path::new(path).starts_with(granted));
    assert!(reads("/home/alice/dns/resolv.conf"));
    assert!(!reads("/home/alice/dns/key") && !reads("/home/alice/.ssh/id"));
    assert!(reads("/etc/hosts") && reads("/run/systemd/resolve/stub-resolv.conf"));
}
