//! The catalogue: what a plan can be made of, as its caller knows it.

/// What transports exist, told to this crate by its caller: scenarios are checked against it, and no transport's name
/// stands in this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// Every transport, in the registry's order.
    pub transports: Vec<CatalogueEntry>,
    /// Carriers of which one connection can carry several sessions.
    pub sharing_carriers: Vec<String>,
    /// A payload that carries a stamp is at least this large.
    pub smallest_payload_bytes: u32,
    /// The largest payload that every transport carries.
    pub largest_payload_bytes: u32,
}

/// One transport of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// As written in scenario files.
    pub name: String,
    /// Carriers it can run over, its default first.
    pub carriers: Vec<String>,
    /// It runs inside the load generator's process: there is no connection to count or to time.
    pub in_process: bool,
}

impl Catalogue {
    /// Whether one connection of `carrier` can carry several sessions.
    pub fn shares(&self, carrier: &str) -> bool {
        self.sharing_carriers.iter().any(|name| name == carrier)
    }
}
