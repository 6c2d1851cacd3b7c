//! Speaks `io.systemd.UserDatabase`: one JSON message in, one or more out, each ended by a NUL.
//!
//! Sources: systemd.io "User/Group Record Lookup API via Varlink", "JSON User Records", "JSON
//! Group Records", and varlink.org "Interface Definition". Parameters that are not known here are
//! passed over: newer clients send filters that they apply themselves as well. Must never send a
//! password, a group that is not ours, or a second answer to a call that asked for one.

use std::io;
use std::iter::{self, Peekable};

use nightlatch_model::{ADMIN_GROUP, home_of};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::directory::{Group, Miss, User, View};
use crate::parameters::Parameters;
use crate::{Now, Source};

/// The interface, and by convention the prefix of its methods and errors.
pub const INTERFACE: &str = "io.systemd.UserDatabase";

/// A varlink error: its name and its parameters.
pub(crate) struct Failure(&'static str, Value);

const NO_RECORD: &str = "io.systemd.UserDatabase.NoRecordFound";
const BAD_SERVICE: &str = "io.systemd.UserDatabase.BadService";
const CONFLICT: &str = "io.systemd.UserDatabase.ConflictingRecordFound";
const NO_ENUMERATION: &str = "io.systemd.UserDatabase.EnumerationNotSupported";
const METHOD_NOT_FOUND: &str = "org.varlink.service.MethodNotFound";
const INVALID_PARAMETER: &str = "org.varlink.service.InvalidParameter";
const EXPECTED_MORE: &str = "org.varlink.service.ExpectedMore";

impl Failure {
    /// A parameter of the wrong type.
    pub(crate) fn invalid(parameter: &str) -> Self {
        Self(INVALID_PARAMETER, json!({ "parameter": parameter }))
    }

    fn plain(name: &'static str) -> Self {
        Self(name, json!({}))
    }
}

impl From<Miss> for Failure {
    fn from(miss: Miss) -> Self {
        Self::plain(match miss {
            Miss::NoRecord => NO_RECORD,
            Miss::Conflict => CONFLICT,
        })
    }
}

/// A call as it comes in; members that are not named here are passed over.
#[derive(Deserialize)]
struct Call {
    method: String,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(default)]
    more: Option<bool>,
    #[serde(default)]
    oneway: Option<bool>,
}

/// Turns messages into answers.
pub struct Answerer {
    source: Source,
    service: String,
    now: Now,
}

/// Takes each answer as it is ready, with its final NUL.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// The parameters of each answer, made one by one: an enumeration is never held in memory.
type Answers<'v> = Box<dyn Iterator<Item = Value> + 'v>;

impl Answerer {
    /// Answers from `source` as the service `service`, which is the socket's file name.
    #[must_use]
    pub fn new(source: Source, service: &str, now: Now) -> Self {
        Self { source, service: service.to_owned(), now }
    }

    /// Answers one message, given without its NUL.
    ///
    /// # Errors
    /// `InvalidData` for what is not a varlink call, and whatever `sink` fails with; either way
    /// the connection is of no more use.
    pub fn answer(&self, message: &[u8], sink: Sink<'_>) -> io::Result<()> {
        // A derived reader would take a list for an object.
        if message.trim_ascii_start().first() != Some(&b'{') {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let call: Call = serde_json::from_slice(message).map_err(|_| io::ErrorKind::InvalidData)?;
        // A call that wants no answer changes nothing here either.
        if call.oneway == Some(true) {
            return Ok(());
        }
        let more = call.more == Some(true);
        let parameters = call.parameters.unwrap_or_default();
        let view = self.source.view((self.now)());
        let answers = self.route(&call.method, &parameters, &view, more);
        match answers.and_then(|answers| non_empty(answers, more)) {
            Ok(mut answers) => {
                while let Some(parameters) = answers.next() {
                    let answer = if answers.peek().is_some() {
                        json!({ "parameters": parameters, "continues": true })
                    } else {
                        json!({ "parameters": parameters })
                    };
                    send(&answer, sink)?;
                }
                Ok(())
            }
            Err(Failure(error, parameters)) => {
                send(&json!({ "error": error, "parameters": parameters }), sink)
            }
        }
    }

    fn route<'v>(
        &'v self,
        method: &str,
        asked: &'v Parameters,
        view: &'v View,
        more: bool,
    ) -> Result<Answers<'v>, Failure> {
        match method {
            "io.systemd.UserDatabase.GetUserRecord" => {
                self.check_service(asked)?;
                let (name, uid) = (asked.user_name.text("userName")?, asked.uid.id("uid")?);
                if name.is_some() || uid.is_some() {
                    return Ok(Box::new(iter::once(self.user_record(&view.user(name, uid)?))));
                }
                enumerable(more)?;
                Ok(Box::new(view.users().map(|user| self.user_record(&user))))
            }
            "io.systemd.UserDatabase.GetGroupRecord" => {
                self.check_service(asked)?;
                let (name, gid) = (asked.group_name.text("groupName")?, asked.gid.id("gid")?);
                if name.is_some() || gid.is_some() {
                    return Ok(Box::new(iter::once(self.group_record(&view.group(name, gid)?))));
                }
                enumerable(more)?;
                Ok(Box::new(view.groups().map(|group| self.group_record(&group))))
            }
            "io.systemd.UserDatabase.GetMemberships" => {
                self.check_service(asked)?;
                let user = asked.user_name.text("userName")?;
                let admins = view.admins(user, asked.group_name.text("groupName")?);
                Ok(Box::new(admins.map(|name| json!({ "userName": name, "groupName": ADMIN_GROUP }))))
            }
            "org.varlink.service.GetInfo" => Ok(Box::new(iter::once(info()))),
            _ => Err(Failure(METHOD_NOT_FOUND, json!({ "method": method }))),
        }
    }

    fn check_service(&self, asked: &Parameters) -> Result<(), Failure> {
        let ours = asked.service.text("service")? == Some(self.service.as_str());
        if ours { Ok(()) } else { Err(Failure::plain(BAD_SERVICE)) }
    }

    fn user_record(&self, user: &User) -> Value {
        json!({
            "record": {
                "userName": user.name,
                "uid": user.uid,
                "gid": user.uid,
                "homeDirectory": home_of(user.uid),
                "shell": user.shell,
                "disposition": "regular",
                "service": self.service,
                "locked": user.locked,
            },
            "incomplete": false,
        })
    }

    fn group_record(&self, group: &Group) -> Value {
        json!({
            "record": {
                "groupName": group.name,
                "gid": group.gid,
                "disposition": "regular",
                "service": self.service,
            },
            "incomplete": false,
        })
    }
}

fn enumerable(more: bool) -> Result<(), Failure> {
    if more { Ok(()) } else { Err(Failure::plain(NO_ENUMERATION)) }
}

/// No answer at all is an error, and so are two to a call that asked for one.
fn non_empty(answers: Answers<'_>, more: bool) -> Result<Peekable<Answers<'_>>, Failure> {
    let mut answers = answers.peekable();
    if answers.peek().is_none() {
        return Err(Failure::plain(NO_RECORD));
    }
    if more {
        return Ok(answers);
    }
    let first = answers.next();
    if answers.next().is_some() {
        return Err(Failure::plain(EXPECTED_MORE));
    }
    let first: Answers<'_> = Box::new(first.into_iter());
    Ok(first.peekable())
}

fn info() -> Value {
    json!({
        "vendor": "Nightlatch",
        "product": "nightlatch-userdbd",
        "version": env!("CARGO_PKG_VERSION"),
        "url": "",
        "interfaces": ["org.varlink.service", INTERFACE],
    })
}

fn send(answer: &Value, sink: Sink<'_>) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(answer)?;
    bytes.push(0);
    sink(&bytes)
}

#[cfg(test)]
#[path = "varlink_tests.rs"]
mod tests;
