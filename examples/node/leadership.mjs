// Leads while the `lockkeeper lead` beside this program reports that it does. It needs Node 18
// and nothing else.

import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

// The monotonic clock, in milliseconds: no change of the wall clock makes a term longer.
const now = () => performance.now();

// Term is one term of this program. Its end is final.
class Term {
  #until;
  #timer;
  #end = new AbortController();

  constructor(token, until) {
    this.token = token; // the fencing token, as text: send it with each write
    this.#until = until;
    this.#arm();
  }

  // signal aborts when the work has to stop.
  get signal() {
    return this.#end.signal;
  }

  // leads looks at the clock, because a timer comes late where the event loop is held up or the
  // process was stopped. Ask it right before each step that two programs must not do.
  leads() {
    if (!this.signal.aborted && now() >= this.#until) this.end("not certain any more");
    return !this.signal.aborted;
  }

  // extend is for an answer by which this program leads until then.
  extend(until) {
    if (!this.leads()) return; // the work may have seen that already
    this.#until = Math.max(this.#until, until);
    this.#arm();
  }

  end(why) {
    clearTimeout(this.#timer);
    this.#end.abort(new Error(`the term with token ${this.token} is over: ${why}`));
  }

  #arm() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.leads() && this.#arm(), Math.max(1, this.#until - now()));
  }
}

// request sends one to address, http://host:port or unix:/path of `lockkeeper lead --listen`.
function request(address, method, path, signal) {
  const unix = address.startsWith("unix:") && address.slice("unix:".length);
  const where = unix ? { socketPath: unix, host: "localhost" } : { host: new URL(address).hostname.replace(/^\[|\]$/g, ""), port: new URL(address).port };
  return new Promise((resolve, reject) => {
    http
      .request({ ...where, method, path, signal, agent: false, timeout: 60_000 }, resolve)
      .on("timeout", function () {
        this.destroy(new Error(`${address} has been silent for a minute`)); // a stream says something every 15s
      })
      .on("error", reject)
      .end();
  });
}

// answers are those of one stream.
async function* answers(address, signal) {
  const response = await request(address, "GET", "/events", signal);
  if (response.statusCode !== 200) {
    response.resume();
    throw new Error(`${address} answers with status ${response.statusCode}`);
  }
  response.setEncoding("utf8");
  let rest = "";
  for await (const piece of response) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ")) yield JSON.parse(line.slice("data: ".length));
    }
  }
}

// stopped reports that the work of the term with that token has stopped. Without it the next
// leader waits until the time of the last answer and --grace are over.
async function stopped(address, token) {
  try {
    (await request(address, "POST", `/stopped?token=${token}`, AbortSignal.timeout(1000))).resume();
  } catch {
    // It is not there any more, and its lease ends by itself.
  }
}

// lead calls work(term) for one term after another, one at a time, until signal aborts. work
// has to return soon after term.signal has aborted; when it returns, the term is given up.
export async function lead(address, work, { signal, report = () => {} }) {
  let term;
  let working;
  let reported;
  const stop = () => term?.end("this program ends");
  signal.addEventListener("abort", stop);
  const begin = (token, until) => {
    term = new Term(token, until);
    working = (async () => {
      try {
        await work(term);
      } catch (err) {
        report(err);
      } finally {
        term.end("the work has returned");
        await stopped(address, token);
      }
    })();
  };
  while (!signal.aborted) {
    // Taken before the request is sent: certain_ms counts from a later moment, when the request
    // is received. So what this program takes for certain ends no later than what is.
    const sent = now();
    try {
      for await (const answer of answers(address, signal)) {
        reported = undefined;
        const until = sent + answer.certain_ms;
        if (!answer.leading) {
          term?.end("this copy does not lead any more");
        } else if (term?.token === answer.token) {
          term.extend(until);
        } else {
          term?.end("another term has begun");
          await working; // one at a time
          if (now() < until) begin(answer.token, until);
        }
      }
    } catch (err) {
      if (!signal.aborted && err.message !== reported) report(err);
      reported = err.message;
    }
    // The stream has ended. The term goes on until the moment of its last answer.
    await sleep(200, undefined, { signal }).catch(() => {});
  }
  stop();
  await working;
}
