// Talks to the server: what it classifies, and answers to texts as they come. Knows nothing of the page.

const RETRIES = 5;
const LONGEST_WAIT = 120;

/** The server said no, or something that is not an answer. `status` is 0 where there was no answer at all. */
export class Refusal extends Error {
  constructor(message, status = 0, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function send(path, { key, signal, body }) {
  const headers = {};
  if (key) headers.Authorization = "Bearer " + key;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body,
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal("The server does not answer. Is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let detail = null;
  try {
    ({ detail } = await response.json());
  } catch {
    // Not ours: a proxy's page, say.
  }
  if (Array.isArray(detail)) detail = detail.map((one) => one?.msg).filter(Boolean).join(" ");
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const message = typeof detail === "string" && detail ? detail : `The server answered with status ${response.status}.`;
  return new Refusal(message, response.status, Number.isFinite(seconds) ? Math.max(seconds, 0) : null);
}

/** What the server classifies: `GET /info`. */
export async function askInfo(key) {
  const response = await send("info", { key });
  try {
    return await response.json();
  } catch {
    throw new Refusal("The server's /info is not JSON: is another server behind this address?");
  }
}

/** Cut rows into requests of at most so many texts and about so many bytes. */
export function inRequests(rows, maxTexts, maxBytes) {
  const encoder = new TextEncoder();
  const requests = [];
  let bytes = 0;
  for (const row of rows) {
    const size = encoder.encode(JSON.stringify(row.text)).length + 1;
    const last = requests.at(-1);
    if (last && last.length < maxTexts && bytes + size <= maxBytes) {
      last.push(row);
      bytes += size;
    } else {
      requests.push([row]);
      bytes = size;
    }
  }
  return requests;
}

async function* lines(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts.filter((part) => part.trim());
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Refusal("The connection to the server broke before all texts were answered.");
  }
  if (rest.trim()) yield rest;
}

function wait(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/**
 * Answers to texts, as they come, in any order: `POST /classify`.
 * @param {string} body the request as JSON.
 * @param {{key: string|null, signal: AbortSignal, onBusy: (seconds: number) => void}} options
 * @yields {object} a Classification with the index of its text.
 * @throws {Refusal}
 */
export async function* classify(body, { key, signal, onBusy }) {
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await send("classify", { key, signal, body });
    } catch (error) {
      const wants = error instanceof Refusal && error.status === 429 && attempt <= RETRIES;
      if (!wants || (error.retryAfter ?? 1) > LONGEST_WAIT) throw error;
      const seconds = Math.max(error.retryAfter ?? 1, 1);
      onBusy(seconds);
      await wait(seconds, signal);
      continue;
    }
    for await (const line of lines(response, signal)) {
      let answer;
      try {
        answer = JSON.parse(line);
      } catch {
        throw new Refusal("The server's answer broke off in the middle of a line.");
      }
      if (!Number.isInteger(answer?.index)) throw new Refusal(answer?.detail ?? "The server's answer is not one of ours.");
      yield answer;
    }
    return;
  }
}
