//! Options of the command line, put into the parsed file before it is looked at: `--set`, `--transport`, `--carrier`, `--quick`,
//! and those about TLS.
//! They carry places of their own, so a problem in one is shown there and not in the file.

use std::borrow::Cow;
use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use crate::diagnose::{Origins, Problem, quoted};
use crate::plan::{Catalogue, TargetTls};
use crate::shape::not_toml;

/// A value for a key, with the places where both are written on the command line.
pub(crate) struct Override {
    key: Range<usize>,
    value: Range<usize>,
}

impl Override {
    /// Notes `--set key=value` as a text that problems may point into.
    pub(crate) fn set(origins: &mut Origins, key: &str, value: &str) -> Self {
        let base = origins.add_option(format!("--set {key}={value}"));
        let key_start = base + "--set ".len();
        let value_start = key_start + key.len() + 1;
        Override {
            key: key_start..key_start + key.len(),
            value: value_start..value_start + value.len(),
        }
    }

    /// Puts the value into the tree.
    pub(crate) fn apply<'o>(&self, tree: &mut DeTable<'o>, origins: &'o Origins) -> Result<(), Problem> {
        let path = key_path(origins.slice(&self.key), &self.key)?;
        let value = value(origins.slice(&self.value), &self.value)?;
        put(tree, &path, value)
    }
}

/// Splits `expect."latency.p99"` as TOML does, each part with its place.
fn key_path(key: &str, span: &Range<usize>) -> Result<Vec<Spanned<DeString<'static>>>, Problem> {
    let refusal = || {
        Problem::at(span.clone(), "`--set` needs a key", "not a key")
            .hint("write --set KEY=VALUE, as in --set load.connections=500")
    };
    if key.len() > 200 || key.contains(['=', '\n', '[', '#']) {
        return Err(refusal());
    }
    let document = format!("{key}=0");
    let mut table = DeTable::parse(&document).map_err(|_| refusal())?.into_inner();
    let mut path = Vec::new();
    while let Some((part, value)) = table.into_iter().next() {
        let place = span.start + part.span().start..span.start + part.span().end;
        path.push(Spanned::new(place, Cow::Owned(part.into_inner().into_owned())));
        match value.into_inner() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    Ok(path)
}

/// A TOML value, or else a bare text: `5/s` need not be quoted twice.
fn value<'o>(text: &'o str, span: &Range<usize>) -> Result<Spanned<DeValue<'o>>, Problem> {
    match DeValue::parse(text) {
        Ok(value) => Ok(moved(value, span.start)),
        // What begins like a list, a table or a quoted text was meant as TOML.
        Err(error) if text.trim_start().starts_with(['[', '{', '"', '\'']) => {
            Err(not_toml(&error, span.start))
        }
        Err(_) => Ok(Spanned::new(span.clone(), DeValue::String(Cow::Borrowed(text)))),
    }
}

/// The same value with all its places moved.
fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + by..value.span().end + by;
    let inner = match value.into_inner() {
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(|item| moved(item, by)).collect()),
        DeValue::Table(entries) => {
            let entries = entries.into_iter().map(|(key, value)| {
                let place = key.span().start + by..key.span().end + by;
                (Spanned::new(place, key.into_inner()), moved(value, by))
            });
            DeValue::Table(entries.collect())
        }
        other => other,
    };
    Spanned::new(span, inner)
}

fn put<'o>(
    table: &mut DeTable<'o>,
    path: &[Spanned<DeString<'static>>],
    value: Spanned<DeValue<'o>>,
) -> Result<(), Problem> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(());
    };
    let name: &str = first.get_ref();
    if rest.is_empty() {
        // The entry's key goes too: the new one knows its place on the command line.
        table.remove_entry(name);
        table.insert(first.clone(), value);
        return Ok(());
    }
    if !table.contains_key(name) {
        table.insert(
            first.clone(),
            Spanned::new(first.span(), DeValue::Table(DeTable::new())),
        );
    }
    match table.get_mut(name).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => put(inner, rest, value),
        _ => Err(Problem::at(
            first.span(),
            format!("{} is not a table", quoted(name)),
            "has no keys",
        )
        .hint("set it as a whole, as in --set 'load.arrival={over=\"5s\"}'")),
    }
}

/// Puts a value of the program's own into a tree that has been read already; problems would point at `place`.
pub(crate) fn put_text(
    tree: &mut DeTable<'_>,
    section: &'static str,
    key: &'static str,
    toml_value: &'static str,
    place: &Range<usize>,
) -> Result<(), Problem> {
    let path = [section, key].map(|part| Spanned::new(place.clone(), Cow::Borrowed(part)));
    let value = DeValue::parse(toml_value).map_err(|error| not_toml(&error, place.start))?;
    put(tree, &path, Spanned::new(place.clone(), value.into_inner()))
}

/// An option of the command line about TLS: its key in `[target.tls]`, its value, and its place.
pub(crate) struct TlsOption {
    key: &'static str,
    value: TlsValue,
    place: Range<usize>,
}

#[derive(Clone)]
enum TlsValue {
    Text(String),
    Yes,
}

/// Notes those that were given as texts that problems may point into.
pub(crate) fn tls_options(origins: &mut Origins, given: &TargetTls) -> Vec<TlsOption> {
    let texts = [
        ("cacert", &given.cacert),
        ("client-cert", &given.client_cert),
        ("client-key", &given.client_key),
        ("sni", &given.sni),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(key, text)| Some((key, TlsValue::Text(text.clone()?))));
    let all = texts.chain(given.insecure.then_some(("insecure", TlsValue::Yes)));
    all.map(|(key, value)| {
        let text = match &value {
            TlsValue::Text(text) => format!("--{key} {text}"),
            TlsValue::Yes => format!("--{key}"),
        };
        let length = text.len();
        let start = origins.add_option(text);
        TlsOption {
            key,
            value,
            place: start..start + length,
        }
    })
    .collect()
}

/// Puts them into `[target.tls]`. Who trusts somebody verifies, and the other way round: the option stands, not the file.
pub(crate) fn put_tls(tree: &mut DeTable<'_>, options: &[TlsOption]) -> Result<(), Problem> {
    for option in options {
        let path = ["target", "tls", option.key];
        let path = path.map(|part| Spanned::new(option.place.clone(), Cow::Borrowed(part)));
        let value = match &option.value {
            TlsValue::Text(text) => DeValue::String(Cow::Owned(text.clone())),
            TlsValue::Yes => DeValue::Boolean(true),
        };
        put(tree, &path, Spanned::new(option.place.clone(), value))?;
        let given = |key: &str| options.iter().any(|other| other.key == key);
        let other = match option.key {
            "cacert" if !given("insecure") => "insecure",
            "insecure" if !given("cacert") => "cacert",
            _ => continue,
        };
        let target = tree.get_mut("target").map(Spanned::get_mut);
        if let Some(DeValue::Table(target)) = target
            && let Some(DeValue::Table(tls)) = target.get_mut("tls").map(Spanned::get_mut)
        {
            tls.remove_entry(other);
        }
    }
    Ok(())
}

/// Puts the carriers of `--carrier` in the place of the file's.
pub(crate) fn pick_carriers(tree: &mut DeTable<'_>, picked: &[(Range<usize>, &String)]) {
    let Some((place, _)) = picked.first().cloned() else {
        return;
    };
    let names = picked
        .iter()
        .map(|(span, name)| Spanned::new(span.clone(), DeValue::String(Cow::Owned((*name).clone()))));
    let names = names.collect();
    tree.remove_entry("carriers");
    tree.insert(
        Spanned::new(place.clone(), "carriers".into()),
        Spanned::new(place, DeValue::Array(names)),
    );
}

/// Puts the transports of `--transport` in the place of the file's, and drops carriers that none of them has.
pub(crate) fn pick_transports(
    tree: &mut DeTable<'_>,
    picked: &[(Range<usize>, &String)],
    catalogue: &Catalogue,
) {
    let names = picked
        .iter()
        .map(|(span, name)| Spanned::new(span.clone(), DeValue::String(Cow::Owned((*name).clone()))));
    let Some((place, _)) = picked.first().cloned() else {
        return;
    };
    tree.remove_entry("transports");
    tree.insert(
        Spanned::new(place.clone(), "transports".into()),
        Spanned::new(place, DeValue::Array(names.collect())),
    );
    keep_usable_carriers(tree, picked, catalogue);
}

fn keep_usable_carriers(tree: &mut DeTable<'_>, picked: &[(Range<usize>, &String)], catalogue: &Catalogue) {
    let Some(carriers) = tree
        .get("carriers")
        .and_then(|value| value.get_ref().as_array())
        .cloned()
    else {
        return;
    };
    let is_picked = |transport: &String| picked.iter().any(|(_, name)| *name == transport);
    let unusable = |carrier: &str| {
        let mut having = catalogue
            .transports
            .iter()
            .filter(|t| t.carriers.iter().any(|c| c == carrier))
            .peekable();
        // One that no transport has stays, to be complained about.
        having.peek().is_some() && !having.any(|entry| is_picked(&entry.name))
    };
    let before = carriers.len();
    let kept: DeArray<'_> = carriers
        .into_iter()
        .filter(|carrier| !carrier.get_ref().as_str().is_some_and(unusable))
        .collect();
    if kept.is_empty() && before > 0 {
        tree.remove_entry("carriers");
    } else if let Some(value) = tree.get_mut("carriers") {
        *value.get_mut() = DeValue::Array(kept);
    }
}
