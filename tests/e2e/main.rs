//! Stories on a real node: one file a topic, one test binary. Real sshd, real PAM, real NSS.

mod arc;
mod cloud;
mod faults;
mod fleet;
mod logins;
mod site;
mod tenant;
