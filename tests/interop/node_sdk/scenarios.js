'use strict';
/*
What an integrator does with the official Node SDK, and what it gives back.

    node scenarios.js NODE_MODULES < orders.json

`orders.json` names the simulator and an account for every scenario. What comes out is one JSON
object: for each scenario the facts it learnt through the SDK, or how it failed.
*/

const path = require('node:path');

const sdk = require(path.join(process.argv[2], 'authorizenet'));
const C = sdk.APIContracts;
const CALL_TIMEOUT_MS = 20000;

let account;

/** One of the SDK's objects with these fields. */
function make(kind, fields) {
  const made = new (typeof kind === 'string' ? C[kind] : kind)();
  for (const [name, value] of Object.entries(fields)) {
    made[`set${name[0].toUpperCase()}${name.slice(1)}`](value);
  }
  return made;
}

/** The answer as the SDK's own response object. Its callback is never called on an error. */
function call(method, fields = {}, response = `${method}Response`) {
  const request = make(`${method}Request`, { merchantAuthentication: account.auth, ...fields });
  const controller = new sdk.APIControllers[`${method}Controller`](request.getJSON());
  controller.setEnvironment(account.wire);
  return new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(controller.getError() || new Error(`${method}: no answer`)), CALL_TIMEOUT_MS);
    controller.execute(() => {
      clearTimeout(late);
      try {
        resolve(new C[response](controller.getResponse()));
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** How the call as a whole went. */
function answer(response) {
  const message = response.getMessages().getMessage()[0];
  return {
    result: response.getMessages().getResultCode(),
    code: message.getCode(),
    text: message.getText(),
  };
}

/** How the transaction went. */
function outcome(response) {
  const said = response.getTransactionResponse();
  const facts = { ...answer(response), ref_id: response.getRefId() };
  if (!said) return facts;
  const errors = said.getErrors();
  const messages = said.getMessages();
  return {
    ...facts,
    response_code: said.getResponseCode(),
    reason: errors
      ? errors.getError()[0].getErrorCode()
      : messages && messages.getMessage()[0].getCode(),
    trans_id: said.getTransId(),
    ref_trans_id: said.getRefTransID(),
    auth_code: said.getAuthCode(),
    avs: said.getAvsResultCode(),
    cvv: said.getCvvResultCode(),
    account: said.getAccountNumber(),
    account_type: said.getAccountType(),
  };
}

function card({ number = '4111111111111111', expiry = '2040-12', code = '900' } = {}) {
  const fields = { cardNumber: number, expirationDate: expiry };
  if (code) fields.cardCode = code;
  return make('PaymentType', { creditCard: make('CreditCardType', fields) });
}

function bank(routing = '322271627') {
  return make('PaymentType', {
    bankAccount: make('BankAccountType', {
      accountType: 'checking',
      routingNumber: routing,
      accountNumber: '00987467838473',
      nameOnAccount: 'Ada Lovelace',
      echeckType: 'WEB',
    }),
  });
}

function address(kind = 'CustomerAddressType', fields = {}) {
  return make(kind, {
    firstName: 'Ada',
    lastName: 'Lovelace',
    address: '12 Main Street',
    city: 'Bellevue',
    state: 'WA',
    zip: '98004',
    country: 'US',
    ...fields,
  });
}

function order(invoice) {
  return make('OrderType', { invoiceNumber: invoice, description: 'Robot parts' });
}

async function transact(kind, fields) {
  const request = make('TransactionRequestType', { transactionType: kind, ...fields });
  return outcome(
    await call('CreateTransaction', { refId: 'ref-1', transactionRequest: request }));
}

function charge(amount, invoice, fields = {}) {
  const { kind = 'authCaptureTransaction', zip = '98004', ...rest } = fields;
  return transact(kind, {
    amount,
    payment: card(),
    order: order(invoice),
    billTo: address('CustomerAddressType', { zip }),
    ...rest,
  });
}

function refund(transId, amount, invoice) {
  return transact('refundTransaction', {
    amount,
    payment: card({ number: '1111', expiry: 'XXXX', code: null }),
    refTransId: transId,
    order: order(invoice),
  });
}

async function details(transId) {
  const response = await call('GetTransactionDetails', { transId });
  const found = response.getTransaction();
  if (!found) return answer(response);
  return {
    ...answer(response),
    trans_id: found.getTransId(),
    type: found.getTransactionType(),
    status: found.getTransactionStatus(),
    response_code: found.getResponseCode(),
    auth_amount: found.getAuthAmount(),
    settle_amount: found.getSettleAmount(),
    invoice: found.getOrder() && found.getOrder().getInvoiceNumber(),
    purchase_order: found.getOrder() && found.getOrder().getPurchaseOrderNumber(),
    account: found.getPayment().getCreditCard() && found.getPayment().getCreditCard().getCardNumber(),
  };
}

async function sale() {
  const lineItem = ['1', '2'].map((itemId) =>
    make('LineItemType', { itemId, name: 'part', quantity: '2', unitPrice: '5.25' }));
  const done = await charge('21.00', 'sale-1', {
    lineItems: make('ArrayOfLineItem', { lineItem }),
    tax: make('ExtendedAmountType', { amount: '1.05', name: 'VAT' }),
    poNumber: 'PO-7',
    customer: make('CustomerDataType', { id: 'c-1', email: 'ada@example.com' }),
    shipTo: address('NameAndAddressType'),
    customerIP: '192.0.2.1',
  });
  return { sale: done, details: await details(done.trans_id) };
}

async function capture() {
  const held = await charge('30.00', 'capture-1', { kind: 'authOnlyTransaction' });
  const before = await details(held.trans_id);
  const take = () => transact('priorAuthCaptureTransaction', { refTransId: held.trans_id });
  const taken = await take();
  const again = await take();
  return {
    authorization: held, before, capture: taken, again, after: await details(held.trans_id),
  };
}

async function partial_capture() {
  const held = await charge('50.00', 'partial-1', { kind: 'authOnlyTransaction' });
  const take = (amount) =>
    transact('priorAuthCaptureTransaction', { amount, refTransId: held.trans_id });
  return {
    authorization: held,
    too_much: await take('50.01'),
    capture: await take('20.50'),
    after: await details(held.trans_id),
  };
}

async function void_() {
  const done = await charge('12.00', 'void-1');
  return {
    sale: done,
    void: await transact('voidTransaction', { refTransId: done.trans_id }),
    again: await transact('voidTransaction', { refTransId: done.trans_id }),
    unknown: await transact('voidTransaction', { refTransId: '1' }),
    after: await details(done.trans_id),
  };
}

async function refunds(simulator) {
  const done = await charge('40.00', 'refund-1');
  const early = await refund(done.trans_id, '10.00', 'refund-2');
  await simulator.settle();
  const first = await refund(done.trans_id, '15.00', 'refund-3');
  return {
    sale: done,
    early,
    refund: first,
    too_much: await refund(done.trans_id, '25.01', 'refund-4'),
    late_void: await transact('voidTransaction', { refTransId: done.trans_id }),
    original: await details(done.trans_id),
    details: await details(first.trans_id),
  };
}

async function decline() {
  const done = await charge('10.00', 'decline-1', { zip: '46282' });
  return { sale: done, details: await details(done.trans_id) };
}

async function duplicate() {
  return { first: await charge('11.00', 'twice'), second: await charge('11.00', 'twice') };
}

async function held(simulator) {
  await simulator.holdAbove('100.00');
  const decide = async (transId, action) =>
    outcome(await call('UpdateHeldTransaction', {
      heldTransactionRequest: make('HeldTransactionRequestType', { action, refTransId: transId }),
    }));
  const one = await charge('150.00', 'held-1');
  const other = await charge('160.00', 'held-2');
  const before = await details(one.trans_id);
  const listed = await call('GetUnsettledTransactionList', { status: 'pendingApproval' });
  return {
    one,
    before,
    listed: listed.getTransactions().getTransaction().map((row) => row.getTransId()),
    approve: await decide(one.trans_id, 'approve'),
    decline: await decide(other.trans_id, 'decline'),
    approved: await details(one.trans_id),
    declined: await details(other.trans_id),
  };
}

async function echeck() {
  return {
    approved: await charge('75.00', 'echeck-1', { payment: bank() }),
    declined: await charge('100.01', 'echeck-2', { payment: bank() }),
    bad_routing: await charge('75.00', 'echeck-3', { payment: bank('121042883') }),
  };
}

/** The SDK can play the browser too, and fetch a nonce. */
async function nonce() {
  const token = make('WebCheckOutDataTypeToken', {
    cardNumber: '4111111111111111', expirationDate: '122040', cardCode: '900', zip: '98004',
    fullName: 'Ada Lovelace',
  });
  const data = make('WebCheckOutDataType', {
    type: 'TOKEN', id: '11111111-2222-3333-4444-555555555555', token,
  });
  const opaque = (await call('SecurePaymentContainer', { data })).getOpaqueData();
  const payment = make('PaymentType', {
    opaqueData: make('OpaqueDataType', {
      dataDescriptor: opaque.getDataDescriptor(), dataValue: opaque.getDataValue(),
    }),
  });
  return {
    sale: await charge('14.00', 'nonce-1', { payment }),
    again: await charge('15.00', 'nonce-2', { payment }),
  };
}

async function customers() {
  const profileOf = async (customer) => {
    const response = await call('GetCustomerProfile', { customerProfileId: customer });
    const found = response.getProfile();
    return {
      ...answer(response),
      email: found.getEmail(),
      description: found.getDescription(),
      merchant_id: found.getMerchantCustomerId(),
      payments: (found.getPaymentProfiles() || []).length,
      addresses: (found.getShipToList() || []).length,
    };
  };
  const paymentOf = async (customer, payment) => {
    const response = await call('GetCustomerPaymentProfile', {
      customerProfileId: customer, customerPaymentProfileId: payment,
    });
    const found = response.getPaymentProfile();
    return {
      ...answer(response),
      card: found.getPayment().getCreditCard().getCardNumber(),
      expiry: found.getPayment().getCreditCard().getExpirationDate(),
      city: found.getBillTo().getCity(),
    };
  };
  const addressOf = async (customer, shipping) => {
    const response = await call('GetCustomerShippingAddress', {
      customerProfileId: customer, customerAddressId: shipping,
    });
    return { ...answer(response), city: response.getAddress().getCity() };
  };
  const newProfile = () => make('CustomerProfileType', {
    merchantCustomerId: 'c-77',
    description: 'Tom & Jerry <Ltd>',
    email: 'tom@example.com',
    paymentProfiles: [make('CustomerPaymentProfileType', { payment: card({ code: null }) })],
  });
  const newPayment = () => make('CustomerPaymentProfileType', {
    billTo: address(), payment: card({ number: '5424000000000015', code: null }),
  });

  const created = await call('CreateCustomerProfile', {
    profile: newProfile(), validationMode: 'testMode',
  });
  const customer = created.getCustomerProfileId();
  const facts = {
    create: {
      ...answer(created),
      customer,
      payments: created.getCustomerPaymentProfileIdList().getNumericString(),
    },
    duplicate: answer(await call('CreateCustomerProfile', { profile: newProfile() })),
  };
  const listed = await call('GetCustomerProfileIds');
  facts.listed = listed.getIds().getNumericString().map(String).includes(customer);
  facts.profile = await profileOf(customer);
  facts.update = answer(await call('UpdateCustomerProfile', {
    profile: make('CustomerProfileInfoExType', {
      merchantCustomerId: 'c-77',
      description: 'One robot',
      email: 'jerry@example.com',
      customerProfileId: customer,
    }),
  }));
  facts.updated = await profileOf(customer);

  const added = await call('CreateCustomerPaymentProfile', {
    customerProfileId: customer, paymentProfile: newPayment(), validationMode: 'testMode',
  });
  const payment = added.getCustomerPaymentProfileId();
  facts.add_payment = answer(added);
  facts.direct_response = added.getValidationDirectResponse();
  facts.same_payment = answer(await call('CreateCustomerPaymentProfile', {
    customerProfileId: customer, paymentProfile: newPayment(),
  }));
  facts.payment = await paymentOf(customer, payment);
  facts.update_payment = answer(await call('UpdateCustomerPaymentProfile', {
    customerProfileId: customer,
    paymentProfile: make('CustomerPaymentProfileExType', {
      billTo: address('CustomerAddressType', { city: 'Renton' }),
      payment: card({ number: 'XXXX0015', expiry: '2041-01', code: null }),
      customerPaymentProfileId: payment,
    }),
  }));
  facts.updated_payment = await paymentOf(customer, payment);
  const validated = await call('ValidateCustomerPaymentProfile', {
    customerProfileId: customer,
    customerPaymentProfileId: payment,
    cardCode: '900',
    validationMode: 'liveMode',
  });
  facts.validate = { ...answer(validated), direct: validated.getDirectResponse() };
  const shippingAdded = await call('CreateCustomerShippingAddress', {
    customerProfileId: customer, address: address(),
  });
  const shipping = shippingAdded.getCustomerAddressId();
  facts.add_address = answer(shippingAdded);
  facts.address = await addressOf(customer, shipping);
  facts.update_address = answer(await call('UpdateCustomerShippingAddress', {
    customerProfileId: customer,
    address: address('CustomerAddressExType', { city: 'Tacoma', customerAddressId: shipping }),
  }));
  facts.updated_address = await addressOf(customer, shipping);
  facts.full = await profileOf(customer);

  const chargeProfile = (which) => transact('authCaptureTransaction', {
    amount: '17.00',
    profile: make('CustomerProfilePaymentType', {
      customerProfileId: which,
      paymentProfile: make('PaymentProfile', { paymentProfileId: payment }),
    }),
    order: order('customer-1'),
  });
  facts.charge = await chargeProfile(customer);
  facts.charge_details = await details(facts.charge.trans_id);
  facts.charge_nobody = await chargeProfile('1');
  const paid = await call(
    'GetTransactionListForCustomer', { customerProfileId: customer }, 'GetTransactionListResponse');
  const rows = paid.getTransactions();
  facts.paid = (rows ? rows.getTransaction() : []).map((row) => row.getTransId());

  const ids = { customerProfileId: customer };
  for (const [name, method, said] of [
    ['address', 'DeleteCustomerShippingAddress', { ...ids, customerAddressId: shipping }],
    ['payment', 'DeleteCustomerPaymentProfile', { ...ids, customerPaymentProfileId: payment }],
    ['customer', 'DeleteCustomerProfile', ids],
  ]) {
    facts[`delete_${name}`] = answer(await call(method, said));
    facts[`delete_${name}_again`] = answer(await call(method, said));
  }
  facts.gone = answer(await call('GetCustomerProfile', ids));
  return facts;
}

async function profile_of_a_sale() {
  const sold = await call('CreateTransaction', {
    transactionRequest: make('TransactionRequestType', {
      transactionType: 'authCaptureTransaction',
      amount: '16.00',
      payment: card(),
      profile: make('CustomerProfilePaymentType', { createProfile: true }),
      order: order('kept-1'),
      customer: make('CustomerDataType', { id: 'c-9', email: 'kept@example.com' }),
      billTo: address(),
    }),
  });
  const kept = sold.getProfileResponse();
  const found = await call('GetCustomerProfile', {
    customerProfileId: kept.getCustomerProfileId(),
  });
  const source = await charge('19.00', 'kept-2');
  const later = await call('CreateCustomerProfileFromTransaction', {
    transId: source.trans_id,
    customer: make('CustomerProfileBaseType', { email: 'later@example.com' }),
  }, 'CreateCustomerProfileResponse');
  return {
    sale: outcome(sold),
    kept: answer(kept),
    payments: kept.getCustomerPaymentProfileIdList().getNumericString(),
    email: found.getProfile().getEmail(),
    later: answer(later),
  };
}

async function subscriptions() {
  const create = () => call('ARBCreateSubscription', {
    subscription: make('ARBSubscriptionType', {
      name: 'Robot plan',
      paymentSchedule: make('PaymentScheduleType', {
        interval: make(C.PaymentScheduleType.Interval, { length: 1, unit: 'months' }),
        startDate: new Date(Date.now() + 30 * 86400000).toISOString().slice(0, 10),
        totalOccurrences: 12,
        trialOccurrences: 1,
      }),
      amount: '29.90',
      trialAmount: '1.00',
      payment: card({ code: null, expiry: '2045-12' }),
      order: order('sub-1'),
      billTo: address('NameAndAddressType'),
    }),
  });
  const status = async (which) => {
    const response = await call('ARBGetSubscriptionStatus', { subscriptionId: which });
    return { ...answer(response), status: response.getStatus() };
  };
  const reprice = async (which, amount) => answer(await call('ARBUpdateSubscription', {
    subscriptionId: which, subscription: make('ARBSubscriptionType', { amount }),
  }));
  const listed = async (search) => {
    const response = await call('ARBGetSubscriptionList', {
      searchType: search,
      sorting: make('ARBGetSubscriptionListSorting', { orderBy: 'id', orderDescending: false }),
      paging: make('Paging', { limit: 100, offset: 1 }),
    });
    const details = response.getSubscriptionDetails();
    return details ? details.getSubscriptionDetail().map((row) => String(row.getId())) : [];
  };

  const created = await create();
  const subscription = created.getSubscriptionId();
  const facts = {
    create: { ...answer(created), subscription },
    duplicate: answer(await create()),
    status: await status(subscription),
    update: await reprice(subscription, '31.50'),
  };
  const found = await call('ARBGetSubscription', { subscriptionId: subscription });
  const got = found.getSubscription();
  facts.get = {
    ...answer(found),
    name: got.getName(),
    amount: got.getAmount(),
    status: got.getStatus(),
    unit: got.getPaymentSchedule().getInterval().getUnit(),
  };
  facts.active = await listed('subscriptionActive');
  const cancel = async () =>
    answer(await call('ARBCancelSubscription', { subscriptionId: subscription }));
  facts.cancel = await cancel();
  facts.cancel_again = await cancel();
  facts.cancelled = await status(subscription);
  facts.inactive = await listed('subscriptionInactive');
  facts.late_update = await reprice(subscription, '32.50');
  facts.unknown = await status('1');
  return facts;
}

async function reporting(simulator) {
  const transactions = (response) => {
    const rows = response.getTransactions();
    return (rows ? rows.getTransaction() : []).map((row) => ({
      trans_id: row.getTransId(),
      status: row.getTransactionStatus(),
      invoice: row.getInvoiceNumber(),
      amount: row.getSettleAmount(),
    }));
  };
  const nothing = await call('GetUnsettledTransactionList');
  const first = await charge('10.00', 'report-1');
  const second = await charge('20.25', 'report-2');
  const unsettled = await call('GetUnsettledTransactionList');
  await simulator.settle();
  const back = await refund(first.trans_id, '4.00', 'report-3');
  const after = await call('GetUnsettledTransactionList');
  const batches = await call('GetSettledBatchList', { includeStatistics: true });
  const batch = batches.getBatchList().getBatch()[0];
  const batchId = batch.getBatchId();
  const statistics = await call('GetBatchStatistics', { batchId });
  const counted = statistics.getBatch().getStatistics().getStatistic()[0];
  const merchant = await call('GetMerchantDetails');
  return {
    sales: [first.trans_id, second.trans_id],
    unsettled: transactions(unsettled),
    after: transactions(after),
    refund: back.trans_id,
    batches: batches.getBatchList().getBatch().length,
    batch_state: batch.getSettlementState(),
    in_batch: transactions(await call('GetTransactionList', { batchId })),
    charges: counted.getChargeCount(),
    charged: counted.getChargeAmount(),
    nothing: { ...answer(nothing), rows: transactions(nothing) },
    unknown: answer(await call('GetTransactionDetails', { transId: '1' })),
    merchant: {
      ...answer(merchant),
      currencies: merchant.getCurrencies().getCurrency(),
      name: merchant.getMerchantName(),
      key: merchant.getPublicClientKey(),
    },
  };
}

async function hosted_page() {
  const response = await call('GetHostedPaymentPage', {
    transactionRequest: make('TransactionRequestType', {
      transactionType: 'authCaptureTransaction', amount: '99.00',
    }),
    hostedPaymentSettings: make('ArrayOfSetting', {
      setting: [make('SettingType', {
        settingName: 'hostedPaymentReturnOptions',
        settingValue: '{"showReceipt": true, "url": "https://shop.example/done"}',
      })],
    }),
  });
  const customer = await call('CreateCustomerProfile', {
    profile: make('CustomerProfileType', { email: 'page@example.com' }),
  });
  const profile = await call('GetHostedProfilePage', {
    customerProfileId: customer.getCustomerProfileId(),
    hostedProfileSettings: make('ArrayOfSetting', {
      setting: [make('SettingType', {
        settingName: 'hostedProfileReturnUrl', settingValue: 'https://shop.example/account',
      })],
    }),
  });
  return {
    payment: { ...answer(response), token: response.getToken() },
    profile: { ...answer(profile), token: profile.getToken() },
  };
}

async function credentials(simulator) {
  const good = answer(await call('AuthenticateTest'));
  account.auth = make('MerchantAuthenticationType', {
    name: simulator.login, transactionKey: 'not-the-key',
  });
  return {
    good,
    wrong: answer(await call('AuthenticateTest')),
    charge: await charge('10.00', 'credentials-1'),
  };
}

const SCENARIOS = {
  sale, capture, partial_capture, void: void_, refunds, decline, duplicate, held, echeck, nonce,
  customers, profile_of_a_sale, subscriptions, reporting, hosted_page, credentials,
};

/** The simulator's control surface, for what no client can order. */
class Simulator {
  constructor(url, login) {
    this.url = `${url}/simulator`;
    this.login = login;
  }

  settle() {
    return this.post('/settle', {});
  }

  holdAbove(amount) {
    return this.post('/settings', { login: this.login, held_above: amount });
  }

  async post(where, body) {
    const reply = await fetch(this.url + where, { method: 'POST', body: JSON.stringify(body) });
    if (!reply.ok) throw new Error(`${where}: ${await reply.text()}`);
  }
}

async function main() {
  let text = '';
  for await (const part of process.stdin) text += part;
  const orders = JSON.parse(text);
  const facts = {};
  for (const [scenario, { name, transactionKey }] of Object.entries(orders.accounts)) {
    account = {
      wire: `${orders.url}/xml/v1/request.api`,
      auth: make('MerchantAuthenticationType', { name, transactionKey }),
    };
    try {
      facts[scenario] = await SCENARIOS[scenario](new Simulator(orders.url, name));
    } catch (error) {
      facts[scenario] = { failed: String(error.stack || error) };
    }
  }
  process.stdout.write(JSON.stringify(facts));
}

main();
