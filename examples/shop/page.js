// The order's page: Accept.js turns the card into a token, and only the token goes to the shop.
"use strict";
const TEXTS = {
  open: "",
  sending: "Your payment is being processed. Please do not pay again.",
  processing: "Your payment is being processed. Please do not pay again.",
  in_review: "Your payment is being reviewed. Please do not pay again.",
  captured: "Paid. Thank you!",
  declined: "Your bank declined the payment. Nothing was charged: try another card.",
  refused: "The payment could not be taken. Nothing was charged: check the card, or try another.",
  failed: "The payment did not go through. Nothing was charged: try again.",
};
const POLL_MS = 1000;
const element = (id) => document.getElementById(id);
let attempt = 0; // the shop accepts one submission for each attempt

function say(text) {
  element("status").textContent = text;
}

function show(order) {
  attempt = order.attempt;
  say(TEXTS[order.status] ?? `Your payment is ${order.status}.`);
  element("form").hidden = !order.payable;
  element("pay").disabled = false;
  if (order.unfinished) setTimeout(refresh, POLL_MS);
}

async function ask(path, options) {
  const reply = await fetch(location.pathname + path, { ...options, signal: AbortSignal.timeout(60_000) });
  if (!reply.ok) throw new Error(await reply.text());
  return reply.json();
}

function refresh() {
  ask("/status").then(show, () => setTimeout(refresh, POLL_MS));
}

function onToken(response) {
  if (response.messages.resultCode !== "Ok") {
    say(response.messages.message.map((message) => message.text).join(" "));
    element("pay").disabled = false;
    return;
  }
  const body = JSON.stringify({ attempt, ...response.opaqueData, postalCode: element("postal-code").value.trim() });
  element("form").reset(); // the card is not needed any more
  element("form").hidden = true;
  say(TEXTS.sending);
  ask("/pay", { method: "POST", headers: { "content-type": "application/json" }, body }).then(show, refresh);
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  element("pay").disabled = true;
  const { loginId: apiLoginID, clientKey } = element("form").dataset;
  const value = (id) => element(id).value.replace(/[\s-]/g, "");
  const cardData = { cardNumber: value("number"), month: value("month"), year: value("year"), cardCode: value("code") };
  Accept.dispatchData({ authData: { clientKey, apiLoginID }, cardData }, onToken);
});

if (globalThis.Accept) refresh();
else say("The payment form could not be loaded. Reload the page.");
