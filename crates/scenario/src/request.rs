//! The request: a scenario with the options of the command line, on its way to the plan.

use std::ops::Range;

use crate::diagnose::{Origins, Problem};
use crate::overrides::{self, Override, TlsOption};
use crate::plan::{Catalogue, Plan};
use crate::resolve::{self, Surroundings};
use crate::{Options, ScenarioText, effective, quick, shape};

/// A scenario and its options; each option is also a text that problems can point into.
pub(crate) struct Request<'r> {
    scenario: &'r ScenarioText,
    options: &'r Options,
    overrides: Vec<Override>,
    transports: Vec<(Range<usize>, &'r String)>,
    carriers: Vec<(Range<usize>, &'r String)>,
    target_tls: Vec<TlsOption>,
    quick: Range<usize>,
}

impl<'r> Request<'r> {
    pub(crate) fn new(origins: &mut Origins, scenario: &'r ScenarioText, options: &'r Options) -> Self {
        let set = options.overrides.iter();
        let overrides = set
            .map(|(key, value)| Override::set(origins, key, value))
            .collect();
        let mut transports = Vec::new();
        for name in &options.transports {
            let start = origins.add_option(format!("--transport {name}")) + "--transport ".len();
            transports.push((start..start + name.len(), name));
        }
        let mut carriers = Vec::new();
        for name in &options.carriers {
            let start = origins.add_option(format!("--carrier {name}")) + "--carrier ".len();
            carriers.push((start..start + name.len(), name));
        }
        let target_tls = overrides::tls_options(origins, &options.target_tls);
        let quick = origins.add_option("--quick".to_owned());
        Request {
            scenario,
            options,
            overrides,
            transports,
            carriers,
            target_tls,
            quick: quick..quick + "--quick".len(),
        }
    }

    /// The plan, or all problems of the first step that finds some: syntax, options, content, length.
    pub(crate) fn plan(&self, origins: &Origins, catalogue: &Catalogue) -> Result<Plan, Vec<Problem>> {
        let mut tree = shape::parse(self.scenario.text()).map_err(|problem| vec![problem])?;
        let put = self
            .overrides
            .iter()
            .map(|set| set.apply(tree.get_mut(), origins));
        let refused: Vec<Problem> = put.filter_map(Result::err).collect();
        if !refused.is_empty() {
            return Err(refused);
        }
        overrides::pick_transports(tree.get_mut(), &self.transports, catalogue);
        overrides::pick_carriers(tree.get_mut(), &self.carriers);
        let has_target = tree.get_ref().contains_key("target");
        if has_target {
            overrides::put_tls(tree.get_mut(), &self.target_tls).map_err(|problem| vec![problem])?;
        }

        let surroundings = Surroundings {
            origins,
            catalogue,
            allow_remote: self.options.allow_remote,
        };
        let resolve = |tree: &_| {
            let (file, misfits) = shape::read(tree, origins)?;
            resolve::plan(file, misfits, self.scenario.name(), &surroundings)
        };
        let mut plan = resolve(&tree)?;
        let cuts = if self.options.quick {
            quick::cuts(&plan)
        } else {
            Vec::new()
        };
        for (key, value) in &cuts {
            overrides::put_text(tree.get_mut(), "load", key, value, &self.quick)
                .map_err(|problem| vec![problem])?;
        }
        if !cuts.is_empty() {
            // Cutting the file and not the plan keeps the two in step: the source gives this plan again.
            plan = resolve(&tree)?;
        }
        resolve::check_length(&plan, &tree, origins)?;

        plan.quick = self.options.quick;
        if !has_target {
            for cell in &mut plan.cells {
                cell.target_tls.clone_from(&self.options.target_tls);
            }
        }
        let as_written = self.overrides.is_empty()
            && self.transports.is_empty()
            && self.carriers.is_empty()
            && (self.target_tls.is_empty() || !has_target)
            && cuts.is_empty();
        plan.source = match as_written {
            true => self.scenario.text().to_owned(),
            false => effective::to_toml(tree.get_ref())
                .map_err(|error| vec![Problem::without_place(error.message())])?,
        };
        Ok(plan)
    }
}
