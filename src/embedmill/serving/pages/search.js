// The search page: one request at a time; what was typed last wins. Catalog text only ever becomes text nodes.

const byId = (id) => document.getElementById(id);
const [text, where, image, drop, key, said, hits] = ["text", "where", "image", "drop", "key", "said", "hits"].map(byId);
const K = 24;
const QUIET_MS = 200;
const LONGEST = 160; // characters of a field that a card shows
const UNADDRESSED = [".", ".."]; // ids that every URL loses: only a body can hold them

let latest = 0;
let timer = 0;
let served = null; // the release that the head of the page tells of
let pictures = true; // whether any item of it has one
let last = null; // the query that is shown: () => Promise<Response>

function authorized() {
  return key.value ? { authorization: `Bearer ${key.value}` } : {};
}

async function ask(address, options = {}) {
  const headers = { ...(options.headers ?? {}), ...authorized() };
  const answer = await fetch(address, { ...options, headers });
  const body = parsed(await answer.text());
  if (answer.ok && body instanceof Object) return body;
  if (answer.status === 401) document.querySelectorAll(".key, #key").forEach((each) => (each.hidden = false));
  throw new Error(answer.ok ? `the server answered ${answer.status} with what is no JSON object` : refusal(answer.status, body));
}

// Why a request was refused: gateways have errors of other shapes than the server.
function refusal(status, body) {
  const error = body?.error;
  if (typeof error === "string" && error) return `the server answered ${status}: ${error}`;
  if (typeof error?.message !== "string" || !error.message) return `the server answered ${status} without a reason`;
  return typeof error.hint === "string" && error.hint ? `${error.message} (${error.hint})` : error.message;
}

// Texts, which are passed over, and numbers.
const TOKENS = /"[^"\\]*(?:\\[^][^"\\]*)*"|-?\d[\d.eE+-]*/g;

// What JSON says, undefined for what is none, as proxies answer. Integers that JavaScript would round stay as
// they were written, as texts: a rounded id is that of another item.
function parsed(json) {
  const rounded = (token) => /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));
  try {
    return JSON.parse(json.replace(TOKENS, (token) => (rounded(token) ? `"${token}"` : token)));
  } catch {
    return undefined;
  }
}

async function show(query, words) {
  const mine = ++latest;
  last = () => show(query, words);
  const started = performance.now();
  try {
    const found = await query();
    if (mine !== latest) return;
    if (!Array.isArray(found.hits)) throw new Error("the server answered with what has no hits");
    if (found.release !== served) await start(); // it was swapped
    if (mine !== latest) return;
    hits.replaceChildren(...found.hits.map(card));
    const ms = Math.round(performance.now() - started);
    const count = found.hits.length === 1 ? "1 hit" : `${found.hits.length} hits`;
    say(`${count} for ${words} in ${ms} ms, from release ${found.number ?? found.release}`);
  } catch (error) {
    if (mine === latest) refuse(error.message);
  }
}

// Hits of an earlier query are no answer to one that went wrong.
function refuse(words) {
  hits.replaceChildren();
  say(words, true);
}

function say(words, wrong = false) {
  said.textContent = words;
  said.classList.toggle("wrong", wrong);
}

function options() {
  return where.value.trim() ? { k: K, where: where.value } : { k: K };
}

function byText() {
  const typed = text.value;
  forgetImage();
  const headers = { "content-type": "application/json" };
  return show(() => {
    const body = JSON.stringify({ text: typed, ...options() });
    return ask("search", { method: "POST", body, headers });
  }, `“${typed}”`);
}

function forgetImage() {
  drop.querySelector("img")?.remove();
  drop.querySelector("span").hidden = false;
}

function byImage(file) {
  const preview = new Image();
  showFile(preview, file);
  preview.alt = "The image that is searched for";
  forgetImage();
  drop.querySelector("span").hidden = true;
  drop.append(preview);
  text.value = "";
  return show(() => {
    const form = new FormData();
    form.append("file", file);
    for (const [name, value] of Object.entries(options())) form.append(name, value);
    return ask("search/image", { method: "POST", body: form });
  }, "this image");
}

function byItem(id) {
  forgetImage();
  if (UNADDRESSED.includes(id)) return show(() => likeUnaddressed(id), `items like ${id}`);
  const address = `items/${encodeURIComponent(id)}/similar`;
  return show(() => ask(`${address}?${new URLSearchParams(options())}`), `items like ${id}`);
}

function likeUnaddressed(item) {
  const typed = options().where;
  const others = `id <> '${item}'`; // it would find itself, too
  const body = JSON.stringify({ item, k: K, where: typed ? `(${typed}\n) AND ${others}` : others });
  return ask("search", { method: "POST", body, headers: { "content-type": "application/json" } });
}

function card({ id, score, fields }) {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { className: "card", type: "button" });
  button.title = "Show what is like this item";
  button.addEventListener("click", () => byItem(id));
  if (pictures && !UNADDRESSED.includes(id)) button.append(pictureOf(id));
  const number = Object.assign(element("span", Number(score).toFixed(3)), { className: "score" });
  const head = Object.assign(document.createElement("span"), { className: "head" });
  head.append(element("strong", String(id)), number);
  button.append(head, facts(fields));
  item.append(button);
  return item;
}

function pictureOf(id) {
  const picture = new Image();
  picture.alt = "";
  picture.loading = "lazy";
  picture.addEventListener("error", () => picture.remove());
  showPicture(picture, `items/${encodeURIComponent(id)}/picture`);
  return picture;
}

async function showPicture(picture, address) {
  if (!key.value) {
    picture.src = address;
    return;
  }
  const answer = await fetch(address, { headers: authorized() }); // an <img> sends no key
  if (answer.ok) showFile(picture, await answer.blob());
  else picture.remove();
}

// The browser keeps a file for as long as it has an address.
function showFile(picture, file) {
  const address = URL.createObjectURL(file);
  for (const event of ["load", "error"]) picture.addEventListener(event, () => URL.revokeObjectURL(address));
  picture.loading = "eager"; // the file is here; what is never scrolled to would keep it
  picture.src = address;
}

function facts(fields) {
  const list = document.createElement("dl");
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null) list.append(element("dt", name), element("dd", shown(value)));
  }
  return list;
}

function shown(value) {
  let words = String(value);
  if (Array.isArray(value)) words = value.map(shown).join(", ");
  else if (value instanceof Object) words = JSON.stringify(value);
  // never half of a character that has two code units
  return words.length > LONGEST ? `${words.slice(0, LONGEST).replace(/[\uD800-\uDBFF]$/, "")}…` : words;
}

// `dir`: each text runs as its own letters do.
function element(name, words) {
  return Object.assign(document.createElement(name), { textContent: words, dir: "auto" });
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(() => (text.value.trim() ? byText() : undefined), QUIET_MS);
}

function files(event) {
  const found = [...(event.dataTransfer ?? event.clipboardData ?? image).files];
  const file = found.find((each) => each.type.startsWith("image/"));
  image.value = ""; // the same file may be chosen again
  if (file) byImage(file);
  return Boolean(file);
}

text.addEventListener("input", soon);
byId("query").addEventListener("submit", (event) => {
  event.preventDefault();
  if (text.value.trim()) byText();
});
where.addEventListener("change", () => last?.());
key.addEventListener("change", () => (last ? last() : start()));
image.addEventListener("change", files);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && !files(event)) refuse("that is no image");
  });
}
document.addEventListener("paste", (event) => {
  if (files(event)) event.preventDefault();
});

async function start() {
  try {
    const found = await ask("release");
    served = found.release;
    pictures = found.pictures ?? true; // servers of older versions do not say
    if (last === null) say(""); // what was wrong before, as a missing key
    byId("pipeline").textContent = found.pipeline;
    document.title = `${found.pipeline}: search`;
    const count = found.items.embedded;
    const items = count === 1 ? "1 item" : `${count.toLocaleString()} items`;
    byId("release").textContent = `release ${found.number ?? found.release}, ${items}, model ${found.model.name}`;
    document.querySelectorAll(".text, #text").forEach((each) => (each.hidden = !found.queries.text));
    drop.hidden = !found.queries.image;
  } catch (error) {
    say(error.message, true);
  }
}

start();
