/**
 * json-transform: groups rows by one field and aggregates another, like `SELECT dept, avg(salary) … GROUP BY dept`.
 *
 * Runs in HTTP mode: the watchdog starts this server once with PORT, waits until GET /health answers, and sends every
 * call to POST /invoke. The body is the request `{"input":…,"metadata":…}`, the answer is the bare output.
 * A wrong input is no failed call: the answer is 200 `{"error": "…"}`. Anything but 2xx is a failed call.
 */
import { createServer } from "node:http";

const HOST = "127.0.0.1";
const PORT = Number(process.env.PORT ?? 8081);
const BODY_BYTES_MAX = 4 * 1024 * 1024;

// ---- the function ---------------------------------------------------------------------------------------------------

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

/** How to make one value of a group: its rows and the numbers found in `valueField`. */
const operations = new Map([
  ["count", (rows) => rows.length],
  ["sum", (rows, numbers) => sum(numbers)],
  ["avg", (rows, numbers) => (numbers.length ? sum(numbers) / numbers.length : 0)],
  // Not Math.min(...numbers): a long array would overflow the call stack.
  ["min", (rows, numbers) => (numbers.length ? numbers.reduce((a, b) => Math.min(a, b)) : 0)],
  ["max", (rows, numbers) => (numbers.length ? numbers.reduce((a, b) => Math.max(a, b)) : 0)],
]);

/** `{data: [row…], groupBy, operation = "count", valueField}` → `{groupBy, operation, groups: {key: value}}`. */
function handle(input) {
  if (!isObject(input)) return { error: "Input must be a JSON object" };

  const { data, groupBy, valueField } = input;
  const operation = input.operation ?? "count";
  if (!Array.isArray(data) || typeof groupBy !== "string") {
    return { error: "Fields 'data' (array) and 'groupBy' (string) are required" };
  }
  if (typeof operation !== "string") return { error: "Field 'operation' must be a string" };
  if (operation !== "count" && typeof valueField !== "string") {
    return { error: `Field 'valueField' is required for operation: ${operation}` };
  }

  const aggregate = operations.get(operation) ?? (() => `unknown operation: ${operation}`);
  const groups = Array.from(groupRows(data, groupBy), ([key, rows]) => {
    const numbers = rows.map((row) => field(row, valueField)).filter(Number.isFinite);
    return [key, aggregate(rows, numbers)];
  });
  return { groupBy, operation, groups: Object.fromEntries(groups) };
}

/** The rows by the text of `groupBy`; rows without a value come under "null". */
function groupRows(data, groupBy) {
  const groups = new Map();
  for (const row of data) {
    const value = field(row, groupBy) ?? null;
    const key = typeof value === "string" ? value : JSON.stringify(value);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return groups;
}

/** An own field of a row. `row[name]` alone would also find what every object inherits, such as "constructor". */
function field(row, name) {
  return isObject(row) && Object.hasOwn(row, name) ? row[name] : undefined;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// ---- the server -----------------------------------------------------------------------------------------------------

/** An answer other than 2xx, thrown where the problem is found. */
class HttpError extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

async function route(request) {
  switch (`${request.method} ${request.url}`) {
    case "GET /health":
      return { status: "ok" };
    case "POST /invoke":
      return handle(parseRequest(await readBody(request)).input);
    default:
      throw new HttpError(404, "NOT_FOUND", `no such endpoint: ${request.method} ${request.url}`);
  }
}

async function readBody(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) {
      throw new HttpError(413, "BODY_TOO_LARGE", `the body is larger than ${BODY_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseRequest(body) {
  let request;
  try {
    request = JSON.parse(body);
  } catch {
    throw new HttpError(400, "INVALID_JSON", "Request body must be valid JSON");
  }
  if (!isObject(request) || !Object.hasOwn(request, "input")) {
    throw new HttpError(400, "INVALID_REQUEST", 'Request body must be {"input":…,"metadata":…}');
  }
  return request;
}

const server = createServer(async (request, response) => {
  let status = 200;
  let output;
  try {
    output = await route(request);
  } catch (error) {
    status = error.status ?? 500;
    output = { error: { code: error.code ?? "INTERNAL_ERROR", message: error.message } };
  }
  // While stopping, and after a body that was not read to its end, the connection can't be used again.
  if (!server.listening || !request.complete) response.setHeader("Connection", "close");
  response.statusCode = status;
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify(output));
});

// The watchdog keeps its connections. Node would close them after five idle seconds, perhaps just as a call comes in.
server.keepAliveTimeout = 0;
server.listen(PORT, HOST, () => console.error(`json-transform listens on ${HOST}:${PORT}`));

// Calls that are running get their answer; then nothing keeps the process alive.
process.once("SIGTERM", () => {
  server.close();
  server.closeIdleConnections();
});
