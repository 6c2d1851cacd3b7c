//! `nightlatch token watch`: each new token as one line of JSON, until it is interrupted.

use super::{Wish, get, refused, with_broker};
use crate::cli::output::{NO, USAGE, complain, say};

pub(super) fn run(wish: &Wish) -> u8 {
    let request = match wish.request(false) {
        Ok(request) => request,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    let watched = with_broker(|mut broker| async move {
        let mut tokens = broker.watch_token(request).await?.into_inner();
        while let Some(token) = tokens.message().await? {
            say(&get::document(&token).to_string());
        }
        Ok(())
    });
    match watched {
        Ok(()) => {
            complain("the broker ended the watch: the policy no longer allows it, or it stops");
            NO
        }
        Err(cause) => refused(&cause),
    }
}
