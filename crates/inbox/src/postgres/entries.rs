//! The tables `entry`, `body` and `known`.

use super::{
    clock::Clock,
    codes,
    tx::{Statement, statement},
    vault::Sealing,
};
use crate::{
    TraceParent,
    fold::{self, Record},
    seal::{Flaw, Owner, Place},
};
use event::{ChannelDefinitionId, UserId};

/// The place of an entry in the table `known`.
pub(crate) const fn rank(conflict: bool, body_key: i64) -> i64 {
    match (conflict, body_key) {
        (false, _) => 0,
        // 0 is for the first.
        (true, 0) => 1,
        (true, key) => key,
    }
}

/// Adds entries and their bodies, sealed where there are keys for them. Fails where the same content, or a first entry of the same id, came in between.
pub(super) fn insert(new: &[(i64, bool, &Record)], clock: &Clock, sealing: &Sealing) -> Result<Vec<Statement>, Flaw> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = Rows::default();
    for (seq, conflict, record) in new {
        rows.add(*seq, *conflict, record, clock);
        rows.add_body(*seq, record, sealing)?;
    }
    Ok(vec![
        statement!(
            "INSERT INTO known (id_key, rank, body_key, seq)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])",
            rows.id_key.clone(),
            rows.rank.clone(),
            rows.body_key,
            rows.seq.clone(),
        ),
        statement!(
            "INSERT INTO entry (seq, id, delivery_id, conflict, id_key, rank, digest, size, event_type, resource_type, connection,
                                \"user\", channel, mode, status, provider, new_transactions, created, account_count, listed, drift,
                                accepted, confirm, sender, trace, key)
             SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[], $7::bytea[],
                                  $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
                                  $15::text[], $16::text[], $17::boolean[], $18::bigint[], $19::bigint[], $20::bigint[],
                                  $21::text[], $22::bigint[], $23::boolean[], $24::text[], $25::text[], $26::bigint[])",
            rows.seq.clone(),
            rows.id,
            rows.delivery_id,
            rows.conflict,
            rows.id_key,
            rows.rank,
            rows.digest,
            rows.size,
            rows.event_type,
            rows.resource_type,
            rows.connection,
            rows.user,
            rows.channel,
            rows.mode,
            rows.status,
            rows.provider,
            rows.new_transactions,
            rows.created,
            rows.account_count,
            rows.listed,
            rows.drift,
            rows.accepted,
            rows.confirm,
            rows.sender,
            rows.trace,
            rows.key,
        ),
        statement!(
            "INSERT INTO body (seq, bytes) SELECT * FROM unnest($1::bigint[], $2::bytea[])",
            rows.seq,
            rows.bytes,
        ),
    ])
}

/// Entries by column, as arrays.
#[derive(Default)]
struct Rows {
    seq: Vec<i64>,
    id: Vec<String>,
    delivery_id: Vec<Option<String>>,
    conflict: Vec<bool>,
    id_key: Vec<i64>,
    rank: Vec<i64>,
    body_key: Vec<i64>,
    digest: Vec<Vec<u8>>,
    size: Vec<i64>,
    event_type: Vec<String>,
    resource_type: Vec<String>,
    connection: Vec<String>,
    user: Vec<Option<String>>,
    channel: Vec<Option<String>>,
    mode: Vec<Option<String>>,
    status: Vec<Option<String>>,
    provider: Vec<Option<String>>,
    new_transactions: Vec<Option<bool>>,
    created: Vec<Option<i64>>,
    account_count: Vec<Option<i64>>,
    listed: Vec<i64>,
    drift: Vec<Option<String>>,
    accepted: Vec<i64>,
    confirm: Vec<bool>,
    sender: Vec<Option<String>>,
    trace: Vec<Option<String>>,
    key: Vec<Option<i64>>,
    bytes: Vec<Vec<u8>>,
}

impl Rows {
    fn add(&mut self, seq: i64, conflict: bool, record: &Record, clock: &Clock) {
        let (entry, event) = (&record.entry, &record.entry.event);
        let delivery_id = fold::delivery_id(event.id.as_str(), record.content, !conflict);
        let drift = event.drift.as_ref().map(ToString::to_string);
        self.seq.push(seq);
        self.id.push(codes::text(event.id.as_str()));
        self.delivery_id.push((delivery_id.as_str() != event.id.as_str()).then(|| codes::text(delivery_id.as_str())));
        self.conflict.push(conflict);
        self.id_key.push(record.content.id);
        self.rank.push(rank(conflict, record.content.body));
        self.body_key.push(record.content.body);
        self.size.push(codes::signed(entry.body.len()));
        self.event_type.push(codes::text(&event.event_type));
        self.resource_type.push(codes::text(&event.resource_type));
        self.connection.push(codes::text(event.connection.as_str()));
        self.user.push(codes::maybe(event.user.as_ref().map(UserId::as_str)));
        self.channel.push(codes::maybe(event.channel.as_ref().map(ChannelDefinitionId::as_str)));
        self.mode.push(codes::maybe(event.mode.as_deref()));
        self.status.push(codes::maybe(event.status.as_deref()));
        self.provider.push(codes::maybe(event.provider.as_deref()));
        self.new_transactions.push(event.new_transactions);
        self.created.push(event.created);
        self.account_count.push(event.account_count.map(codes::signed));
        self.listed.push(codes::signed(event.listed));
        self.drift.push(codes::maybe(drift.as_deref()));
        self.accepted.push(clock.server(entry.received).as_millis());
        self.confirm.push(entry.confirm);
        self.sender.push(codes::maybe(entry.sender.as_deref()));
        self.trace.push(codes::maybe(entry.trace.as_ref().map(TraceParent::as_str)));
    }

    fn add_body(&mut self, seq: i64, record: &Record, sealing: &Sealing) -> Result<(), Flaw> {
        let (owner, body) = (Owner::of(&record.entry.event), &record.entry.body);
        let sealed = sealing.seal(&owner, Place::Body(seq), body)?;
        self.digest.push(sealing.digest(&owner, body, record.digest)?.to_vec());
        self.key.push(sealed.key);
        self.bytes.push(sealed.bytes.into_owned());
        Ok(())
    }
}
