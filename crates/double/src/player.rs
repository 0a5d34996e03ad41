//! Plays a script: which faults does this call meet?
//!
//! In: each call that arrives. Out: its faults, and a random generator for what the faults leave open, such as which account
//! goes. The generator's seed is made of the script's seed, of the question, and of how often the question was asked before;
//! so the same script gives the same faults in whatever order concurrent calls arrive. The tests below hold that.

use crate::{
    faults::{Fault, Target},
    script::{Call, Script},
};
use std::collections::HashMap;

/// A script being played.
#[derive(Debug, Default)]
pub(crate) struct Player {
    script: Script,
    /// For each rule: calls that matched, calls on which it fired.
    rules: Vec<(u64, u64)>,
    /// How often each question was asked.
    asked: HashMap<u64, u64>,
}

impl Player {
    pub(crate) fn new(script: Script) -> Self {
        let rules = vec![(0, 0); script.rules.len()];
        Self { script, rules, asked: HashMap::new() }
    }

    /// The faults of this call, and the random generator for what the faults leave open.
    pub(crate) fn decide(&mut self, call: &Call<'_>) -> (Vec<Fault>, fastrand::Rng) {
        let key = call.key();
        let asked = self.asked.entry(key).or_default();
        *asked = asked.wrapping_add(1);
        let question = key ^ asked.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.script.seed.rotate_left(32);
        let mut rng = fastrand::Rng::with_seed(question);
        let mut faults = Vec::new();
        for (rule, (matched, fired)) in self.script.rules.iter().zip(&mut self.rules) {
            if !rule.matches(call, self.script.seed) {
                continue;
            }
            *matched = matched.saturating_add(1);
            let due = rule.call.is_none_or(|call| call == *matched)
                && rule.times.is_none_or(|times| *fired < times)
                && rng.u8(..100) < rule.percent;
            if due {
                *fired = fired.saturating_add(1);
                faults.push(rule.fault.clone());
            }
        }
        if let Some(random) = &self.script.random
            && rng.u8(..100) < random.percent
        {
            let built_in;
            let choice = if random.faults.is_empty() {
                built_in = recoverable();
                &built_in
            } else {
                &random.faults
            };
            faults.extend(rng.choice(choice).cloned());
        }
        (faults, rng)
    }
}

/// Faults from which a caller that tries again recovers.
fn recoverable() -> Vec<Fault> {
    let status = |status, retry_after: Option<&str>, html| Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
        html,
    };
    vec![
        status(500, None, false),
        status(502, None, true),
        status(503, Some("1"), false),
        status(503, Some("date:1"), true),
        status(429, Some("1"), false),
        status(429, Some("soon"), false),
        status(429, None, false),
        status(400, None, false),
        status(403, None, true),
        status(409, None, false),
        status(423, None, false),
        status(425, None, false),
        Fault::Gzip,
        Fault::Coding { value: "identity".to_owned() },
        Fault::Unauthorized,
        Fault::ExpireTokens,
        Fault::NoContent,
        Fault::Html,
        Fault::Body { body: "\u{feff}[{\"id\":1e400}".to_owned() },
        Fault::Delay { ms: 100 },
        Fault::Drip { bytes: 512, every_ms: 1 },
        Fault::Cut { after: None },
        Fault::Reset,
        Fault::Truncate,
        Fault::Redirect { to: Target::Loop, location: None },
        Fault::Change { insert: 1, remove: 1 },
    ]
}

impl Call<'_> {
    /// A number that is the same for the same question in every run.
    fn key(&self) -> u64 {
        let text = format!("{:?} {:?} {:?} {:?}", self.endpoint, self.page, self.connection, self.user);
        // FNV-1a: the standard library does not promise its hash from one version to the next.
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{faults::Endpoint, script::Rule};

    fn accounts(page: u64) -> Call<'static> {
        Call { endpoint: Endpoint::Accounts, page: Some(page), connection: Some("123"), user: None }
    }

    #[test]
    fn rules_count_their_calls() {
        let mut player = Player::new(Script::of([
            Rule { page: Some(2), call: Some(2), ..Rule::always(Endpoint::Accounts, Fault::Reset) },
            Rule::first(1, Endpoint::Any, Fault::NoContent),
        ]));
        let mut kinds = |page| player.decide(&accounts(page)).0.iter().map(Fault::kind).collect::<Vec<_>>();
        assert_eq!(kinds(2), ["no_content"]);
        assert_eq!(kinds(1), [""; 0]);
        assert_eq!(kinds(2), ["reset"]);
        assert_eq!(kinds(2), [""; 0]);
    }

    #[test]
    fn the_seed_chooses_the_connections_of_a_rule() {
        let chosen = |seed| {
            let rule = Rule { connections_percent: 30, ..Rule::always(Endpoint::Accounts, Fault::Reset) };
            let mut player = Player::new(Script { seed, ..Script::of([rule]) });
            let mut meets = |id: &str| {
                let call = Call { connection: Some(id), ..accounts(1) };
                let twice = [player.decide(&call).0.len(), player.decide(&call).0.len()];
                assert_eq!(twice[0], twice[1], "a connection is chosen for all its calls");
                twice[0] == 1
            };
            (700_000..700_200).map(|id| meets(&id.to_string())).collect::<Vec<_>>()
        };
        let count = chosen(1).iter().filter(|is_chosen| **is_chosen).count();
        assert!((40..=80).contains(&count), "{count} of 200");
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_in_any_order() {
        let play = |seed, pages: &[u64]| {
            let mut player = Player::new(Script::random(seed, 50));
            let mut faults: Vec<_> = pages.iter().map(|page| (*page, player.decide(&accounts(*page)).0)).collect();
            faults.sort_by_key(|(page, _)| *page);
            faults
        };
        let forwards: Vec<u64> = (1..=50).collect();
        let backwards: Vec<u64> = (1..=50).rev().collect();
        assert_eq!(play(1, &forwards), play(1, &backwards));
        assert_ne!(play(1, &forwards), play(2, &forwards));
    }
}
