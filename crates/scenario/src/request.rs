//! The request: a scenario with the options of the command line, on its way to the plan.

use std::ops::Range;

use crate::diagnose::{Origins, Problem};
use crate::overrides::{self, Override};
use crate::plan::{Catalogue, Plan};
use crate::resolve::{self, Surroundings};
use crate::{Options, ScenarioText, effective, quick, shape};

/// A scenario and its options; each option is also a text that problems can point into.
pub(crate) struct Request<'r> {
    scenario: &'r ScenarioText,
    options: &'r Options,
    overrides: Vec<Override>,
    transports: Vec<(Range<usize>, &'r String)>,
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
        let quick = origins.add_option("--quick".to_owned());
        Request {
            scenario,
            options,
            overrides,
            transports,
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
        let as_written = self.overrides.is_empty() && self.transports.is_empty() && cuts.is_empty();
        plan.source = match as_written {
            true => self.scenario.text().to_owned(),
            false => effective::to_toml(tree.get_ref())
                .map_err(|error| vec![Problem::without_place(error.message())])?,
        };
        Ok(plan)
    }
}
