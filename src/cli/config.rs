//! `nightlatch config show`: each value with its source.

use serde_json::json;

use super::output::{Format, NO, YES, complain, say, table};
use crate::config::{Entry, Origin};

/// Whoever knows the values: all that are in force when asked with `true`, else those that files set.
pub(super) type Values = fn(effective: bool) -> Result<Vec<Entry>, String>;

/// Prints what is set, or all that is in force.
pub(super) fn show(values: Values, effective: bool, format: Format) -> u8 {
    let entries = match values(effective) {
        Ok(entries) => entries,
        Err(cause) => {
            complain(&cause);
            return NO;
        }
    };
    match format {
        Format::Json => {
            let rows: Vec<_> = entries
                .iter()
                .map(|entry| json!({"key": entry.key, "value": entry.value, "source": source(entry)}))
                .collect();
            say(&json!(rows).to_string());
        }
        _ => {
            let rows: Vec<Vec<String>> = entries
                .iter()
                .map(|entry| vec![entry.key.clone(), entry.value.clone(), source(entry)])
                .collect();
            table(&rows);
            if entries.is_empty() {
                say("no file sets anything; `nightlatch config show --effective` shows what is in force");
            }
        }
    }
    YES
}

fn source(entry: &Entry) -> String {
    match &entry.origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Machine(what) => format!("machine ({what})"),
        Origin::Default => "default".to_owned(),
    }
}
