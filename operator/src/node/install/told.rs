//! What the log has been told: it gets news, not the same again in each round.

use std::io;

use tracing::{info, warn};

use super::Round;
use crate::known::Primary;

#[derive(Debug, Default)]
pub(super) struct Told {
    primary: Primary,
    problem: Option<String>,
    unwatched: Option<String>,
    passed_over: Vec<String>,
}

impl Told {
    pub(super) fn tell(&mut self, round: &Round, unwatched: Option<&io::Error>) {
        if self.primary != round.primary {
            primary(&round.primary, round.installed.configuration);
            self.primary.clone_from(&round.primary);
        }
        let problem = &round.installed.problem;
        if self.problem != *problem {
            if let Some(problem) = problem {
                warn!(problem, "the host is not as it should be");
            } else {
                info!("the host is as it should be again");
            }
            self.problem.clone_from(problem);
        }
        for text in round.passed_over.iter().filter(|text| !self.passed_over.contains(text)) {
            warn!("{text}");
        }
        self.passed_over.clone_from(&round.passed_over);
        let unwatched = unwatched.map(ToString::to_string);
        if let Some(error) = unwatched.as_ref().filter(|_| unwatched != self.unwatched) {
            warn!(error, "the host's CNI directories cannot be watched; they are looked at now and then");
        }
        self.unwatched = unwatched;
    }
}

fn primary(primary: &Primary, stays: bool) {
    match primary {
        Primary::Unknown => {}
        Primary::Found { name, file, plugins, of_multus } => {
            info!(name, file, plugins = plugins.join(", "), "found the primary network");
            if !of_multus.is_empty() {
                let passed_over = of_multus.join(", ");
                info!(passed_over, file, "what is Multus's own is no primary; the next configuration is");
            }
        }
        Primary::Missing(reason) if stays => {
            warn!(reason, "there is no primary network; our configuration stays, and pods wait");
        }
        Primary::Missing(reason) => {
            warn!(reason, "there is no primary network; nothing is configured before");
        }
    }
}
