//! The kernel's word about connections, as the doors want it.

use std::io;
use std::sync::Arc;

use nightlatch_tokens::{Caller, Door};
use tokio::net::{TcpStream, UnixStream};

use super::door::{Present, Recognise, Who};
use crate::sys::{CallerHandle, Peer, caller_of_loopback, caller_of_unix};

/// Callers on a socket of ours.
pub(super) struct Socket(pub(super) Door);

/// Callers on loopback.
pub(super) struct Loopback;

impl Present for CallerHandle {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn still_there(&self) -> bool {
        Self::still_there(self)
    }
}

impl Recognise<UnixStream> for Socket {
    fn uid(&self, stream: &UnixStream) -> io::Result<u32> {
        Peer::of(stream).map(|peer| peer.uid).map_err(io::Error::other)
    }

    fn who(&self, stream: &UnixStream) -> Who {
        let handle = caller_of_unix(stream, self.0).map_err(|cause| cause.to_string())?;
        Ok(Arc::new(handle))
    }
}

/// A caller on loopback: its uid is that of the socket and stays; there is no process to look for.
struct OnLoopback(Caller);

impl Present for OnLoopback {
    fn caller(&self) -> &Caller {
        &self.0
    }

    fn still_there(&self) -> bool {
        true
    }
}

impl Recognise<TcpStream> for Loopback {
    fn uid(&self, stream: &TcpStream) -> io::Result<u32> {
        let caller = caller_of_loopback(stream.local_addr()?, stream.peer_addr()?);
        caller.map(|caller| caller.uid).map_err(io::Error::other)
    }

    fn who(&self, stream: &TcpStream) -> Who {
        let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
        let (local, peer) = ends.map_err(|cause| cause.to_string())?;
        let caller = caller_of_loopback(local, peer).map_err(|cause| cause.to_string())?;
        Ok(Arc::new(OnLoopback(caller)))
    }
}
