//! What the rules decide.
