// Your side of linxo-webhook: verifies a delivery, stores it once, then answers. Node.js alone, no packages; copy what you need.
//
//     WEBHOOK_SECRET=whsec_... node examples/consumer.ts
//
// Node.js runs this file as it is from 22.18 on. Before that, take the types out: `esbuild consumer.ts > consumer.mjs`.
//
// Environment:
//     WEBHOOK_SECRET, or WEBHOOK_SECRET_FILE   the sink's secret; several, separated by white space, while it is being changed
//     LISTEN                                   address and port (127.0.0.1:3000)
//     DATABASE                                 file with one line for each delivery (./events.ndjson)

import { createHmac, timingSafeEqual } from "node:crypto";
import { existsSync, fstatSync, fsyncSync, ftruncateSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";

const PATH = "/linxo";
const TOLERANCE = 300; // seconds by which the clocks may differ; what is older was recorded and played back
const LARGEST = 64 * 1024 * 1024; // an event with 10,000 accounts has several megabytes

/** A delivery as it is stored. `body` is its text: JSON.parse would turn amounts into binary floats, and 0.10 into 0.1. */
type Delivery = { id: string; type: string; attributes: Record<string, string>; body: string };

/** Whether one of our keys made one of the signatures. `body` as received, before any parsing. */
function isSigned(keys: Buffer[], headers: IncomingHttpHeaders, body: Buffer): boolean {
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  if (!id || !/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE) return false;
  const given = header(headers, "webhook-signature").split(" ").map((text) => Buffer.from(text));
  return keys.some((key) => {
    const hmac = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body);
    const expected = Buffer.from(`v1,${hmac.digest("base64")}`);
    // Takes as long for a wrong signature as for a right one.
    return given.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
  });
}

/** Remembers deliveries, and what they changed. The file is all there is: it is read at the start, and appended to. */
class Store {
  readonly accounts = new Map<string, Set<string>>();
  private readonly seen = new Set<string>();
  private readonly file: number;

  constructor(path: string) {
    const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
    const whole = bytes.lastIndexOf("\n") + 1; // a crash may have left the beginning of a line, which was never answered
    if (whole < bytes.length) truncateSync(path, whole);
    for (const line of bytes.toString("utf8", 0, whole).split("\n").filter(Boolean)) this.apply(JSON.parse(line));
    this.file = openSync(path, "a", 0o600); // it holds bank data
  }

  /** Stores a delivery, and returns what became of it. When this returns, the delivery is on disk. */
  take(delivery: Delivery): string {
    if (this.seen.has(delivery.id)) return "repeat"; // at least once: it was stored before, and the answer was lost
    const line = Buffer.from(`${JSON.stringify(delivery)}\n`);
    const { size } = fstatSync(this.file);
    try {
      for (let written = 0; written < line.length; ) written += writeSync(this.file, line, written);
      fsyncSync(this.file);
    } catch (error) {
      ftruncateSync(this.file, size); // nothing of it stays: it comes again
      throw error;
    }
    return this.apply(delivery);
  }

  /** Your own effects. Here: which accounts each connection has. */
  private apply({ id, type, attributes, body }: Delivery): string {
    this.seen.add(id);
    if (type !== "com.linxo.connections.updated") return "other kind"; // a test, or a kind that you do not know yet
    if (attributes.linxostale === "true") return "stale"; // something newer of this connection came before: keep what you have
    const connection = decodeURIComponent(attributes.subject);
    if (attributes.linxocompletion === "gone") return "gone"; // the API does not know the connection any more
    const listed: { id?: unknown }[] = JSON.parse(body).resource.accounts ?? [];
    const ids = listed.flatMap((account) => (account?.id == null ? [] : [String(account.id)]));
    // Only a complete list says which accounts are gone.
    const isComplete = attributes.linxomismatch !== "true";
    this.accounts.set(connection, new Set([...(isComplete ? [] : (this.accounts.get(connection) ?? [])), ...ids]));
    return isComplete ? `${ids.length} accounts` : `${ids.length} accounts, may be incomplete`;
  }
}

function header(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  return typeof value === "string" ? value : "";
}

function main(): void {
  const file = process.env.WEBHOOK_SECRET_FILE;
  const secrets = (file ? readFileSync(file, "utf8") : (process.env.WEBHOOK_SECRET ?? "")).split(/\s+/).filter(Boolean);
  if (secrets.length === 0) throw new Error("set WEBHOOK_SECRET, or WEBHOOK_SECRET_FILE, to the secret of the sink");
  const keys = secrets.map((secret) => Buffer.from(secret.replace(/^whsec_/, ""), "base64"));
  const store = new Store(process.env.DATABASE ?? "./events.ndjson");

  const server = createServer(async (request, response) => {
    const answer = (status: number, outcome: string): void => {
      // What was not read whole cannot be followed by another request.
      response.writeHead(status, status === 200 ? {} : { connection: "close" }).end();
      // An id and a count; names, numbers and amounts do not belong into a log.
      console.log(status, JSON.stringify(header(request.headers, "webhook-id")), outcome);
    };
    try {
      if (request.method !== "POST" || request.url !== PATH) return answer(404, "no such path");
      const parts: Buffer[] = [];
      let length = 0;
      for await (const part of request) {
        length += part.length;
        if (length > LARGEST) return answer(413, "too long");
        parts.push(part);
      }
      const body = Buffer.concat(parts);
      if (!isSigned(keys, request.headers, body)) return answer(401, "not signed by a secret of ours, or too old");
      const named = Object.entries(request.headers).filter(([name]) => name.startsWith("ce-"));
      const attributes = Object.fromEntries(named.map(([name, value]) => [name.slice(3), String(value)]));
      const id = header(request.headers, "webhook-id");
      // Only then: a 2xx says that the delivery is on disk.
      answer(200, store.take({ id, type: attributes.type ?? "", attributes, body: body.toString() }));
    } catch (error) {
      // Disk full, caller gone: no delivery was stored, so it must come again.
      answer(503, String(error));
    }
  });

  const [, host, port] = /^(.*):(\d+)$/.exec(process.env.LISTEN ?? "127.0.0.1:3000") ?? [];
  server.listen(Number(port), host, () => {
    const address = server.address();
    console.log(`listening on http://${host}:${typeof address === "object" ? address?.port : port}${PATH}`);
  });
  process.on("SIGTERM", () => process.exit(0));
}

main();
