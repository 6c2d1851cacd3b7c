//! `make demo`: the main job on a real node, told as a story; the exit status says whether it held.

use std::process::ExitCode;
use std::time::Instant;

use nightlatch_world::{Node, NodeSpec, Person, Story, WorldError, local_user, prepare};

fn main() -> ExitCode {
    let mut story = Story::new("demo", 4);
    tell(&mut story);
    story.end()
}

fn tell(story: &mut Story<std::io::Stdout>) -> Option<()> {
    let image = story.step("node-image", || {
        let start = now();
        prepare().map(|image| (image, format!("{} ms", start.elapsed().as_millis())))
    })?;
    let node = story.step("node-boots", || {
        Node::boot(&NodeSpec::default()).map(|node| {
            let time = node.boot_time().as_millis();
            (node, format!("{time} ms to sshd"))
        })
    })?;
    story.step("break-glass-login", || {
        let bob = Person::new(&image)?;
        local_user(&node, "bob", &bob)?;
        let outcome = node.ssh(&bob, "bob", &["id", "-un"], &[])?;
        if outcome.is_in() && outcome.stdout.trim() == "bob" {
            Ok(((), format!("{} ms", outcome.elapsed.as_millis())))
        } else {
            Err(WorldError::new(outcome.stderr))
        }
    })?;
    story.step("node-gone", || {
        let start = now();
        let root = node.root();
        drop(node);
        if root.exists() {
            return Err(WorldError::new(format!("{} is still there", root.display())));
        }
        Ok(((), format!("{} ms", start.elapsed().as_millis())))
    })
}

#[allow(clippy::disallowed_methods, reason = "the demo measures what it shows")]
fn now() -> Instant {
    Instant::now()
}
