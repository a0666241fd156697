// The answers as CSV (RFC 4180), for spreadsheets: a byte order mark, CRLF, and no cell that runs as a formula.

const FIELDS = [
  "label",
  "reason",
  "method",
  "match",
  "confidence",
  "covered_mass",
  "truncated",
  "prompt_tokens",
  "generated_tokens",
  "generation",
  "error",
];
// Full-width signs count too: some spreadsheets fold them.
const FORMULA = /^\s*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]|^[\t\r\n]/u;

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const safe = FORMULA.test(value) ? "'" + value : value;
  return /[",\r\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

/**
 * All rows as one CSV text.
 * @param {{text: string, answer: object|null}[]} rows in order; a row without an answer has the reason "unanswered".
 * @param {string[]} labels the names, in order; each is a column "probability of NAME".
 * @returns {string}
 */
export function toCSV(rows, labels) {
  const head = ["row", "text", ...FIELDS, ...labels.map((name) => "probability of " + name)];
  const lines = rows.map(({ text, answer }, index) => {
    const said = answer ?? { reason: "unanswered" };
    const shares = labels.map((name) => said.probabilities?.[name]);
    return [index + 1, text, ...FIELDS.map((field) => said[field]), ...shares];
  });
  return "\uFEFF" + [head, ...lines].map((line) => line.map(cell).join(",") + "\r\n").join("");
}

/** Let the browser save a text as a file. */
export function save(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
