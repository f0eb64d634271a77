// The serial console of a machine, live. The server carries the characters;
// xterm.js draws them. Nothing is typed before somebody takes the keyboard.

const $ = (id) => document.getElementById(id);
const place = $("terminal"), state = $("serial-state"), keyboard = $("keyboard"), brk = $("break"), take = $("take");

// The policy of this page allows style elements with its nonce, and no style
// attributes. xterm.js makes both: the elements get the nonce, and the attributes
// go the way that scripts may.
const make = document.createElement.bind(document);
document.createElement = (name, options) => {
  const el = make(name, options);
  if (name === "style") el.nonce = place.dataset.nonce;
  return el;
};
const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

const { Terminal } = await import(place.dataset.xterm);
const term = new Terminal({
  cols: 80, rows: 25, scrollback: 5000, disableStdin: true, cursorBlink: false,
  fontFamily: getComputedStyle(document.body).getPropertyValue("--mono"), fontSize: 14,
  linkHandler: { activate: () => {} }, // where a machine's links lead is its own affair
});
term.open(place);

// --- the line

let socket, typing = false, pause = 1000, over = false;

function connect(takeIt) {
  const at = new URL(place.dataset.socket, location);
  at.protocol = at.protocol === "https:" ? "wss:" : "ws:";
  if (takeIt) at.searchParams.set("take", "1");
  over = false;
  take.hidden = true;
  say("off", "connecting");
  socket = new WebSocket(at, "console.v1.provision");
  socket.binaryType = "arraybuffer";
  socket.addEventListener("message", (e) => {
    if (typeof e.data === "string") hear(JSON.parse(e.data));
    else show(new Uint8Array(e.data));
  });
  socket.addEventListener("close", () => {
    keep(false);
    keyboard.disabled = true;
    if (over) return;
    say("off", "connection lost, trying again");
    setTimeout(() => connect(false), pause);
    pause = Math.min(2 * pause, 30000);
  });
}

// An empty black field says nothing about a machine that was never reached.
const live = $("live-console");
live.dataset.empty = "";

function show(data) {
  delete live.dataset.empty;
  term.write(data);
}

function hear(m) {
  if (m.ready) {
    pause = 1000;
    delete live.dataset.empty;
    term.reset();
    keyboard.disabled = false;
    say("on", "watching");
  }
  if (m.notice) note(m.notice);
  if (m.writers !== undefined) say("on", m.writers ? `typing: ${m.writers}` : "watching, nobody types");
  if (m.error) {
    over = true;
    take.hidden = !["E-SOL-HELD", "E-SOL-TAKEN"].includes(m.error.code);
    say("off", "not connected");
    complain(m.error);
    again.hidden = false;
  }
}

function say(kind, text) {
  state.className = "live " + kind;
  state.textContent = text;
}

const said = $("serial-note");

function note(text) {
  said.className = "";
  said.textContent = text;
}

// complain shows an error: what it is called, what is the matter, what to do.
function complain(e) {
  const lines = [["code", e.code], ["strong", e.detail ?? e.title], ["span", e.hint]].filter(([, text]) => text);
  said.className = "error";
  said.replaceChildren(...lines.map(([tag, text]) => {
    const line = document.createElement("p"), what = document.createElement(tag);
    what.textContent = text;
    line.append(what);
    return line;
  }));
}

const again = $("again");
again.addEventListener("click", () => { again.hidden = true; note(""); connect(false); });
take.addEventListener("click", () => { again.hidden = true; note(""); connect(true); });

// --- the keyboard

const bytes = new TextEncoder();
const longest = 1024; // of one message: a paste is cut into several

function keep(on) {
  typing = on;
  term.options.disableStdin = !on;
  term.options.cursorBlink = on;
  brk.disabled = !on;
  keyboard.textContent = on ? "Let go of the keyboard" : "Take the keyboard";
  keyboard.setAttribute("aria-pressed", String(on));
}

function order(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

keyboard.addEventListener("click", () => {
  keep(!typing);
  order({ keyboard: typing });
  if (typing) term.focus();
});
brk.addEventListener("click", () => {
  order({ break: true });
  term.focus();
});

term.onData((text) => {
  if (!typing || socket?.readyState !== WebSocket.OPEN) return;
  const all = bytes.encode(text);
  for (let i = 0; i < all.length; i += longest) socket.send(all.slice(i, i + longest));
});

// Every key goes to the machine while somebody types, so there is one that leads
// out; while nobody does, Tab goes on to the next button as everywhere.
term.attachCustomKeyEventHandler((e) => {
  if (!typing) return e.key !== "Tab";
  if (e.type === "keydown" && e.ctrlKey && e.altKey && e.key.toLowerCase() === "k") {
    keyboard.click();
    keyboard.focus();
    return false;
  }
  return true;
});

live.hidden = false;
connect(false);
