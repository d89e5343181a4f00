// A look-alike of Authorize.Net's Accept.js that gets its tokens from this simulator. Interface, codes
// and texts are those of developer.authorize.net/api/reference/features/acceptjs.html.
"use strict";
(() => {
  const WIRE = new URL("/xml/v1/request.api", document.currentScript.src).href;
  const TIMEOUT_MS = 30_000;
  const TEXTS = {
    I_WC_01: "Successful.",
    E_WC_02: "A HTTPS connection is required.",
    E_WC_04: "Please provide mandatory field to library.",
    E_WC_05: "Please provide valid credit card number.",
    E_WC_06: "Please provide valid expiration month.",
    E_WC_07: "Please provide valid expiration year.",
    E_WC_08: "Expiration date must be in the future.",
    E_WC_10: "Please provide valid apiLoginID.",
    E_WC_14: "Accept.js encryption failed.",
    E_WC_15: "Please provide valid CVV.",
    E_WC_16: "Please provide valid ZIP code.",
    E_WC_17: "Please provide valid card holder name.",
    E_WC_18: "Client Key is required.",
    E_WC_19: "An error occurred during processing. Please try again.",
    E_WC_21: "User authentication failed due to invalid authentication values.",
    E_WC_23: "Please provide either card information or bank information.",
    E_WC_24: "Please provide valid account number.",
    E_WC_25: "Please provide valid routing number.",
    E_WC_26: "Please provide valid account holder name.",
    E_WC_27: "Please provide valid account type.",
  };
  const ACCOUNT_TYPES = ["checking", "savings", "businessChecking"];

  // Each kind of data: its mandatory fields, its checks by error code, and its format in the request.
  const CARD = {
    mandatory: ["cardNumber", "month", "year"],
    checks: {
      E_WC_05: (card) => /^\d{13,16}$/.test(card.cardNumber) && luhn(card.cardNumber),
      E_WC_06: (card) => isMonth(card.month),
      E_WC_07: (card) => isYear(card.year),
      E_WC_08: (card) => !isMonth(card.month) || !isYear(card.year) || !isPast(card),
      E_WC_15: (card) => !card.cardCode || /^\d{3,4}$/.test(card.cardCode),
      E_WC_16: (card) => !card.zip || card.zip.length <= 20,
      E_WC_17: (card) => !card.fullName || card.fullName.length <= 64,
    },
    wire: (card) => ({
      token: {
        cardNumber: card.cardNumber,
        expirationDate: card.month.padStart(2, "0") + fullYear(card.year),
        cardCode: card.cardCode || undefined,
        zip: card.zip || undefined,
        fullName: card.fullName || undefined,
      },
    }),
  };
  const BANK = {
    mandatory: ["accountNumber", "routingNumber", "nameOnAccount", "accountType"],
    checks: {
      E_WC_24: (bank) => /^\d{1,17}$/.test(bank.accountNumber),
      E_WC_25: (bank) => /^\d{9}$/.test(bank.routingNumber),
      E_WC_26: (bank) => bank.nameOnAccount.length <= 22,
      E_WC_27: (bank) => ACCOUNT_TYPES.includes(bank.accountType),
    },
    wire: ({ accountType, routingNumber, accountNumber, nameOnAccount }) => ({
      bankToken: { accountType, routingNumber, accountNumber, nameOnAccount },
    }),
  };

  const isMonth = (text) => /^\d{1,2}$/.test(text) && text >= 1 && text <= 12;
  const isYear = (text) => /^(\d\d|\d{4})$/.test(text);
  const fullYear = (text) => text.padStart(4, "20");
  const isPast = (card) => new Date(fullYear(card.year), card.month) <= new Date();

  function luhn(number) {
    const sum = [...number].reverse().reduce((total, digit, place) => {
      const worth = digit * (1 + (place % 2));
      return total + (worth > 9 ? worth - 9 : worth);
    }, 0);
    return sum % 10 === 0;
  }

  function messages(resultCode, codes) {
    return { resultCode, message: codes.map((code) => ({ code, text: TEXTS[code] })) };
  }

  async function tokenize({ authData = {}, cardData, bankData } = {}) {
    const failure = (...codes) => ({ messages: messages("Error", codes) });
    if (globalThis.isSecureContext === false) return failure("E_WC_02");
    if (!authData.apiLoginID) return failure("E_WC_10");
    if (!authData.clientKey) return failure("E_WC_18");
    if (Boolean(cardData) === Boolean(bankData)) return failure("E_WC_23");
    const kind = cardData ? CARD : BANK;
    const given = {};
    for (const [name, value] of Object.entries(cardData || bankData)) given[name] = `${value ?? ""}`;
    if (kind.mandatory.some((name) => !given[name])) return failure("E_WC_04");
    const wrong = Object.keys(kind.checks).filter((code) => !kind.checks[code](given));
    if (wrong.length) return failure(...wrong);
    const body = {
      securePaymentContainerRequest: {
        merchantAuthentication: { name: authData.apiLoginID, clientKey: authData.clientKey },
        data: { type: "TOKEN", id: crypto.randomUUID(), ...kind.wire(given) },
      },
    };
    try {
      const reply = await fetch(WIRE, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const answer = await reply.json();
      if (answer.messages.resultCode !== "Ok") {
        return failure(answer.messages.message[0].code === "E00007" ? "E_WC_21" : "E_WC_19");
      }
      return { opaqueData: answer.opaqueData, messages: messages("Ok", ["I_WC_01"]) };
    } catch {
      return failure("E_WC_14");
    }
  }

  // `handler` is a function, or the name of a global one.
  globalThis.Accept = {
    dispatchData(secureData, handler) {
      tokenize(secureData).then(typeof handler === "string" ? globalThis[handler] : handler);
    },
  };
})();
