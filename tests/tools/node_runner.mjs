// Reads lines {module, body, x}; answers each with {value} or {error}. See node.py.

import { createInterface } from "node:readline";

const at = process.argv[2];
const AsyncFunction = (async () => {}).constructor;

for await (const line of createInterface({ input: process.stdin })) {
  const { module, body, x } = JSON.parse(line);
  let answer;
  try {
    const m = await import(`${at}${module}.js`);
    answer = { value: (await new AsyncFunction("m", "x", "at", body)(m, x, at)) ?? null };
  } catch (error) {
    answer = { error: String(error.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
