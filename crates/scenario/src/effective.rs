//! The effective scenario: a file with the command line's options in it, as TOML again.

use serde::Deserialize;
use serde_spanned::Spanned;
use toml::Value;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};

/// Writes a tree as a scenario file: plain keys first, then one section for each table, in the author's order.
pub(crate) fn to_toml(tree: &DeTable<'_>) -> Result<String, toml::de::Error> {
    let mut text = String::new();
    let mut sections = Vec::new();
    for (key, value) in in_order(tree) {
        match value.get_ref() {
            DeValue::Table(section) => sections.push((key, section)),
            _ => push_entry(&mut text, key, value)?,
        }
    }
    for (name, section) in sections {
        text.push_str(&format!("\n[{}]\n", key_text(name.get_ref())));
        for (key, value) in in_order(section) {
            push_entry(&mut text, key, value)?;
        }
    }
    Ok(text)
}

type Entry<'t, 'o> = (&'t Spanned<DeString<'o>>, &'t Spanned<DeValue<'o>>);

/// The parser sorts keys by name; their places say how the author sorted them.
fn in_order<'t, 'o>(table: &'t DeTable<'o>) -> Vec<Entry<'t, 'o>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn push_entry(
    text: &mut String,
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), toml::de::Error> {
    let value = Value::deserialize(ValueDeserializer::from(value.clone()))?;
    text.push_str(&format!("{} = {value}\n", key_text(key.get_ref())));
    Ok(())
}

fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(bare) {
        true => key.to_owned(),
        false => Value::from(key).to_string(),
    }
}
