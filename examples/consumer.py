#!/usr/bin/env python3
"""Your side of linxo-webhook: verifies a delivery, stores it once, then answers. Standard library only; copy what you need.

    WEBHOOK_SECRET=whsec_... python3 examples/consumer.py

Environment:
    WEBHOOK_SECRET, or WEBHOOK_SECRET_FILE   the sink's secret; several, separated by white space, while it is being changed
    LISTEN                                   address and port (127.0.0.1:3000)
    DATABASE                                 SQLite file (./events.db)
"""

import base64, hashlib, hmac, json, os, signal, sqlite3, sys, threading, time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

PATH = "/linxo"
TOLERANCE = 300  # seconds by which the clocks may differ; what is older was recorded and played back
LARGEST = 64 * 1024 * 1024  # an event with 10,000 accounts has several megabytes

SCHEMA = """
pragma synchronous = extra; -- a commit outlives a power cut
create table if not exists delivery (id text primary key, received integer not null, type text not null, body blob not null);
create table if not exists connection (id text primary key, is_gone integer not null);
create table if not exists account (connection text, id text, balance text, primary key (connection, id));
"""


def is_signed(keys, headers, body):
    """Whether one of our keys made one of the signatures. `body` as received, before any parsing."""
    delivery, timestamp = headers["webhook-id"] or "", headers["webhook-timestamp"] or ""
    if not delivery or not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{delivery}.{timestamp}.".encode() + body
    given = (headers["webhook-signature"] or "").split()
    expected = ["v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    # `compare_digest` takes as long for a wrong signature as for a right one.
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in expected for other in given)


def store(db, headers, body):
    """Stores a delivery and its effects in one transaction; returns what became of it."""
    delivery, kind = headers["webhook-id"], headers["ce-type"] or ""
    with db:  # commits, or rolls back and raises
        new = db.execute(
            "insert into delivery values (?, ?, ?, ?) on conflict do nothing", (delivery, int(time.time()), kind, body)
        ).rowcount
        if not new:
            return "repeat"  # at least once: it was stored before, and the answer was lost
        if kind != "com.linxo.connections.updated":
            return "other kind"  # a test delivery, or a kind that you do not know yet: take it, do nothing
        if headers["ce-linxostale"] == "true":
            return "stale"  # something newer of this connection came before: keep what you have
        return update(db, unquote(headers["ce-subject"]), headers, body)


def update(db, connection, headers, body):
    """Your own effects. Here: the accounts of the connection."""
    if headers["ce-linxocompletion"] == "gone":  # the API does not know the connection any more; its accounts are history
        db.execute("insert or replace into connection values (?, true)", (connection,))
        return "gone"
    db.execute("insert or replace into connection values (?, false)", (connection,))
    is_complete = headers["ce-linxomismatch"] != "true"
    if is_complete:  # only a complete list says which accounts are gone
        db.execute("delete from account where connection = ?", (connection,))
    # Decimals keep the digits of amounts; a binary float does not.
    resource = json.loads(body, parse_float=Decimal)["resource"]
    accounts = [account for account in resource.get("accounts") or [] if isinstance(account, dict) and "id" in account]
    rows = [(connection, str(account["id"]), str(account.get("balance"))) for account in accounts]
    db.executemany("insert or replace into account values (?, ?, ?)", rows)
    return f"{len(rows)} accounts" if is_complete else f"{len(rows)} accounts, may be incomplete"


class Consumer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the connection stays open for the next delivery
    timeout = 60  # seconds for which a caller may be silent
    keys, db, lock = [], None, threading.Lock()

    def do_POST(self):
        length = self.headers["content-length"] or ""
        if self.path != PATH:
            return self.answer(404, "no such path")
        if not length.isdecimal() or int(length) > LARGEST:
            return self.answer(413, "no length, or too long")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return self.answer(400, "cut off")
        if not is_signed(self.keys, self.headers, body):
            return self.answer(401, "not signed by a secret of ours, or too old")
        try:
            with self.lock:
                outcome = store(self.db, self.headers, body)
        except sqlite3.Error as error:  # disk full, database locked: our own trouble, so the delivery must come again
            return self.answer(503, str(error))
        # Only now: a 2xx says that the delivery is on disk.
        self.answer(200, outcome)

    def answer(self, status, outcome):
        self.close_connection = self.close_connection or status != 200  # the body may not have been read
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
        # An id and a count; names, numbers and amounts do not belong into a log.
        print(status, ascii(self.headers["webhook-id"]), outcome, flush=True)

    def log_message(self, *_):
        pass


def main():
    os.umask(0o077)  # the database holds bank data
    file = os.environ.get("WEBHOOK_SECRET_FILE")
    secrets = (open(file).read() if file else os.environ.get("WEBHOOK_SECRET", "")).split()
    if not secrets:
        sys.exit("set WEBHOOK_SECRET, or WEBHOOK_SECRET_FILE, to the secret of the sink")
    Consumer.keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    Consumer.db = sqlite3.connect(os.environ.get("DATABASE", "./events.db"), check_same_thread=False)
    Consumer.db.executescript(SCHEMA)
    host, port = os.environ.get("LISTEN", "127.0.0.1:3000").rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Consumer)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"listening on http://{host}:{server.server_port}{PATH}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
