// The stock JavaScript client on two instances: what is published on one is received on the other.
// Arguments: ws://first ws://second token. Prints one JSON object and ends with 0, or says what failed.
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const [first, second, token] = process.argv.slice(2);
const patience = 8000;
const within = (promise, what) =>
  Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${what} in time`)), patience).unref()),
  ]);
const seen = { clients: [], publications: [], joins: 0 };

const connect = async (url) => {
  const client = new Centrifuge(url, { websocket: WebSocket, token });
  const connected = new Promise((resolve, reject) => {
    client.on("connected", resolve);
    client.on("error", (context) => reject(new Error(JSON.stringify(context.error))));
    client.on("disconnected", (context) => reject(new Error(`${context.code} ${context.reason}`)));
  });
  client.connect();
  seen.clients.push((await within(connected, "connected")).client);
  return client;
};

const listen = async (client, channel, count) => {
  const subscription = client.newSubscription(channel);
  const got = [];
  let enough;
  const all = new Promise((resolve) => (enough = resolve));
  subscription.on("publication", (context) => {
    got.push({ data: context.data, user: context.info?.user });
    if (got.length === count) enough(got);
  });
  subscription.on("join", () => (seen.joins += 1));
  const subscribed = new Promise((resolve, reject) => {
    subscription.on("subscribed", resolve);
    subscription.on("error", (context) => reject(new Error(JSON.stringify(context.error))));
  });
  subscription.subscribe();
  await within(subscribed, "subscribed");
  return { subscription, all };
};

const a = await connect(first);
const b = await connect(second);
const onA = await listen(a, "chat:room", 2);
const onB = await listen(b, "chat:room", 2);
await onA.subscription.publish({ from: "a", text: "grüß dich" });
await within(b.publish("chat:room", { from: "b" }), "publish reply");
seen.publications = [await within(onA.all, "publications on a"), await within(onB.all, "publications on b")];
seen.presence = await within(onA.subscription.presence(), "presence");
seen.stats = await within(onB.subscription.presenceStats(), "presence stats");
seen.refused = await a.publish("news", {}).then(() => 0, (error) => error.code);
const nowhere = a.newSubscription("nowhere:x");
const turnedAway = new Promise((resolve) => nowhere.on("unsubscribed", (context) => resolve(context.code)));
nowhere.subscribe();
seen.unknown = await within(turnedAway, "answer about an unknown channel");
a.disconnect();
b.disconnect();
console.log(JSON.stringify(seen));
