// Runs the served Accept.js without a browser: {script, src, cases} comes on stdin, and what each
// case was called back with goes to stdout. `src` is the address the script believes it came from.
const vm = require("node:vm");

async function main() {
  let said = "";
  for await (const chunk of process.stdin) said += chunk;
  const { script, src, cases } = JSON.parse(said);
  globalThis.crypto ??= require("node:crypto").webcrypto; // Node 18 has no global one
  globalThis.document = { currentScript: { src } };
  vm.runInThisContext(await (await fetch(script)).text());
  const answers = [];
  for (const { secureData, secure = true, named = false } of cases) {
    globalThis.isSecureContext = secure;
    answers.push(await new Promise((resolve) => {
      globalThis.responseHandler = resolve;
      Accept.dispatchData(secureData, named ? "responseHandler" : resolve);
    }));
  }
  process.stdout.write(JSON.stringify(answers));
}

main();
