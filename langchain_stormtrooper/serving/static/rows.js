// One row of the results: the text, its label or why it has none, the probabilities, and how the answer came about.

import { element, percent } from "./making.js";

const LONG_TEXT = 400;
const SHOWN_BARS = 6;

export const REASONS = {
  overlong: {
    short: "too long",
    why: "This text, with the instruction, has more tokens than the model takes.",
    todo: "Shorten it, or have the server cut texts that are too long.",
  },
  oversized: {
    short: "too long",
    why: "This text is longer than a request to this server may be; it was not sent.",
    todo: "Shorten it, or raise the server’s limit.",
  },
  unmatched: {
    short: "no match",
    why: "The model’s answer is none of the labels, or more than one.",
    todo: "Name the labels as the model would, describe them, or add one such as “other”.",
  },
  low_confidence: {
    short: "not sure enough",
    why: "No label is as probable as this server demands.",
    todo: "Describe the labels so that they differ more, or lower the server’s threshold.",
  },
  failed: { short: "failed", why: "The model could not be asked about this text.", todo: "Ask again." },
  unanswered: { short: "not answered", why: "No answer came for this text.", todo: "Ask again." },
};

const METHODS = {
  score: "The model scored every label.",
  constrain: "The model chose, and could write nothing but a label.",
};

const MATCHES = {
  exact: ", which is exactly this label.",
  normalized: ", which is this label but for case, punctuation or words around it.",
  named: ", which names this label and no other.",
  fuzzy: ", which is nearly spelled like this label.",
};

/** An empty row, waiting for its answer. */
export function makeRow(position, text) {
  const shown = element("p", { className: "text", dir: "auto" }, [text.slice(0, LONG_TEXT)]);
  const item = element("li", { className: "row waiting" }, [
    element("span", { className: "number", ariaHidden: "true" }, [String(position + 1)]),
    element("div", { className: "said" }, [shown]),
    element("div", { className: "answer" }, [element("p", { className: "pending" }, ["Waiting …"])]),
    element("div", { className: "notes" }),
  ]);
  if (text.length > LONG_TEXT) {
    shown.append("…");
    const more = element("button", { type: "button", className: "more" }, ["Show the whole text"]);
    more.ariaExpanded = "false";
    more.addEventListener("click", () => {
      const opens = more.ariaExpanded === "false";
      shown.textContent = opens ? text : text.slice(0, LONG_TEXT) + "…";
      more.textContent = opens ? "Show less" : "Show the whole text";
      more.ariaExpanded = String(opens);
    });
    shown.after(more);
  }
  return item;
}

/** Empty a row again. */
export function showWaiting(item) {
  item.className = "row waiting";
  item.querySelector(".notes").replaceChildren();
  item.querySelector(".answer").replaceChildren(element("p", { className: "pending" }, ["Waiting …"]));
}

/**
 * Show an answer in its row.
 * @param {HTMLLIElement} item
 * @param {object} answer a Classification; or only a reason "unanswered".
 * @param {string[]} labels the names, in order.
 */
export function showAnswer(item, answer, labels) {
  item.className = answer.label === null || answer.label === undefined ? "row none" : "row";
  item.querySelector(".answer").replaceChildren(verdict(answer), ...bars(answer, labels));
  item.querySelector(".notes").replaceChildren(...notes(answer));
}

function verdict({ label, reason, confidence, error }) {
  if (label !== null && label !== undefined) {
    return element("p", { className: "verdict" }, [
      element("strong", { className: "label", dir: "auto" }, [label]),
      typeof confidence === "number" ? element("span", { className: "confidence" }, [percent(confidence)]) : null,
    ]);
  }
  const told = REASONS[reason] ?? { short: String(reason), why: "", todo: "" };
  return element("div", { className: "verdict" }, [
    element("p", {}, [
      element("span", { className: "mark", ariaHidden: "true" }, ["–"]),
      element("strong", { className: "nolabel" }, [`No label: ${told.short}`]),
    ]),
    element("p", { className: "why" }, [`${told.why} ${told.todo}`]),
    error ? element("p", { className: "why servers", dir: "auto" }, [error]) : null,
  ]);
}

function bars({ label, probabilities }, labels) {
  if (!probabilities) return [];
  const shares = labels
    .map((name) => [name, probabilities[name]])
    .filter(([, share]) => typeof share === "number")
    .sort((a, b) => b[1] - a[1]);
  const make = (some) =>
    element("ul", { className: "bars", ariaLabel: "Probability of each label" }, some.map((one) => bar(one, label)));
  if (shares.length <= SHOWN_BARS + 1) return [make(shares)];
  const rest = element("details", {}, [
    element("summary", {}, [`${shares.length - SHOWN_BARS} more labels`]),
    make(shares.slice(SHOWN_BARS)),
  ]);
  return [make(shares.slice(0, SHOWN_BARS)), rest];
}

function bar([name, share], label) {
  const fill = element("span", { className: "fill" });
  // Through the object model: the page's policy forbids style attributes.
  fill.style.width = `${100 * Math.min(Math.max(share, 0), 1)}%`;
  return element("li", { className: name === label ? "best" : "" }, [
    element("span", { className: "bar-name", dir: "auto" }, [name]),
    element("span", { className: "track", ariaHidden: "true" }, [fill]),
    element("span", { className: "share" }, [percent(share)]),
  ]);
}

function notes({ label, method, match, generation, truncated, covered_mass, prompt_tokens, generated_tokens }) {
  const made = [];
  if (METHODS[method]) made.push(element("p", { className: "how" }, [METHODS[method]]));
  if (typeof generation === "string") {
    const said = generation.trim();
    const wrote = said ? ["“", element("span", { className: "quoted", dir: "auto" }, [said]), "”"] : ["nothing"];
    made.push(element("p", { className: "wrote" }, ["The model wrote ", ...wrote, (label && MATCHES[match]) || "."]));
  }
  if (truncated) {
    made.push(element("p", { className: "cut" }, ["The text was cut to fit the model: the label rests on what was left."]));
  }
  const facts = [];
  if (typeof prompt_tokens === "number") facts.push(`${prompt_tokens} prompt ${prompt_tokens === 1 ? "token" : "tokens"}`);
  if (typeof generated_tokens === "number") facts.push(`${generated_tokens} generated`);
  if (typeof covered_mass === "number") facts.push(`${percent(covered_mass)} of the model’s probability on the labels`);
  if (facts.length) made.push(element("p", { className: "facts" }, [facts.join(" · ")]));
  return made;
}
