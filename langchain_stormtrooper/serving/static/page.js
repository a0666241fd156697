// The page: what is on the screen, and what happens when somebody presses a button. Texts, answers and the key live in
// this module's variables and nowhere else.

import { askInfo, classify, inRequests, Refusal } from "./asking.js";
import { save, toCSV } from "./csv.js";
import { LabelEditor } from "./labels.js";
import { element } from "./making.js";
import { makeRow, REASONS, showAnswer, showWaiting } from "./rows.js";

const ANNOUNCE_EVERY = 5000;
const BODY_RESERVE = 1024;

const at = (id) => document.getElementById(id);
const editor = new LabelEditor(at("labels"), () => {
  at("reset-labels").hidden = !isChanged();
});

let key = null;
let info = null;
/** What was asked last: its rows `{text, answer, item}`, labels, settings, and the controller while it runs. */
let run = null;

// What the server classifies.

async function connect() {
  tell(null);
  at("reconnect").hidden = true;
  try {
    info = await askInfo(key);
  } catch (error) {
    if (error.status === 401) return askKey(error);
    tell(error.message);
    at("reconnect").hidden = false;
    return;
  }
  const hadKeyForm = !at("key-section").hidden;
  at("key-section").hidden = true;
  const model = info.model_id ? `Model ${info.model_id}` : "The model is not known yet";
  const method = { score: "scores every label", constrain: "chooses among the labels", generate: "writes an answer" };
  at("about").textContent = method[info.method] ? `${model}, which ${method[info.method]}.` : `${model}.`;
  at("version").textContent = `langchain-stormtrooper ${info.version ?? ""}`;
  if (at("task").hidden) showTask();
  if (hadKeyForm) at("texts").focus();
}

function askKey(error) {
  const refused = key !== null;
  key = null;
  at("key").value = "";
  at("key-section").hidden = false;
  at("about").textContent = "The server tells who has its key what it classifies.";
  tell(refused ? "The server does not accept this key." : null);
  if (!refused && error) announce("This server asks for a key.");
  at("key").focus();
}

function showTask() {
  at("task").hidden = false;
  showLabels();
  const fixed = isFixed();
  at("fixed").hidden = !fixed;
  at("add-label").hidden = fixed;
  at("text-kind").readOnly = at("label-kind").readOnly = fixed;
}

function showLabels() {
  editor.show(info.labels, isFixed());
  at("text-kind").value = info.text_kind ?? "";
  at("label-kind").value = info.label_kind ?? "";
  at("reset-labels").hidden = true;
}

const isFixed = () => info.labels_may_be_given === false;

function settings() {
  const kinds = { text_kind: at("text-kind").value.trim(), label_kind: at("label-kind").value.trim() };
  return { labels: editor.read(), text_kind: kinds.text_kind || info.text_kind, label_kind: kinds.label_kind || info.label_kind };
}

const own = () => ({
  labels: info.labels.map(({ name, description }) => ({ name, description: description || null })),
  text_kind: info.text_kind,
  label_kind: info.label_kind,
});

const isChanged = () => JSON.stringify(settings()) !== JSON.stringify(own());

// Texts.

function readTexts() {
  const separator = document.querySelector("input[name=separator]:checked").value === "line" ? /\r?\n/ : /\r?\n(?:[ \t]*\r?\n)+/;
  return at("texts")
    .value.split(separator)
    .map((text) => text.trim())
    .filter(Boolean)
    .map((text) => text.toWellFormed?.() ?? text);
}

function countTexts() {
  const count = readTexts().length;
  at("texts-count").textContent = count === 0 ? "No texts yet." : count === 1 ? "1 text." : `${count} texts.`;
}

// Asking.

function start() {
  if (run?.controller) return;
  tell(null);
  const wrong = isFixed() ? null : editor.check();
  const texts = readTexts();
  const asked = settings();
  const changed = isChanged();
  const most = changed ? (info.limits?.max_labels ?? Infinity) : Infinity;
  if (texts.length === 0) return refuse("Write or paste a text first.", at("texts"));
  if (wrong) return refuse("Some labels cannot be used: see the marked ones.", wrong);
  if (asked.labels.length < 2) return refuse("A choice needs at least two labels.", at("add-label"));
  if (asked.labels.length > most) return refuse(`This server takes at most ${most} labels.`, at("add-label"));
  run = {
    // What was not changed is not sent: then the server's own classifier answers, with what it has learnt.
    sent: changed ? asked : {},
    labels: asked.labels.map(({ name }) => name),
    rows: texts.map((text, index) => ({ text, answer: null, item: makeRow(index, text) })),
    controller: null,
  };
  at("rows").replaceChildren(...run.rows.map(({ item }) => item));
  at("results").hidden = at("skip").hidden = false;
  ask(run.rows);
}

function refuse(message, input) {
  tell(message);
  input.focus();
}

async function ask(rows) {
  const asked = run;
  const controller = new AbortController();
  asked.controller = controller;
  for (const row of rows) {
    row.answer = null;
    showWaiting(row.item);
  }
  showRunning(true);
  announce(`Asking about ${count(rows.length, "text")}.`);
  let problem = null;
  const limits = info.limits ?? {};
  const bytes = (limits.max_body_bytes ?? 2 ** 20) - new TextEncoder().encode(JSON.stringify(asked.sent)).length - BODY_RESERVE;
  try {
    for (const part of inRequests(rows, limits.max_texts ?? 1000, bytes)) {
      const body = JSON.stringify({ texts: part.map(({ text }) => text), ...asked.sent });
      // Room for texts there is, and this one alone needs more: its neighbours are asked all the same.
      if (part.length === 1 && bytes > 0 && new TextEncoder().encode(body).length > limits.max_body_bytes) {
        part[0].answer = { label: null, reason: "oversized" };
        paint(part[0]);
        continue;
      }
      const onBusy = (seconds) => {
        progressNote = `The server is busy: asking again in ${seconds} s.`;
        announce(progressNote);
        showProgress();
      };
      for await (const answer of classify(body, { key, signal: controller.signal, onBusy })) {
        const row = part[answer.index];
        if (!row) throw new Refusal("The server answered for a text that was not asked.");
        progressNote = "";
        row.answer = answer;
        paint(row);
      }
      if (part.some(({ answer }) => !answer)) {
        throw new Refusal("The connection to the server ended before all texts were answered.");
      }
    }
  } catch (error) {
    problem = controller.signal.aborted ? "Cancelled." : error instanceof Refusal ? error : new Refusal(String(error));
    // Whatever still comes is not read: the server need not work on it.
    controller.abort();
  }
  asked.controller = null;
  progressNote = "";
  paintNow();
  for (const row of rows) if (!row.answer) showAnswer(row.item, { reason: "unanswered" }, asked.labels);
  showRunning(false);
  finish(problem);
}

function finish(problem) {
  const open = run.rows.filter(({ answer }) => !answer).length;
  const done = `${run.rows.length - open} of ${count(run.rows.length, "text")} answered.`;
  if (problem instanceof Refusal) {
    tell(`${problem.message}${problem.status === 429 ? " It stayed busy: try again later." : ""} ${done}`);
    if (problem.status === 401) askKey(null);
  } else {
    announce(problem ? `${problem} ${done}` : done);
  }
}

function cancel() {
  run?.controller?.abort();
}

// What is on the screen while answers come: painted once a frame, however many have come.

let progressNote = "";
let lastAnnounced = 0;
const toPaint = new Set();

function paint(row) {
  if (toPaint.size === 0) requestAnimationFrame(paintNow);
  toPaint.add(row);
}

function paintNow() {
  for (const row of toPaint) if (row.answer) showAnswer(row.item, row.answer, run.labels);
  toPaint.clear();
  showProgress();
  if (run.controller && Date.now() - lastAnnounced > ANNOUNCE_EVERY) announce(at("progress-text").textContent);
}

function showRunning(running) {
  const hadFocus = document.activeElement;
  at("classify").disabled = running;
  at("cancel").hidden = !running;
  at("shortcut").hidden = running;
  at("progress").hidden = !running;
  at("results").setAttribute("aria-busy", String(running));
  showProgress();
  // Who uses the keyboard stays where the next step is.
  if (running && (hadFocus === at("classify") || hadFocus === at("again"))) at("cancel").focus();
  if (!running && hadFocus === at("cancel")) at("classify").focus();
}

function showProgress() {
  const answered = run.rows.filter(({ answer }) => answer);
  const total = run.rows.length;
  at("progress").max = total;
  at("progress").value = answered.length;
  at("progress-text").textContent = `${answered.length} of ${total} ${progressNote}`.trim();
  showSummary(answered);
  const open = retriable().length;
  at("again").hidden = Boolean(run.controller) || open === 0;
  at("again").textContent = `Ask again for ${count(open, "text")}`;
  at("download").disabled = Boolean(run.controller);
}

function showSummary(answered) {
  const counts = new Map(run.labels.map((name) => [name, 0]));
  const missing = new Map();
  for (const { answer } of answered) {
    const into = answer.reason ? missing : counts;
    const what = answer.reason ?? answer.label;
    into.set(what, (into.get(what) ?? 0) + 1);
  }
  const open = run.controller ? 0 : run.rows.length - answered.length;
  if (open) missing.set("unanswered", open);
  const figure = (name, number, className) =>
    element("div", { className }, [
      element("dt", { dir: "auto" }, [name]),
      element("dd", {}, [String(number)]),
    ]);
  at("summary").replaceChildren(
    ...[...counts].map(([name, number]) => figure(name, number, number ? "" : "zero")),
    ...[...missing].map(([reason, number]) => figure(`No label: ${REASONS[reason]?.short ?? reason}`, number, "missing")),
  );
}

const retriable = () => run.rows.filter(({ answer }) => !answer || answer.reason === "failed");

const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

// Telling.

/** Show what is wrong, or with null that nothing is. */
function tell(message) {
  at("problem").hidden = message === null;
  at("problem-text").textContent = message ?? "";
}

/** Say something to those who listen to the page. */
function announce(message) {
  lastAnnounced = Date.now();
  at("status").textContent = message;
}

// Buttons and keys.

at("task").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
at("texts").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    start();
  }
});
at("texts").addEventListener("input", countTexts);
for (const radio of document.querySelectorAll("input[name=separator]")) radio.addEventListener("change", countTexts);
for (const id of ["text-kind", "label-kind"]) {
  at(id).addEventListener("input", () => {
    at("reset-labels").hidden = !isChanged();
  });
}
at("add-label").addEventListener("click", () => editor.add().focus());
at("reset-labels").addEventListener("click", () => {
  showLabels();
  at("labels").querySelector("input").focus();
});
at("cancel").addEventListener("click", cancel);
at("again").addEventListener("click", () => {
  tell(null);
  ask(retriable());
});
at("download").addEventListener("click", () => save(toCSV(run.rows, run.labels), "classified.csv"));
at("reconnect").addEventListener("click", connect);
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = at("key").value.trim();
  if (/[^\x20-\x7E]/.test(given)) return refuse("A key has ASCII characters only: look at what was pasted.", at("key"));
  key = given || null;
  if (key) connect();
});

connect();
