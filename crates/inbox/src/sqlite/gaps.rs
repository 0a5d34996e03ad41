//! The bytes of a page of SQLite's file that no row uses: found, and overwritten with zeros.
//!
//! In goes the content of one page of a b-tree, out comes what to write in its place. A page is taken apart as the file format
//! says (<https://www.sqlite.org/fileformat2.html>, "B-tree Pages"): header, pointers to cells, a gap, then cells, free blocks and
//! fragments. Every byte must belong to exactly one of them, as `PRAGMA integrity_check` wants it; of a page where that does
//! not add up nothing is changed. Which pages are pages of a b-tree is not known here: see `sweep`.

use std::ops::Range;

/// A page that is none of a b-tree, or whose parts do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its parts do not add up")]
pub(super) struct Malformed;

/// What a page holds, by the first byte of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    IndexInterior,
    TableInterior,
    IndexLeaf,
    TableLeaf,
}

impl Kind {
    const fn is_leaf(self) -> bool {
        matches!(self, Self::IndexLeaf | Self::TableLeaf)
    }

    /// Of a pointer to a child in each cell, and of the one to the last child in the header.
    const fn pointer(self) -> usize {
        if self.is_leaf() { 0 } else { 4 }
    }
}

/// A page of a b-tree.
pub(super) struct Page<'a> {
    bytes: &'a [u8],
    /// Where the bytes end that SQLite uses.
    usable: usize,
    kind: Kind,
    /// Where the header begins: the first page begins with that of the file.
    start: usize,
    cells: usize,
    /// Where the cells begin.
    content: usize,
}

impl<'a> Page<'a> {
    /// Reads the header of page `number`. `usable`: the size of a page without the bytes that are reserved at its end.
    pub(super) fn new(bytes: &'a [u8], number: u32, usable: usize) -> Result<Self, Malformed> {
        let start = if number == 1 { 100 } else { 0 };
        let kind = match bytes.get(start) {
            Some(0x02) => Kind::IndexInterior,
            Some(0x05) => Kind::TableInterior,
            Some(0x0a) => Kind::IndexLeaf,
            Some(0x0d) => Kind::TableLeaf,
            _ => return Err(Malformed),
        };
        let mut page = Self { bytes, usable, kind, start, cells: 0, content: 0 };
        page.cells = page.short(start + 3)?;
        page.content = match page.short(start + 5)? {
            0 => 65_536,
            content => content,
        };
        if usable > bytes.len() || page.content > usable || page.pointers().end > page.content {
            return Err(Malformed);
        }
        Ok(page)
    }

    pub(super) const fn is_leaf(&self) -> bool {
        self.kind.is_leaf()
    }

    /// The pages below this one; none below a leaf.
    pub(super) fn children(&self) -> Result<Vec<u32>, Malformed> {
        if self.is_leaf() {
            return Ok(Vec::new());
        }
        let cells = self.cell_starts().map(|cell| self.long(cell?));
        cells.chain([self.long(self.start + 8)]).collect()
    }

    /// The parts that nothing is kept in.
    fn unused(&self) -> Result<Vec<Range<usize>>, Malformed> {
        let cells = self.cell_starts().map(|cell| {
            let cell = cell?;
            Ok((cell, cell + self.cell_size(cell)?, false))
        });
        let mut parts = cells.collect::<Result<Vec<_>, Malformed>>()?;
        parts.extend(self.free_blocks()?.into_iter().map(|block| (block.start, block.end, true)));
        parts.sort_unstable();
        let mut unused = Vec::with_capacity(parts.len() + 2);
        unused.push(self.pointers().end..self.content);
        let (mut at, mut fragments) = (self.content, 0);
        for (from, to, is_free) in parts.into_iter().chain([(self.usable, self.usable, false)]) {
            if from < at {
                return Err(Malformed);
            }
            fragments += from - at;
            unused.push(at..from);
            if is_free {
                // Its head says where the next one is.
                unused.push(from + 4..to);
            }
            at = to;
        }
        if at > self.usable || fragments != usize::from(self.byte(self.start + 7)?) {
            return Err(Malformed);
        }
        Ok(unused)
    }

    /// Blocks between the cells that are kept for later ones, in their order.
    fn free_blocks(&self) -> Result<Vec<Range<usize>>, Malformed> {
        let (mut blocks, mut from, mut behind) = (Vec::new(), self.short(self.start + 1)?, self.content);
        while from != 0 {
            let size = self.short(from + 2)?;
            if from < behind || size < 4 {
                return Err(Malformed);
            }
            behind = from + size;
            blocks.push(from..behind);
            from = self.short(from)?;
        }
        Ok(blocks)
    }

    /// Where the pointers to the cells are.
    const fn pointers(&self) -> Range<usize> {
        let from = self.start + 8 + self.kind.pointer();
        from..from + 2 * self.cells
    }

    fn cell_starts(&self) -> impl Iterator<Item = Result<usize, Malformed>> {
        self.pointers().step_by(2).map(|pointer| self.short(pointer))
    }

    fn cell_size(&self, cell: usize) -> Result<usize, Malformed> {
        let mut head = self.kind.pointer();
        let (first, length) = self.varint(cell + head)?;
        head += length;
        let local = match self.kind {
            // The number of a row is all that it has.
            Kind::TableInterior => 0,
            Kind::TableLeaf => {
                head += self.varint(cell + head)?.1;
                self.local(first, self.usable - 35)?
            }
            Kind::IndexInterior | Kind::IndexLeaf => self.local(first, (self.usable - 12) * 64 / 255 - 23)?,
        };
        Ok((head + local).max(4))
    }

    /// How much of a payload is in its cell, with the pointer to the page where it goes on.
    fn local(&self, payload: u64, most: usize) -> Result<usize, Malformed> {
        let payload = usize::try_from(payload).map_err(|_huge| Malformed)?;
        if payload <= most {
            return Ok(payload);
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fills_the_last = least + (payload - least) % (self.usable - 4);
        Ok(4 + if fills_the_last <= most { fills_the_last } else { least })
    }

    /// A number of one to nine bytes, and how many.
    fn varint(&self, at: usize) -> Result<(u64, usize), Malformed> {
        let mut value = 0;
        for length in 1..9 {
            let byte = self.byte(at + length - 1)?;
            value = value << 7 | u64::from(byte & 0x7f);
            if byte < 0x80 {
                return Ok((value, length));
            }
        }
        Ok((value << 8 | u64::from(self.byte(at + 8)?), 9))
    }

    fn byte(&self, at: usize) -> Result<u8, Malformed> {
        self.bytes.get(at).copied().ok_or(Malformed)
    }

    fn short(&self, at: usize) -> Result<usize, Malformed> {
        Ok(usize::from(u16::from_be_bytes([self.byte(at)?, self.byte(at + 1)?])))
    }

    fn long(&self, at: usize) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes([self.byte(at)?, self.byte(at + 1)?, self.byte(at + 2)?, self.byte(at + 3)?]))
    }
}

/// Page `number` with zeros wherever it keeps nothing; `None` where there are only zeros already.
pub(super) fn cleared(bytes: &[u8], number: u32, usable: usize) -> Result<Option<Vec<u8>>, Malformed> {
    let unused = Page::new(bytes, number, usable)?.unused()?;
    let is_clear = |part: &Range<usize>| bytes.get(part.clone()).is_some_and(|part| part.iter().all(|byte| *byte == 0));
    if unused.iter().all(is_clear) {
        return Ok(None);
    }
    let mut cleared = bytes.to_vec();
    for part in unused {
        cleared.get_mut(part).ok_or(Malformed)?.fill(0);
    }
    Ok(Some(cleared))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    const SIZE: usize = 1024;

    /// Pages of a file: the schema, a table of some rows with gaps where others were deleted, and its index.
    fn pages() -> Vec<Vec<u8>> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("some.db");
        let file = Connection::open(&path).unwrap();
        file.execute_batch(
            "PRAGMA page_size = 1024; PRAGMA secure_delete = ON;
             CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB); CREATE INDEX i ON t (b);
             WITH RECURSIVE n (a) AS (VALUES (1) UNION ALL SELECT a + 1 FROM n WHERE a < 6)
             INSERT INTO t SELECT a, CAST(printf('%.40d', a) AS BLOB) FROM n;
             DELETE FROM t WHERE a IN (2, 4);
             INSERT INTO t VALUES (4, CAST(printf('%.38d', 4) AS BLOB));",
        )
        .unwrap();
        file.close().unwrap();
        std::fs::read(path).unwrap().chunks(SIZE).map(<[u8]>::to_vec).collect()
    }

    /// What is planted in every unused place goes, and the rest stays as it was.
    #[test]
    fn only_what_nothing_uses_is_overwritten() {
        for (page, number) in pages().iter().zip(1..) {
            let unused = Page::new(page, number, SIZE).unwrap().unused().unwrap();
            assert!(unused.iter().map(ExactSizeIterator::len).sum::<usize>() > 100);
            let filled = |with: u8| {
                let mut page = page.clone();
                for part in &unused {
                    page[part.clone()].fill(with);
                }
                page
            };
            assert_eq!(cleared(&filled(b'x'), number, SIZE), Ok(Some(filled(0))));
            assert_eq!(cleared(&filled(0), number, SIZE), Ok(None));
        }
        let table = &pages()[1];
        let parts = Page::new(table, 2, SIZE).unwrap();
        assert_eq!(parts.free_blocks().unwrap().len(), 1, "of row 2");
        assert_eq!(parts.byte(7).unwrap(), 2, "a fragment: row 4 is two bytes shorter than before");
    }

    #[test]
    fn a_page_whose_parts_do_not_add_up_is_not_touched() {
        let table = pages().remove(1);
        let parts = Page::new(&table, 2, SIZE).unwrap();
        let (first_cell, block) = (parts.short(8).unwrap(), parts.free_blocks().unwrap()[0].start);
        let high = |number: usize| u8::try_from(number >> 8).unwrap();
        let low = |number: usize| u8::try_from(number & 0xff).unwrap();
        for (what, changes) in [
            ("no such kind of page", vec![(0, 0x03)]),
            ("an index and no table", vec![(0, 0x0a)]),
            ("inside of a tree and no leaf", vec![(0, 0x05)]),
            ("more cells than there is room for", vec![(3, 0xff)]),
            ("one cell less", vec![(4, table[4] - 1)]),
            ("cells begin behind the page", vec![(5, 0xff)]),
            ("cells begin later than the first", vec![(6, table[6] + 1)]),
            ("cells begin among their pointers", vec![(5, 0), (6, 9)]),
            ("other fragments", vec![(7, 3)]),
            ("the free block goes round in a circle", vec![(block, high(block)), (block + 1, low(block))]),
            ("the free block is a cell", vec![(1, high(first_cell)), (2, low(first_cell))]),
            ("the free block is too large", vec![(block + 3, 0xff)]),
            ("a cell twice", vec![(10, high(first_cell)), (11, low(first_cell))]),
            ("a cell behind the page", vec![(8, 0xff)]),
            ("a cell that is too long", vec![(first_cell, 0x7f)]),
            ("a cell that has no end", vec![(8, 0x03), (9, 0xff), (SIZE - 1, 0xff)]),
        ] {
            let mut page = table.clone();
            page[20..28].fill(b'x');
            for (at, byte) in changes {
                page[at] = byte;
            }
            assert_eq!(cleared(&page, 2, SIZE), Err(Malformed), "{what}");
        }
        assert_eq!(cleared(&table[..SIZE - 1], 2, SIZE), Err(Malformed), "cut short");
        assert_eq!(cleared(&[0; SIZE], 2, SIZE), Err(Malformed), "a free page");
        assert_eq!(cleared(&[0x0d; SIZE], 2, SIZE), Err(Malformed), "an overflow page");
        assert_eq!(cleared(&[], 1, 0), Err(Malformed));
    }
}
