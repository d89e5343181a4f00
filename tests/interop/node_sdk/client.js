'use strict';
/*
Makes calls through the official Node SDK.

    node client.js NODE_MODULES

Each line of standard input is the JSON of one call; the line that answers it has what the SDK made
of the reply, or how it failed.
*/

const path = require('node:path');
const readline = require('node:readline');

const sdk = require(path.join(process.argv[2], 'authorizenet'));
const C = sdk.APIContracts;
const CALL_TIMEOUT_MS = 20000;

/** The SDK's classes that are not named for their request or type. */
const NAMED_OTHERWISE = {
  CreateCustomerProfileFromTransactionResponse: C.CreateCustomerProfileResponse,
  GetTransactionListForCustomerResponse: C.GetTransactionListResponse,
  PaymentScheduleTypeInterval: C.PaymentScheduleType.Interval,
};

const capitalized = (name) => name[0].toUpperCase() + name.slice(1);
const classOf = (name) => C[name] || NAMED_OTHERWISE[name];

/** One of the SDK's objects: `class` names it. */
function made(value) {
  if (Array.isArray(value)) return value.map(made);
  if (value === null || typeof value !== 'object') return value;
  const { class: name, ...fields } = value;
  const found = new (classOf(capitalized(name)))();
  for (const [key, field] of Object.entries(fields)) {
    found[`set${capitalized(key)}`](made(field));
  }
  return found;
}

/** What the getters of one of the SDK's objects say, as a tree. Few fields have none. */
function tree(value) {
  if (Array.isArray(value)) return value.map(tree);
  if (value instanceof String) return String(value);
  if (value === null || typeof value !== 'object') return value;
  const read = (name) => {
    const getter = value[`get${capitalized(name)}`];
    return getter ? getter.call(value) : value[name];
  };
  return Object.fromEntries(Object.keys(value).map((name) => [name, tree(read(name))]));
}

/** Send `method` with these fields. The SDK never calls back when the connection fails. */
function call({ url, login, key, method, fields }) {
  const name = capitalized(method);
  const merchantAuthentication =
    { class: 'merchantAuthenticationType', name: login, transactionKey: key };
  const request = made({ class: `${name}Request`, merchantAuthentication, ...fields });
  const controller = new sdk.APIControllers[`${name}Controller`](request.getJSON());
  controller.setEnvironment(url);
  return new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(controller.getError() || new Error(`${name}: no answer`)), CALL_TIMEOUT_MS);
    controller.execute(() => {
      clearTimeout(late);
      try {
        resolve(tree(new (classOf(`${name}Response`))(controller.getResponse())));
      } catch (error) {
        reject(error);
      }
    });
  });
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const said = await call(JSON.parse(line)).then(
      (reply) => ({ reply }), (error) => ({ failed: String(error.stack || error) }));
    process.stdout.write(`${JSON.stringify(said)}\n`);
  }
}

main();
