//! A node boots, does not know its neighbour, and leaves nothing behind, even if its owner is killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed assumption of a test is a failed test")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the owner tells its node's name by printing it"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nightlatch_world::{Node, NodeSpec, Person, local_user, wait_until};

const LIMIT: Duration = Duration::from_secs(20);
const OWNER: &str = "NIGHTLATCH_WORLD_TEST_OWNER";

/// Everything on the host that bears the node's name.
fn traces(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    if Path::new("/tmp").join(id).exists() {
        found.push(format!("/tmp/{id}"));
    }
    for line in fs::read_to_string("/proc/self/mounts").unwrap().lines() {
        let mut fields = line.split(' ');
        let at = fields.nth(1).unwrap();
        if line.contains(id) {
            found.push(format!("mount {line}"));
        }
        if Path::new(at).join(id).exists() && at.starts_with("/sys/fs/cgroup") {
            found.push(format!("{at}/{id}"));
        }
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let text = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let all = [text("cmdline"), text("cgroup"), text("mounts")].concat();
        if String::from_utf8_lossy(&all).contains(id) {
            found.push(format!("process {}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

#[test]
fn node_boots_and_leaves_nothing() {
    let node = Node::boot(&NodeSpec::default()).unwrap();
    let id = node.id().to_owned();
    let state = node.exec(&["systemctl", "is-system-running"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "running");
    assert_eq!(node.read_file("/etc/hostname").unwrap(), format!("{id}\n").as_bytes());
    assert!(node.root().join("run/systemd/private").exists());
    let addresses = node.shell("ip -4 address show dev lo").unwrap();
    assert!(addresses.contains("169.254.169.254/32"), "{addresses}");
    let found = node.shell("getent ahostsv4 login.microsoftonline.com").unwrap();
    assert!(found.starts_with("127.0.0.1"), "{found}");
    assert!(!traces(&id).is_empty(), "the search for traces finds nothing even while the node lives");

    drop(node);
    assert_eq!(traces(&id), Vec::<String>::new());
}

#[test]
fn two_nodes_are_strangers() {
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| Node::boot(&NodeSpec::default()).unwrap());
        let two = scope.spawn(|| Node::boot(&NodeSpec::default()).unwrap());
        (one.join().unwrap(), two.join().unwrap())
    });
    let bob = Person::new(one.image()).unwrap();
    local_user(&one, "bob", &bob).unwrap();
    let outcome = one
        .ssh(&bob, "bob", &["id -un; cat /proc/self/loginuid; echo; echo \"$XDG_SESSION_ID\""], &[])
        .unwrap();
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let uid = one.shell("id -u bob").unwrap();
    assert!(
        matches!(lines.as_slice(), ["bob", login, session] if *login == uid.trim() && !session.is_empty()),
        "{lines:?}"
    );

    let outcome = two.ssh(&bob, "bob", &["true"], &[]).unwrap();
    assert!(outcome.is_refused(), "{outcome:?}");
    assert_ne!(one.read_file("/etc/machine-id").unwrap(), two.read_file("/etc/machine-id").unwrap());
    let users = fs::read_to_string("/etc/passwd").unwrap();
    assert!(!users.contains("/home/bob:"), "the node's user reached the host");
}

#[test]
fn a_host_program_runs_in_the_nodes_network() {
    let node = Node::boot(&NodeSpec::default()).unwrap();
    let serve = "import socket,sys\ns=socket.create_server(('169.254.169.254',80))\nprint('up',flush=True)\n\
                 while True:\n c,_=s.accept(); c.recv(4096); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nhello'); c.close()\n";
    let mut server = node.spawn_in_netns(&["python3", "-c", serve]).unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    let fetch = "import urllib.request as u;print(u.urlopen('http://169.254.169.254/').read().decode())";
    assert_eq!(node.shell(&format!("python3 -c \"{fetch}\"")).unwrap(), "hello\n");
    let outcome = node.netns_exec(&["python3", "-c", fetch]).unwrap();
    assert_eq!(outcome.stdout, b"hello\n", "{}", String::from_utf8_lossy(&outcome.stderr));

    drop(server);
    let outcome = node.netns_exec(&["python3", "-c", fetch]).unwrap();
    assert!(!outcome.status.success(), "the server outlived its handle");
}

/// The owner runs in a process of its own (this same test, told so by its environment), which is killed
/// so that none of its code can tidy up.
#[test]
fn a_killed_owner_leaves_nothing() {
    if std::env::var_os(OWNER).is_some() {
        let node = Node::boot(&NodeSpec::default()).unwrap();
        let bob = Person::new(node.image()).unwrap();
        println!("\nnode {} {}", node.id(), bob.key_path().display());
        loop {
            std::thread::park();
        }
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_owner_leaves_nothing", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let said =
        lines.map_while(Result::ok).find_map(|line| line.strip_prefix("node ").map(str::to_owned)).unwrap();
    let (id, key) = said.split_once(' ').unwrap();
    assert!(!traces(id).is_empty() && Path::new(key).exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = wait_until("the killed owner's node is gone", LIMIT, || traces(id).is_empty());
    gone.unwrap_or_else(|why| panic!("{why}: {:?}", traces(id)));
    wait_until("the killed owner's key is gone", LIMIT, || !Path::new(key).exists()).unwrap();
}

#[test]
fn a_service_is_a_unit_and_a_user_of_its_own() {
    let node = Node::boot(&NodeSpec::default()).unwrap();
    node.add_users(&["svc-one"]).unwrap();
    let lent = tempfile::tempdir().unwrap();
    fs::write(lent.path().join("word"), "lent\n").unwrap();
    let folder = node.lend(lent.path(), "words").unwrap();
    assert_eq!(node.lend(lent.path(), "words").unwrap(), folder, "twice is once");
    let script = format!("id -un; cat /proc/self/cgroup; echo $WORD; cat {folder}/word; exit 7");
    let service = node.service("first.service", "svc-one").env("WORD", "two words");
    let done = service.run(&["sh", "-c", &script]).unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(7), "{done:?}");
    assert!(said.starts_with("svc-one\n") && said.ends_with("two words\nlent\n"), "{done:?}");
    assert!(said.contains("/system.slice/first.service\n"), "{said}");
    // A unit of the same name may run again: nothing stays of a service that ended.
    assert_eq!(service.run(&["true"]).unwrap().status.code(), Some(0));
}
