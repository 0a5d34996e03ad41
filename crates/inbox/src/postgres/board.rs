//! Stages in memory, while the lines that they stand in are locked: loads them, lets the rules change them, stores what changed.
//!
//! A board holds every stage of the entries that a transaction is about, and of each of their lines the stages that are first; where a
//! sink keeps strict order, also the parked ones that are first. That is
//! all that the rules can touch: what leaves its line makes the next one due, and what comes back into its line lets the one that
//! is due step back. A board of any size is loaded in one round trip and stored in one (`lines`, `stages`).
//!
//! Why this is safe with many receivers: whoever changes which stages stand in a line has the row of the line locked, and all rows are
//! locked in the order of their numbers. A claim locks no line. It turns `due` into `leased`, which changes no line; it passes over
//! rows that are locked, and what it might meet here is written under the condition that it still stands as it was loaded.

use super::{
    attempts::{self, Attempt},
    delete,
    shared::Touched,
    stages::{self, StageRow},
    tx::Statement,
};
use crate::{
    happenings::Noted,
    kind::Kind,
    rules::{self, Follows, Order, Progress, Standing},
};
use base::clock::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How a stage is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Not at all.
    None,
    /// Where it stands, if it still stands as it was loaded: its row is not locked.
    Move,
    /// All of it: its row is locked.
    Whole,
    /// It is new.
    New,
}

#[derive(Debug)]
struct Cell {
    row: StageRow,
    /// Where it stood when it was loaded; `None`: it is new.
    was: Option<Standing>,
    is_locked: bool,
    /// Whether its needs were done when it was loaded.
    needs_are_done: bool,
    change: Change,
}

/// Entries that leave as one delivery: by kind of stage and by the number of the group, in the order of their line.
pub(super) type Groups = HashMap<(Kind, i64), Vec<i64>>;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Board {
    /// The server's time.
    pub(super) now: Timestamp,
    /// The same by this receiver's clock, for those who look on.
    local_now: Timestamp,
    cells: BTreeMap<(i64, Kind, i64), Cell>,
    lines: HashMap<i64, i64>,
    /// The sinks that keep strict order.
    strict: BTreeSet<Kind>,
    groups: Groups,
    /// Stages that leave their group.
    left: Vec<(i64, Kind)>,
    /// Entries that an operation changed, with those of their groups.
    changed: BTreeSet<i64>,
    attempts: Vec<Attempt>,
    /// Entries whose unfinished readings are dropped.
    dropped: BTreeSet<i64>,
    happened: Vec<Noted>,
}

impl Board {
    pub(super) fn new(now: Timestamp, local_now: Timestamp, strict: BTreeSet<Kind>) -> Self {
        Self {
            now,
            local_now,
            cells: BTreeMap::new(),
            lines: HashMap::new(),
            strict,
            left: Vec::new(),
            groups: Groups::new(),
            changed: BTreeSet::new(),
            attempts: Vec::new(),
            dropped: BTreeSet::new(),
            happened: Vec::new(),
        }
    }

    /// Puts a stage on the board whose row is locked.
    pub(super) fn put(&mut self, row: StageRow) {
        self.lines.insert(row.seq, row.line);
        let was = Some(row.progress.standing);
        let cell = Cell { was, is_locked: true, needs_are_done: false, change: Change::None, row };
        self.cells.insert((cell.row.line, cell.row.kind, cell.row.seq), cell);
    }

    /// Puts a stage on the board that is among the first of its line, unless it is there.
    pub(super) fn put_first(&mut self, row: StageRow, needs_are_done: bool) {
        let was = Some(row.progress.standing);
        let cell = Cell { was, is_locked: false, needs_are_done, change: Change::None, row };
        self.cells.entry((cell.row.line, cell.row.kind, cell.row.seq)).or_insert(cell);
    }

    /// Says which of its entries leave as one delivery.
    pub(super) fn put_groups(&mut self, groups: Groups) {
        self.groups = groups;
    }

    /// The entries that leave as one delivery with an entry at a kind of stage, itself included, in the order of their line.
    pub(super) fn group(&self, seq: i64, kind: Kind) -> Vec<i64> {
        let found = self.groups.iter().find(|((of, _), members)| *of == kind && members.contains(&seq));
        found.map_or_else(|| vec![seq], |(_, members)| members.clone())
    }

    /// Whether a change of another entry's stage has changed this one's too.
    pub(super) fn has_changed(&self, seq: i64) -> bool {
        self.changed.contains(&seq)
    }

    /// The stage of an entry that this board is about.
    pub(super) fn get(&self, seq: i64, kind: Kind) -> Option<&StageRow> {
        let line = self.lines.get(&seq)?;
        self.cells.get(&(*line, kind, seq)).map(|cell| &cell.row)
    }

    /// Every stage of an entry, fetches first.
    pub(super) fn of_entry(&self, seq: i64) -> Vec<&StageRow> {
        let Some(line) = self.lines.get(&seq).copied() else { return Vec::new() };
        let cells = self.cells.range((line, Kind(i64::MIN), i64::MIN)..=(line, Kind(i64::MAX), i64::MAX));
        cells.map(|(_, cell)| &cell.row).filter(|row| row.seq == seq).collect()
    }

    /// Whether nothing earlier of its line is unfinished.
    pub(super) fn is_first(&self, seq: i64, kind: Kind) -> bool {
        let Some(line) = self.lines.get(&seq).copied() else { return false };
        self.first(line, kind).is_none_or(|first| first >= seq)
    }

    /// Applies a rule to a stage, and does what follows: the stage stands in its line again, or it has left it, and then the next one
    /// of the line, and the stages that need this one, move.
    pub(super) fn apply(&mut self, seq: i64, kind: Kind, rule: impl FnOnce(&mut Progress)) {
        let Some(line) = self.lines.get(&seq).copied() else { return };
        let Some(cell) = self.cells.get_mut(&(line, kind, seq)) else { return };
        let was = cell.row.progress.standing;
        rule(&mut cell.row.progress);
        if cell.change != Change::New {
            cell.change = Change::Whole;
        }
        if cell.row.progress.standing == Standing::Queued && self.first(line, kind) == Some(seq) {
            let needs_are_done = self.needs_are_done(line, kind, seq);
            if let Some(cell) = self.cells.get_mut(&(line, kind, seq)) {
                cell.row.progress.stand(true, needs_are_done);
            }
        }
        let Some(cell) = self.cells.get(&(line, kind, seq)) else { return };
        let is = cell.row.progress.standing;
        if was != Standing::Parked && is == Standing::Parked {
            self.happened.push(Noted::parked(seq, kind, cell.row.progress.reason.as_deref(), self.local_now));
        }
        if rules::frees(was, is) {
            self.move_up(line, kind);
            if was.is_in_line() && kind.is_fetch() {
                // A list that was begun and will not be finished would hold bank data for no use.
                self.dropped.insert(seq);
                self.dependents(seq, is);
            }
        }
    }

    /// Does again what was done or parked, with all of its group; later ones of the line wait for it again.
    pub(super) fn requeue(&mut self, seq: i64, kind: Kind) {
        for member in self.group(seq, kind) {
            if self.has_left(member, kind) {
                self.requeue_one(member, kind);
                self.changed.insert(member);
            }
        }
    }

    /// Puts a stage back in line because its sink is well again, with all of its group; says how many stages those are.
    pub(super) fn resume(&mut self, seq: i64, kind: Kind) -> u64 {
        let (now, mut resumed) = (self.now, 0);
        for member in self.group(seq, kind) {
            if self.has_left(member, kind) {
                self.put_back(member, kind, |progress| progress.resume(now));
                resumed += 1;
            }
        }
        resumed
    }

    /// Takes a stage out of its line because an operator says so, with all of its group: from behind, so that none becomes due.
    pub(super) fn park(&mut self, seq: i64, kind: Kind, reason: &str) {
        let now = self.now;
        for member in self.group(seq, kind).into_iter().rev() {
            if self.get(member, kind).is_some_and(|row| row.progress.standing.is_in_line()) {
                self.apply(member, kind, |progress| progress.park_by_hand(reason, now));
                self.remember(member, kind, false);
                self.changed.insert(member);
            }
        }
    }

    /// Lets others leave their line as the first of their group is about to: before it does, so that none of them becomes due. Returns
    /// those that did.
    pub(super) fn follow(&mut self, kind: Kind, others: impl Iterator<Item = i64>, first: &Progress) -> Vec<i64> {
        let now = self.now;
        let stands =
            |board: &Self, seq: i64| board.get(seq, kind).is_some_and(|row| row.progress.standing.is_in_line());
        let mut followed = Vec::new();
        for seq in others {
            if !first.standing.is_in_line() && stands(self, seq) {
                self.apply(seq, kind, |progress| progress.follow(first, now));
                followed.push(seq);
            }
        }
        followed
    }

    fn has_left(&self, seq: i64, kind: Kind) -> bool {
        self.get(seq, kind).is_some_and(|row| !row.progress.standing.is_in_line())
    }

    fn requeue_one(&mut self, seq: i64, kind: Kind) {
        let Some(row) = self.get(seq, kind) else { return };
        if row.progress.standing == Standing::Done {
            // A failed attempt was noted when it ended. A success was not, and the replay would wipe it out.
            self.remember(seq, kind, false);
        }
        let now = self.now;
        self.put_back(seq, kind, |progress| progress.requeue(now));
    }

    /// Puts a stage that has left its line back in it, as a rule says.
    pub(super) fn put_back(&mut self, seq: i64, kind: Kind, rule: impl FnOnce(&mut Progress)) {
        self.apply(seq, kind, rule);
        self.step_back(seq, kind);
    }

    /// Gives an entry a stage that it has none for, in its old place of the line.
    pub(super) fn add(&mut self, row: StageRow) {
        let (seq, kind, line) = (row.seq, row.kind, row.line);
        let cell = Cell { row, was: None, is_locked: true, needs_are_done: false, change: Change::New };
        self.cells.insert((line, kind, seq), cell);
        self.changed.insert(seq);
        self.apply(seq, kind, |_| ());
        self.step_back(seq, kind);
    }

    /// Takes a stage out of its group, as it goes to another sink by itself.
    pub(super) fn leave(&mut self, seq: i64, kind: Kind) {
        self.left.push((seq, kind));
    }

    /// Notes how the last attempt at a stage ended.
    pub(super) fn remember(&mut self, seq: i64, kind: Kind, is_failure: bool) {
        let Some(progress) = self.get(seq, kind).map(|row| row.progress.clone()) else { return };
        self.attempts.push(Attempt { seq, kind, progress, is_failure });
    }

    /// Notes what those are told who look on.
    pub(super) fn happened(&mut self, noted: Option<Noted>) {
        self.happened.extend(noted);
    }

    /// The entry is about to be deleted: its stages are taken from the board, and are not counted any more.
    pub(super) fn forget(&mut self, seq: i64, touched: &mut Touched) {
        let Some(line) = self.lines.remove(&seq) else { return };
        let kinds: Vec<Kind> =
            self.cells.iter().filter(|(at, _)| (at.0, at.2) == (line, seq)).map(|(at, _)| at.1).collect();
        for kind in kinds {
            if let Some(cell) = self.cells.remove(&(line, kind, seq)) {
                touched.numbers.stands(kind, cell.was, None);
                // Where order is strict, others may have waited behind it.
                self.move_up(line, kind);
            }
        }
        self.attempts.retain(|attempt| attempt.seq != seq);
    }

    /// Lets later stages of the line that were due, and not begun, wait behind this one.
    fn step_back(&mut self, seq: i64, kind: Kind) {
        let Some(line) = self.lines.get(&seq).copied() else { return };
        let first = self.first(line, kind);
        let later = (line, kind, seq.saturating_add(1))..=(line, kind, i64::MAX);
        for (at, cell) in self.cells.range_mut(later) {
            // What has gone in parked holds up others only where order is strict.
            if cell.row.progress.standing == Standing::Due && first.is_some_and(|first| first < at.2) {
                cell.row.progress.step_back();
                cell.moved();
            }
        }
    }

    /// Makes the first stage of a line due, if it is queued and its needs are done.
    fn move_up(&mut self, line: i64, kind: Kind) {
        let Some(first) = self.first(line, kind) else { return };
        let needs_are_done = self.needs_are_done(line, kind, first);
        let now = self.now;
        if let Some(cell) = self.cells.get_mut(&(line, kind, first))
            && cell.row.progress.move_up(needs_are_done, now)
        {
            cell.moved();
        }
    }

    /// What the end of a fetch does to the other stages of its entry.
    fn dependents(&mut self, seq: i64, fetch: Standing) {
        let Some(line) = self.lines.get(&seq).copied() else { return };
        let others: Vec<(Kind, Standing)> = self
            .of_entry(seq)
            .iter()
            .filter(|row| !row.kind.is_fetch())
            .map(|row| (row.kind, row.progress.standing))
            .collect();
        let now = self.now;
        for (kind, standing) in others {
            match rules::follows(fetch, standing) {
                Follows::Nothing => {}
                Follows::MayGo => self.move_up(line, kind),
                Follows::IsParked => self.apply(seq, kind, |progress| progress.park_for_needs(now)),
            }
        }
    }

    /// The entry that is first of those that hold up a line.
    fn first(&self, line: i64, kind: Kind) -> Option<i64> {
        let order = Order::of(self.strict.contains(&kind));
        let cells = self.cells.range((line, kind, i64::MIN)..=(line, kind, i64::MAX));
        cells.filter(|(_, cell)| order.holds(cell.row.progress.standing)).map(|(at, _)| at.2).next()
    }

    /// Whether everything is done that a stage needs.
    pub(super) fn needs_are_done(&self, line: i64, kind: Kind, seq: i64) -> bool {
        if kind.is_fetch() {
            return true;
        }
        if self.lines.contains_key(&seq) {
            let stages = self.of_entry(seq);
            return stages.iter().filter(|row| row.kind.is_fetch()).all(|row| row.progress.standing == Standing::Done);
        }
        self.cells.get(&(line, kind, seq)).is_some_and(|cell| cell.needs_are_done)
    }

    /// What is to be written, and what it touches. `slot`: where the connection counts.
    pub(super) fn end(self, slot: i64, mut touched: Touched) -> (Vec<Statement>, Touched) {
        let (mut whole, mut moved, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for cell in self.cells.into_values() {
            let is = cell.row.progress.standing;
            if cell.change == Change::None {
                continue;
            }
            touched.numbers.stands(cell.row.kind, cell.was, Some(is));
            if is == Standing::Due && cell.was != Some(Standing::Due) {
                touched.due.insert(cell.row.kind);
            }
            match (cell.change, cell.was) {
                (Change::New, _) => new.push(cell.row),
                (Change::Whole, _) => whole.push(cell.row),
                (_, Some(was)) => moved.push((cell.row, was)),
                _ => {}
            }
        }
        touched.happened.extend(self.happened);
        let mut writes = Vec::new();
        writes.extend(stages::update(&whole));
        writes.extend(stages::moved(&moved));
        writes.extend(stages::insert(&new));
        writes.extend(delete::memberships(&self.left));
        writes.extend(delete::unfinished(&self.dropped));
        writes.extend(attempts::remember(&self.attempts, slot));
        writes.extend(stages::tally(&touched.numbers, slot));
        (writes, touched)
    }
}

impl Cell {
    fn moved(&mut self) {
        if self.change == Change::None {
            self.change = if self.is_locked { Change::Whole } else { Change::Move };
        }
    }
}
