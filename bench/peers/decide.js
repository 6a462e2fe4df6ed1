// rate-limiter-flexible over ioredis: the loop of deciders.py, for Node.
// node decide.js many|hot PORT CALLERS SECONDS; prints decisions per second.
//
// Its limiter for Redis counts fixed windows, one script call each. ioredis never waits for an answer before
// it writes the next command; enableAutoPipelining, which gathers those of one turn of the event loop first,
// is no faster here (PIPELINING=1 turns it on).
"use strict";

const Redis = require("ioredis");
const { RateLimiterRedis } = require("rate-limiter-flexible");

const HOT = process.argv[2] === "hot";
const [port, callers, seconds] = process.argv.slice(3).map(Number);
const KEYS = Array.from({ length: HOT ? 100 : 10000 }, (_, number) => `user-${String(number).padStart(5, "0")}`);
const WARM_UP_S = 1;
const pause = (wait) => new Promise((resolve) => setTimeout(resolve, wait * 1000));

async function main() {
  const client = new Redis({ host: "127.0.0.1", port, enableAutoPipelining: process.env.PIPELINING === "1" });
  const limiter = new RateLimiterRedis({ storeClient: client, points: HOT ? 1000000 : 20000, duration: 3600 });
  await limiter.consume(KEYS[0]);
  let done = 0;
  let running = true;
  const caller = async (number) => {
    let at = Math.floor((number * KEYS.length) / callers);
    while (running) {
      await limiter.consume(KEYS[at]); // a refusal would reject, and end this
      at = at + 1 < KEYS.length ? at + 1 : 0;
      done += 1;
    }
  };
  const tasks = Array.from({ length: callers }, (_, number) => caller(number));
  await pause(WARM_UP_S);
  const before = done;
  const started = process.hrtime.bigint();
  await pause(seconds);
  const rate = (done - before) / (Number(process.hrtime.bigint() - started) / 1e9);
  running = false;
  await Promise.all(tasks);
  await client.quit();
  console.log(JSON.stringify(rate));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
