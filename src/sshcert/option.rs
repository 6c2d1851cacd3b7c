//! Critical options and extensions: names and raw values, in the order they came.

use crate::error::{CertError, Field};
use crate::limits::{MAX_OPTION_BYTES, MAX_OPTION_NAME_BYTES, MAX_OPTIONS};
use crate::reader::Reader;

/// One critical option or extension as received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawOption {
    name: String,
    data: Vec<u8>,
}

impl RawOption {
    /// The name: printable ASCII without blanks.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value as received: for most options a nested string, for flags empty.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The value, when it is exactly one nested string of UTF-8 text without control characters.
    ///
    /// # Errors
    /// [`CertError::ExtensionValue`] for any other value.
    pub fn text(&self) -> Result<&str, CertError> {
        let mut reader = Reader::new(&self.data);
        let nested =
            reader.string(Field::Extensions, MAX_OPTION_BYTES).map_err(|_| CertError::ExtensionValue)?;
        reader.end(Field::Extensions).map_err(|_| CertError::ExtensionValue)?;
        match str::from_utf8(nested) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(text),
            _ => Err(CertError::ExtensionValue),
        }
    }
}

/// Reads a section. PROTOCOL.certkeys asks for lexical order and unique names in both sections.
/// Unique names are required in both. Order is required of critical options only: there it costs
/// nothing, while an authority that misplaces an extension would lock everybody out for a flaw
/// that changes no meaning.
pub(crate) fn read_options(section: &[u8], field: Field) -> Result<Vec<RawOption>, CertError> {
    let mut reader = Reader::new(section);
    let mut options: Vec<RawOption> = Vec::new();
    while reader.left() > 0 {
        if options.len() == MAX_OPTIONS {
            return Err(CertError::TooManyOptions(field));
        }
        let name = reader.string(field, MAX_OPTION_NAME_BYTES)?;
        let data = reader.string(field, MAX_OPTION_BYTES)?;
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Err(CertError::TextInvalid(field));
        }
        let name = str::from_utf8(name).map_err(|_| CertError::TextInvalid(field))?;
        if options.iter().any(|known| known.name == name) {
            return Err(CertError::DuplicateOption(field));
        }
        if field == Field::CriticalOptions && options.last().is_some_and(|last| last.name.as_str() > name) {
            return Err(CertError::OptionOrder(field));
        }
        options.push(RawOption { name: name.to_owned(), data: data.to_vec() });
    }
    Ok(options)
}
