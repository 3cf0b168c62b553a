// A keeper that writes the prices which it reads from standard input, a line each:
//
//   DATABASE_URL=postgres://... lockkeeper run prices -- node keeper.mjs
//
// lockkeeper starts it when it has the lock, and ends it before another can have it.

import { createInterface } from "node:readline";
import pg from "pg";
import { schema, StaleTokenError, write } from "./prices.mjs";

const token = process.env.LOCKKEEPER_TOKEN;
if (!/^[1-9][0-9]*$/.test(token ?? "")) {
  console.error("no LOCKKEEPER_TOKEN: start it by lockkeeper run");
  process.exit(64);
}
const client = new pg.Client({
  connectionString: process.env.DATABASE_URL,
  connectionTimeoutMillis: 5_000,
  query_timeout: 5_000, // a database that hangs must not keep the keeper from stopping
});
client.on("error", (err) => {
  console.error(err.message);
  process.exit(1);
});
let ending = false;
let lines;
process.on("SIGTERM", () => {
  ending = true; // what is being written is finished; lockkeeper gives it --grace
  lines?.close();
});
try {
  await client.connect();
  await client.query(schema);
  lines = createInterface({ input: process.stdin }); // not earlier: it loses what it reads before the loop
  if (ending) lines.close();
  for await (const value of lines) {
    if (ending) break;
    await write(client, token, "ton-usd", value);
    console.log(`${value} written with token ${token}`);
  }
} catch (err) {
  console.error(err.message);
  // 76 is lockkeeper's own status for a lost lock.
  process.exitCode = err instanceof StaleTokenError ? 76 : 1;
} finally {
  await client.end();
}
process.exit(); // standard input may be open still
