//! Text that must never be printed, copied or kept longer than needed.

use zeroize::Zeroizing;

/// A secret. No `Debug`, no `Display`, no `Clone`, no `Serialize`: it leaves only through
/// [`Secret::expose`], so that every use can be found by that word.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over; the memory is wiped when the value goes.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret text, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
