//! Where each key was given, so that what is found wrong with a value later, when it is used, can be placed as well.

use crate::{
    keys::{Table, Tables, join},
    problem::{Place, entry_title},
    tree::{Content, Node},
};
use std::collections::BTreeMap;

/// Places by what people call a key: `listener.address`, `sink "app".path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    pub(crate) fn of(tree: &Node, tables: &Tables) -> Self {
        let mut places = Self::default();
        places.add(tree, "", "", tables);
        places
    }

    /// Where a key was given; [`Place::Nowhere`] where its default holds.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        self.0.get(key).cloned().unwrap_or_default()
    }

    fn add(&mut self, node: &Node, title: &str, pattern: &str, tables: &Tables) {
        self.0.insert(title.to_owned(), node.place.clone());
        match &node.content {
            Content::Table(table) => {
                for (name, child) in table {
                    self.add(child, &join(title, name), &join(pattern, name), tables);
                }
            }
            Content::List(list) => {
                let below = join(pattern, "*");
                let Some(naming) = tables.table(&below).and_then(Table::naming) else { return };
                for (index, entry) in list.iter().enumerate() {
                    let name = entry.at(naming).and_then(Node::text);
                    self.add(entry, &entry_title(title, name, index), &below, tables);
                }
            }
            _ => {}
        }
    }
}
