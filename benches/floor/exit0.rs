//! A PAM helper that says yes.

fn main() {}
