//! A certificate for now: the last one while it is good, else one that is renewed without a page, else a sign-in.
//!
//! One program at a time makes one in a folder. No page is opened for what a page cannot mend, and what is held of a sign-in
//! that no note speaks of is forgotten.

use std::io::IsTerminal;
use std::path::Path;

use super::CertArguments;
use super::asked::{Asked, How, asked};
use super::files::{Files, WAYS, Way, kept, last, note_in, still_good};
use super::held::{Held, may_be_renewed, not_held};
use super::renewal::{self, Renewed};
use super::turn::Turn;
use super::{person, pipeline, sign_in};
use crate::cli::output::{NO, USAGE, complain};
use crate::clock::Clock;

/// A certificate that is good for a while, with what is known of it; else the exit status, and the person knows why.
pub(super) fn ready(arguments: &CertArguments) -> Result<Files, u8> {
    let said = |status: u8| {
        move |why: String| {
            complain(&why);
            status
        }
    };
    let asked = asked(arguments).map_err(said(USAGE))?;
    // A program that ends badly writes its memory down. ssh, which this one becomes, decides for itself again.
    let _ = nix::sys::prctl::set_dumpable(false);
    let clock = Clock::System;
    // What is to be forgotten is forgotten in its turn: a renewal that is under way holds anew.
    let at_once = !arguments.once && !arguments.renew;
    if let Some(note) = kept(&asked, clock.now()).filter(|_| at_once) {
        return Ok(asked.files(note.name));
    }
    let before = last(&asked);
    let turn = Turn::in_folder(&asked.folder).map_err(said(NO))?;
    if arguments.once
        && let Ok(held) = Held::by_the_kernel()
    {
        let _ = held.forget(&asked.folder, asked.way());
    }
    let in_vain = turn.waited && last(&asked) == before;
    let folder = asked.folder.clone();
    let way = asked.way();
    let files = made(asked, arguments.renew, in_vain, &clock).map_err(said(NO));
    if files.is_ok() {
        forget_replaced(&folder, way);
    }
    drop(turn);
    files
}

/// Has the kernel forget what no note speaks of any more: of a sign-in before this one, or of another with the same key.
fn forget_replaced(folder: &Path, way: &Way) {
    let Ok(held) = Held::by_the_kernel() else { return };
    for other in WAYS.into_iter().filter(|other| other.key == way.key) {
        let is_spoken_of =
            note_in(folder, other).is_ok_and(|note| note.is_some_and(|note| note.held.is_some()));
        if !is_spoken_of {
            // It ends with its time where it cannot be forgotten.
            let _ = held.forget(folder, other);
        }
    }
}

/// A certificate that is new, or that somebody else made while this program waited for its turn. `in_vain`: it waited, and
/// nobody made any.
fn made(mut asked: Asked, renew: bool, in_vain: bool, clock: &Clock) -> Result<Files, String> {
    if let Some(note) = kept(&asked, clock.now()).filter(|_| !renew) {
        return Ok(asked.files(note.name));
    }
    let held = asked.hold.then(Held::by_the_kernel).transpose();
    let last = last(&asked);
    let is_wished = renew || asked.fresh;
    let silently = last.as_ref().filter(|_| !is_wished);
    if let (Some(note), Ok(Some(held))) = (silently, &held)
        && may_be_renewed(note, clock.now())
    {
        match renewal::renew(&asked, note, held, clock) {
            Ok(Renewed::Done(name)) => return Ok(asked.files(name)),
            Ok(Renewed::Page(claims)) => asked.claims = claims,
            Ok(Renewed::Away(why)) => return last_resort(&asked, &why, clock).ok_or(why),
            Err(why) => {
                if let Some(files) = last_resort(&asked, &why, clock) {
                    return Ok(files);
                }
                complain(&why);
            }
        }
    }
    let opens_a_page = !matches!(asked.how, How::Pipeline(_));
    if in_vain && opens_a_page && !is_wished && !std::io::stderr().is_terminal() {
        let why = "there is still no certificate after somebody else's sign-in into this folder, and nobody is here for one page \
                   after the other: run `nightlatch cert` in a terminal";
        return last_resort(&asked, why, clock).ok_or_else(|| why.to_owned());
    }
    let held = held.unwrap_or_else(|why| {
        complain(&not_held(why));
        None
    });
    asked.hold = held.is_some();
    // Who is still signed in in the browser is not asked anything: its page opens and closes.
    asked.again = last.is_some();
    let hint = asked.hint.clone().or_else(|| last?.proposed());
    let name = match &asked.how {
        How::OpenPubkey => sign_in::sign_in(&asked, hint, held.as_ref(), clock),
        How::Browser | How::Device => person::sign_in(&asked, hint, held.as_ref(), clock),
        How::Pipeline(token) => pipeline::sign_in(&asked, token, clock.now()),
    };
    name.map(|name| asked.files(name))
}

/// The certificate of before, where no other can be had now: nobody signs in at a page that is not there.
fn last_resort(asked: &Asked, why: &str, clock: &Clock) -> Option<Files> {
    let note = still_good(asked, clock.now())?;
    complain(&format!("the certificate cannot be renewed now, and is used as long as it is good: {why}"));
    Some(asked.files(note.name))
}
