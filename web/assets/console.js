// The console, alive. The server renders; this puts what it sends in place,
// counts seconds, and keeps its hands off what is being read.

const $ = (id) => document.getElementById(id);
const rows = $("rows"), feed = $("feed"), query = $("q");
const skew = Number(document.body.dataset.now) - Date.now() / 1000; // clocks differ
const maxFeed = 200;

// parse makes an element of the server's HTML.
function parse(html) {
  const t = document.createElement("template");
  t.innerHTML = html;
  return t.content.firstElementChild;
}

// --- the stream

let stream;

function connect() {
  stream?.close();
  const at = new URL("/live", location);
  at.search = location.search;
  const last = feed.firstElementChild?.dataset.seq;
  if (last) at.searchParams.set("since", last);
  stream = new EventSource(at);
  stream.addEventListener("open", () => status("on", "live"));
  stream.addEventListener("error", () => {
    status("off", "offline, retrying");
    if (stream.readyState === EventSource.CLOSED) setTimeout(checkSession, 3000);
  });
  stream.addEventListener("row", (e) => place(parse(e.data)));
  stream.addEventListener("gone", (e) => $(e.data)?.remove());
  stream.addEventListener("runs", (e) => { $("runs").innerHTML = e.data; tick(); });
  stream.addEventListener("alarms", (e) => { $("alarms").innerHTML = e.data; });
  stream.addEventListener("counts", (e) => { $("counts").innerHTML = e.data; });
  stream.addEventListener("tabs", (e) => { $("tabs").innerHTML = e.data; });
  stream.addEventListener("feed", (e) => hear(parse(e.data)));
  stream.addEventListener("reset", () => refresh());
}

function status(state, text) {
  const el = $("live");
  if (el.textContent === text) return;
  el.className = "live " + state;
  el.textContent = text;
}

// checkSession finds out whether the server is away or does not know us any more.
async function checkSession() {
  try {
    const res = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (res.redirected) location.reload();
    else if (res.ok) connect();
    else setTimeout(checkSession, 5000);
  } catch {
    setTimeout(checkSession, 5000);
  }
}

// --- the table

let reading = false; // the pointer or the focus is in the table: rows stay where they are
rows.addEventListener("pointerenter", () => { reading = true; });
rows.addEventListener("pointerleave", () => { reading = rows.contains(document.activeElement); });
rows.addEventListener("focusin", () => { reading = true; });
rows.addEventListener("focusout", () => { reading = rows.matches(":hover"); });

function place(row) {
  const old = $(row.id);
  if (old && old.dataset.v === row.dataset.v) return;
  if (row.id === selected()) row.dataset.selected = "";
  const focused = old?.contains(document.activeElement) ? document.activeElement.tagName : "";
  if (old && (reading || old.dataset.order === row.dataset.order)) {
    old.replaceWith(row);
  } else {
    old?.remove();
    const next = [...rows.children].find((r) => r.dataset.order > row.dataset.order);
    rows.insertBefore(row, next ?? null);
    document.querySelector(".empty")?.remove();
  }
  if (focused) row.querySelector(focused)?.focus();
  if (row.id === selected()) show(row.id);
  tick();
}

// --- one node beside the table

const selected = () => new URLSearchParams(location.search).get("node");
let showing;

async function show(id) {
  clearTimeout(showing);
  const at = new URL("/nodes/" + encodeURIComponent(id) + location.search, location);
  at.searchParams.set("part", "panel");
  const res = await fetch(at);
  if (!res.ok || id !== selected()) return;
  $("panel").innerHTML = await res.text();
  tick();
}

function select(id) {
  const at = new URL(location);
  if (id) at.searchParams.set("node", id);
  else at.searchParams.delete("node");
  history.replaceState(null, "", at);
  for (const r of rows.querySelectorAll("[data-selected]")) delete r.dataset.selected;
  if (!id) {
    $("panel").replaceChildren();
    return;
  }
  const row = $(id);
  if (row) row.dataset.selected = "";
  show(id);
}

document.addEventListener("click", (e) => {
  if (e.ctrlKey || e.metaKey || e.shiftKey || e.button !== 0) return;
  const link = e.target.closest("a[data-node], a.close");
  if (!link) return;
  e.preventDefault();
  select(link.dataset.node ?? "");
});

// --- the search

let typing;
query.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 250);
});

function search() {
  const at = new URL(location);
  at.searchParams.delete("page");
  if (query.value.trim()) at.searchParams.set("q", query.value.trim());
  else at.searchParams.delete("q");
  if (at.href === location.href) return;
  history.replaceState(null, "", at);
  refresh();
}

// refresh takes the page anew and puts its parts in place, without moving
// the focus.
async function refresh() {
  const href = location.href;
  const res = await fetch(href, { headers: { Accept: "text/html" } });
  if (res.redirected) return location.reload();
  const page = new DOMParser().parseFromString(await res.text(), "text/html");
  if (href !== location.href) return; // typed on
  for (const id of ["tabs", "counts", "runs", "q-problem", "paging", "feed"]) {
    const from = page.getElementById(id);
    if (from) $(id).replaceChildren(...from.childNodes);
  }
  rows.replaceChildren(...page.getElementById("rows").childNodes);
  document.querySelector(".empty")?.remove();
  const empty = page.querySelector(".empty");
  if (empty) $("nodes").append(empty);
  tick();
  connect();
}

document.addEventListener("keydown", (e) => {
  if (e.key === "/" && !e.ctrlKey && !e.metaKey && !e.altKey && !e.target.closest("input, textarea, select")) {
    e.preventDefault();
    query.focus();
    query.select();
  }
  if (e.key === "Escape") {
    if (document.activeElement === query) query.blur();
    else if (selected()) select("");
  }
});

// --- the feed: it does not move while it is read

let held = [];
const more = $("feed-more");

function hear(item) {
  const seq = item.dataset.seq;
  if (seq && feed.querySelector(`[data-seq="${CSS.escape(seq)}"]`)) return;
  if (feed.matches(":hover") || feed.scrollTop > 0 || feed.contains(document.activeElement)) {
    held.push(item);
    if (held.length > maxFeed) held.shift();
    more.textContent = `${held.length} new, show`;
    more.hidden = false;
    return;
  }
  release();
  feed.prepend(item);
  while (feed.children.length > maxFeed) feed.lastElementChild.remove();
}

function release() {
  for (const item of held) feed.prepend(item);
  held = [];
  more.hidden = true;
}

more.addEventListener("click", () => {
  release();
  feed.scrollTop = 0;
});

// --- letting machines in, without leaving the page

document.addEventListener("submit", async (e) => {
  const form = e.target;
  if (!form.matches("form.approve")) return;
  e.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  const res = await fetch(form.action, {
    method: "POST",
    body: new URLSearchParams(new FormData(form)),
    headers: { Accept: "application/problem+json" },
  }).catch(() => null);
  if (res?.ok) return; // the stream brings the row
  const problem = await res?.json().catch(() => null);
  const note = form.querySelector("small") ?? form.appendChild(document.createElement("small"));
  note.textContent = [problem?.detail ?? "the server does not answer", problem?.hint].filter(Boolean).join(" — ");
  button.disabled = false;
});

// --- seconds

function duration(s) {
  s = Math.max(0, Math.round(s));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
  return `${Math.floor(s / 3600)}h${two(Math.floor(s / 60) % 60)}m`;
}

function tick() {
  const now = Date.now() / 1000 + skew;
  for (const el of document.querySelectorAll("[data-since]")) el.textContent = duration(now - Number(el.dataset.since));
  for (const line of document.querySelectorAll("[data-grows]")) {
    const last = line.querySelector("rect:last-of-type");
    const x = parseFloat(last.getAttribute("x"));
    const w = ((now - Number(line.dataset.grows)) / Number(line.dataset.scale)) * 100;
    last.setAttribute("width", `${Math.max(0.4, Math.min(100 - x, w)).toFixed(1)}%`);
  }
}

setInterval(tick, 1000);

// --- dark or light

const theme = $("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
});

connect();
