//! Environment variables as values to lay over the file: `PREFIX__SINK__0__URL` becomes `sink[0].url`.
//!
//! In: the environment, the declared tables, how long the lists of the file are. Out: pairs of a path in the notation
//! of the
//! `config` crate and a value that carries the variable's name.
//!
//! The `Environment` source of the `config` crate is not used: it loses the names of the variables, which every problem
//! shows, and it cannot reach the entries of a list of sections. An empty variable counts as one that is not set. A
//! variable that begins with the prefix and has `__` in it is meant for us, so it is a problem when it means nothing.
//! Kubernetes makes variables such as `LINXO_WEBHOOK_SERVICE_HOST` for a Service; they have no `__`, so they are left
//! alone.

use crate::{
    keys::{Shape, Table, Tables, join},
    lines::Lines,
    nearest::{self, nearest},
    problem::{Place, Problem},
};
use base::secret::Secret;
use config::{Map, Value, ValueKind};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Variables by name. Any of them may hold a secret.
pub(crate) type Environment = HashMap<String, Secret>;

const SEPARATOR: &str = "__";

/// A variable and the key that it sets.
struct Setting<'e> {
    variable: &'e str,
    text: &'e str,
    /// Names, and numbers of list entries: `sink`, `0`, `secret`, `file`.
    steps: Vec<String>,
    /// How many steps lead to the key itself: what follows are members of a secret or entries of a list.
    key: usize,
    is_secret: bool,
}

impl Setting<'_> {
    fn path(&self) -> String {
        self.steps.join(".")
    }

    /// The first steps in the notation of the `config` crate.
    fn expression(&self, steps: usize) -> String {
        let mut expression = String::new();
        for step in self.steps.iter().take(steps) {
            if is_number(step) {
                expression.extend(["[", step, "]"]);
            } else {
                expression = join(&expression, step);
            }
        }
        expression
    }

    fn value(&self) -> Value {
        Value::new(Some(&self.variable.to_owned()), self.text)
    }
}

/// The values to lay over the file.
pub(crate) fn overrides(
    environment: &Environment,
    prefix: &str,
    tables: &Tables,
    lines: &Lines,
    (problems, warnings): (&mut Vec<Problem>, &mut Vec<String>),
) -> Vec<(String, Value)> {
    let mut settings: BTreeMap<String, Setting<'_>> = BTreeMap::new();
    let sorted: BTreeMap<_, _> = environment.iter().collect();
    for (variable, text) in sorted {
        let ours = variable.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if !ours || text.is_empty() {
            continue;
        }
        if !variable.contains(SEPARATOR) {
            warnings.extend(single(variable, prefix, tables));
            continue;
        }
        match resolve(variable, text.expose(), prefix, tables) {
            Err(problem) => problems.push(*problem),
            Ok(setting) => {
                if settings.insert(setting.path(), setting).is_some() {
                    let reason = "some variables differ only in upper and lower case";
                    problems.push(Problem::new("", &Place::Environment, reason));
                }
            }
        }
    }
    refuse_contradictions(&mut settings, problems);
    refuse_gaps(&mut settings, lines, problems);
    values(&settings)
}

/// Finds the key that a variable sets.
fn resolve<'e>(variable: &'e str, text: &'e str, prefix: &str, tables: &Tables) -> Result<Setting<'e>, Box<Problem>> {
    let place = Place::Variable(variable.to_owned());
    let Some(rest) = variable.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(SEPARATOR)) else {
        let problem = Problem::new("", &place, "means nothing");
        let hint = meant(variable, prefix, tables).map_or_else(
            || format!("variables of this program begin with {prefix}{SEPARATOR}; unset this one"),
            |candidate| format!("did you mean {candidate}?"),
        );
        return Err(problem.hint(hint).into());
    };
    let steps: Vec<String> = rest.to_lowercase().split(SEPARATOR).map(str::to_owned).collect();
    let path = steps.join(".");
    let unknown = |name: &str, section: &str| {
        let problem = Problem::new(&path, &place, "is not a known key");
        let known = tables.names_in(section);
        let problem = match (meant(variable, prefix, tables), nearest(name, known.iter().copied())) {
            (Some(candidate), _) => problem.hint(format!("did you mean {candidate}?")),
            (None, Some(candidate)) => problem.hint(format!("did you mean `{candidate}`?")),
            (None, None) => problem.hint(format!("known here: {}", known.join(", "))),
        };
        Box::new(problem)
    };
    let mut pattern = String::new();
    for (index, step) in steps.iter().enumerate() {
        let list = join(&pattern, "*");
        if tables.is_section(&list) {
            let is_last = index + 1 == steps.len();
            if is_last && !is_number(step) && tables.table(&list).is_some_and(Table::may_be_secret) {
                return Ok(Setting { variable, text, steps, key: index, is_secret: true });
            }
            if !is_number(step) {
                let hint = format!("write {prefix}__{}__0__NAME", pattern.to_uppercase());
                return Err(Problem::new(&path, &place, "must have a number behind the name of the list")
                    .hint(hint)
                    .into());
            }
            pattern = list;
            continue;
        }
        let below = join(&pattern, step);
        if let Some(key) = tables.find(&below) {
            let is_secret = matches!(key.facts.shape, Shape::Secret | Shape::Secrets);
            let fits = match steps.get(index + 1..).unwrap_or_default() {
                [] => true,
                [entry] if key.facts.shape.is_list() => is_number(entry),
                [member] => is_secret && !is_number(member),
                [entry, member] => is_secret && is_number(entry) && !is_number(member),
                _ => false,
            };
            let key = index + 1;
            return if fits {
                Ok(Setting { variable, text, steps, key, is_secret })
            } else {
                Err(unknown("", &pattern))
            };
        }
        if !tables.is_section(&below) {
            return Err(unknown(step, &pattern));
        }
        pattern = below;
    }
    Err(nearest::section(tables, &path, &pattern, &place).into())
}

/// What the known variables are called behind the prefix, with the number that `like` has in it.
fn known(like: &str, tables: &Tables) -> Vec<String> {
    let number = like.split('_').find(|part| is_number(part)).unwrap_or("0");
    let keys = tables.iter().flat_map(|table| table.keys.iter().map(|key| join(&table.path, key.name)));
    let lists = tables.iter().filter(|table| table.may_be_secret());
    let alone = lists.filter_map(|table| Some(table.path.strip_suffix(".*")?.to_owned()));
    keys.chain(alone).map(|path| path.replace('*', number).replace('.', SEPARATOR).to_uppercase()).collect()
}

/// The variable that was probably meant: the known one that differs least behind the prefix.
fn meant(variable: &str, prefix: &str, tables: &Tables) -> Option<String> {
    let rest = variable.get(prefix.len()..)?.trim_start_matches(|c: char| !c.is_alphanumeric()).to_uppercase();
    let known = known(&rest, tables);
    // Two letters at most: a longer difference is another key, and not a slip.
    let slip = |rest: &str| {
        let found = nearest(rest, known.iter().map(String::as_str))?;
        (strsim::damerau_levenshtein(rest, found) <= 2).then(|| format!("{prefix}{SEPARATOR}{found}"))
    };
    // What stands behind the key of a secret is a member of it.
    let of_secret = ["__FILE", "__ENV"].into_iter().find_map(|member| {
        let meant = slip(rest.strip_suffix(member)?)?;
        Some(format!("{meant}{member}"))
    });
    of_secret.or_else(|| slip(&rest))
}

/// A warning of a variable without `__` that is called as one of ours would be, but for its underscores. Those that Kubernetes
/// makes for a Service are called otherwise.
fn single(variable: &str, prefix: &str, tables: &Tables) -> Option<String> {
    let rest = variable.get(prefix.len()..)?.to_uppercase();
    let bare = |text: &str| text.replace('_', "");
    let (key, member) = ["_FILE", "_ENV"]
        .into_iter()
        .find_map(|member| Some((rest.strip_suffix(member)?, member)))
        .filter(|(key, _)| known(key, tables).iter().any(|known| bare(known) == bare(key)))
        .unwrap_or((&rest, ""));
    let known = known(key, tables).into_iter().find(|known| bare(known) == bare(key))?;
    let member = if member.is_empty() { String::new() } else { format!("_{member}") };
    Some(format!("{variable} is ignored: to set a key, write {prefix}{SEPARATOR}{known}{member}"))
}

/// Drops and reports variables that set a key as a whole beside others that set parts of it.
fn refuse_contradictions(settings: &mut BTreeMap<String, Setting<'_>>, problems: &mut Vec<Problem>) {
    let parts = |setting: &Setting<'_>| match setting.steps.get(setting.key..).unwrap_or_default() {
        [] => 0,
        [entry, ..] if is_number(entry) => 1,
        _ => 2,
    };
    let mut ways: BTreeMap<String, BTreeSet<u8>> = BTreeMap::new();
    for setting in settings.values() {
        ways.entry(setting.expression(setting.key)).or_default().insert(parts(setting));
    }
    settings.retain(|path, setting| {
        let ways = ways.get(&setting.expression(setting.key));
        let is_clash = ways.is_some_and(|ways| ways.len() > 1);
        // The problem is told once for each key: with the variable of the least common way.
        if is_clash && ways.and_then(BTreeSet::first) == Some(&parts(setting)) {
            let place = Place::Variable(setting.variable.to_owned());
            let reason = "contradicts another variable, which sets the same key in parts";
            problems.push(Problem::new(path, &place, reason).hint("unset one of the variables"));
        }
        !is_clash
    });
}

/// Drops and reports entries of lists that do not follow the one before them.
fn refuse_gaps(settings: &mut BTreeMap<String, Setting<'_>>, lines: &Lines, problems: &mut Vec<Problem>) {
    let mut numbers: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for setting in settings.values() {
        for (list, number) in entries(setting) {
            numbers.entry(list).or_default().insert(number);
        }
    }
    let next: HashMap<String, usize> = numbers
        .into_iter()
        .map(|(list, numbers)| {
            let is_secret =
                settings.values().any(|setting| setting.is_secret && setting.expression(setting.key) == list);
            // A secret of the environment replaces that of the file as a whole.
            let given = if is_secret { 0 } else { lines.entries(&list) };
            let next = numbers.into_iter().fold(given, |next, number| if number == next { next + 1 } else { next });
            (list, next)
        })
        .collect();
    let mut told = BTreeSet::new();
    settings.retain(|_, setting| {
        let gap = entries(setting).into_iter().find(|(list, number)| next.get(list).is_some_and(|next| number >= next));
        if let Some((list, number)) = &gap
            && told.insert((list.clone(), *number))
        {
            let place = Place::Variable(setting.variable.to_owned());
            let next = next.get(list).copied().unwrap_or_default();
            let problem = Problem::new(join(list, &number.to_string()), &place, "leaves a gap in the list");
            problems.push(problem.hint(format!("the next number is {next}")));
        }
        gap.is_none()
    });
}

/// The lists that a setting reaches into, each with the number of the entry.
fn entries(setting: &Setting<'_>) -> Vec<(String, usize)> {
    let numbered = setting.steps.iter().enumerate().filter(|(_, step)| is_number(step));
    numbered.filter_map(|(index, step)| Some((setting.steps.get(..index)?.join("."), step.parse().ok()?))).collect()
}

fn values(settings: &BTreeMap<String, Setting<'_>>) -> Vec<(String, Value)> {
    let mut values = Vec::new();
    // Secrets by key, each with its entries in order, each with its members.
    let mut lists: BTreeMap<String, BTreeMap<usize, Map<String, Value>>> = BTreeMap::new();
    for setting in settings.values() {
        match setting.steps.get(setting.key..).unwrap_or_default() {
            [entry, member] => {
                let list = lists.entry(setting.expression(setting.key)).or_default();
                let members = list.entry(entry.parse().unwrap_or_default()).or_default();
                members.insert(member.clone(), setting.value());
            }
            [member] if setting.is_secret => {
                let key = setting.expression(setting.key);
                // The file's member would contradict it.
                for other in ["file", "env"].into_iter().filter(|other| other != member) {
                    let path = format!("{}.{other}", setting.steps.get(..setting.key).unwrap_or_default().join("."));
                    if !settings.contains_key(&path) {
                        values.push((join(&key, other), Value::new(None, ValueKind::Nil)));
                    }
                }
                values.push((join(&key, member), setting.value()));
            }
            _ => values.push((setting.expression(setting.steps.len()), setting.value())),
        }
    }
    for (key, entries) in lists {
        let entries: Vec<Value> =
            entries.into_values().map(|members| Value::new(None, ValueKind::Table(members))).collect();
        values.push((key, Value::new(None, ValueKind::Array(entries))));
    }
    values
}

/// Whether a step is a place in a list; `00` is not, it would be the same place as `0`.
fn is_number(step: &str) -> bool {
    step.parse::<usize>().is_ok_and(|number| number.to_string() == step)
}
