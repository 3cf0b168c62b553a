// A keeper of which one copy works at a time:
//
//   lockkeeper lead prices --listen 127.0.0.1:4040 &
//   node keeper.mjs http://127.0.0.1:4040 prices.log

import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { lead } from "./leadership.mjs";

const [address, file] = process.argv.slice(2);
if (!file) {
  console.error("usage: node keeper.mjs http://127.0.0.1:4040|unix:/path FILE");
  process.exit(64);
}
const ending = new AbortController();
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => ending.abort());

async function work(term) {
  console.log(`leading with token ${term.token}`);
  while (term.leads()) {
    appendFileSync(file, `${term.token} ${process.pid}\n`); // the work; the token goes with it
    await sleep(50, undefined, { signal: term.signal }).catch(() => {});
  }
  console.log(term.signal.reason.message);
}

await lead(address, work, {
  signal: ending.signal,
  report: (err) => console.error(err.message),
});
