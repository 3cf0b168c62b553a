// The page is whole without this: it only brings the parts that the server has rendered
// anew, as they change. Names in them are escaped there.
"use strict";

const live = document.querySelector(".live");
const liveText = document.getElementById("live-text");
const lost = document.getElementById("lost");
const pause = document.getElementById("pause");
const announce = document.getElementById("announce");
const title = document.body.dataset.title.replace(/^.* nodes · |^no answer · /, "");

let source = null; // the stream; null: there is none
let address = document.body.dataset.stream;
let retry = 0;
let latest = new Date(); // when the last message came

function connect() {
  close();
  if (document.hidden || pause.getAttribute("aria-pressed") === "true") return;
  source = new EventSource(address);
  source.onopen = () => show("on", "live");
  source.onerror = () => {
    show("off", "not connected");
    document.getElementById("lost-at").textContent = latest.toTimeString().slice(0, 8);
    lost.hidden = false;
    // The browser comes back by itself, but not from an answer that is no stream.
    if (source.readyState === EventSource.CLOSED) retry = setTimeout(connect, 5000);
  };
  for (const part of document.querySelectorAll("[data-part]")) {
    source.addEventListener(part.dataset.part, (message) => {
      latest = new Date();
      lost.hidden = true;
      update(part, message.data);
    });
  }
}

function close() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
}

function show(state, text) {
  live.className = "live " + state;
  liveText.textContent = text;
}

function update(part, html) {
  const first = part.querySelector(".events > li")?.textContent;
  const template = document.createElement("template");
  template.innerHTML = html;
  morph(part, template.content);
  const figures = part.querySelector("[data-title]");
  if (figures) document.title = figures.dataset.title + title;
  if (part.dataset.part === "events") say(part.querySelectorAll(".events > li"), first);
}

// morph makes the children of node those of next, and keeps the elements that stay: so
// focus, selection, scrolling, and what is unfolded stay, too.
function morph(node, next) {
  const keyed = new Map();
  for (const child of node.children) if (child.id) keyed.set(child.id, child);
  let at = node.firstChild;
  for (const want of [...next.childNodes]) {
    let have = want.id ? keyed.get(want.id) : at;
    if (!want.id) while (have && have.id) have = have.nextSibling; // it may be wanted later
    if (have && have.nodeName === want.nodeName) {
      if (have !== at) node.insertBefore(have, at);
      else at = at.nextSibling;
      sync(have, want);
    } else {
      node.insertBefore(want, at);
    }
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

function sync(have, want) {
  if (have.nodeType !== Node.ELEMENT_NODE) {
    if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
    return;
  }
  for (const { name } of [...have.attributes]) {
    if (!want.hasAttribute(name) && name !== "open") have.removeAttribute(name);
  }
  for (const { name, value } of want.attributes) {
    if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  morph(have, want);
}

// say lets a screen reader know of what is new, at most every five seconds: the latest
// event, and how many there were besides.
let unsaid = 0;
let saying = 0;
function say(events, first) {
  for (const event of events) {
    if (event.textContent === first) break;
    unsaid++;
  }
  if (unsaid && !saying) {
    const speak = () => {
      saying = 0;
      if (!unsaid) return;
      const text = document.querySelector(".events > li")?.textContent ?? "";
      announce.textContent = unsaid > 1 ? unsaid + " events, the latest: " + text : text;
      unsaid = 0;
      saying = setTimeout(speak, 5000);
    };
    speak();
  }
}

// A page that nobody sees needs no stream: browsers have six for a server.
document.addEventListener("visibilitychange", connect);
// One that is kept to go back to must not show what was.
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });

pause.hidden = false;
pause.addEventListener("click", () => {
  const on = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", on);
  if (on) show("", "paused at " + latest.toTimeString().slice(0, 8));
  connect();
});

const filter = document.getElementById("filter");
if (filter) {
  const input = document.getElementById("prefix");
  let typing = 0;
  const apply = () => {
    clearTimeout(typing);
    const query = new URLSearchParams(new FormData(filter));
    for (const name of ["prefix", "sort"]) if (!query.get(name)) query.delete(name);
    const text = query.size ? "?" + query : "";
    history.replaceState(null, "", "./" + text);
    address = "stream" + text;
    connect();
  };
  input.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(apply, 250); });
  filter.addEventListener("submit", (event) => {
    if (pause.getAttribute("aria-pressed") === "true") return; // as a link would
    event.preventDefault();
    apply();
  });
  filter.querySelector("button").hidden = true;
}

connect();
